"""Copies that keep the load within a limit, making operators wait where that is needed."""

from __future__ import annotations

import bisect
from collections import defaultdict, deque
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from gradbase.resources.swapping.clock import Absence, Clock, Window, load_of
from gradbase.resources.swapping.step import Step
from gradbase.resources.swapping.unhindered import latest_copies_in

_Instance = tuple[int, int]  # an absence and the iteration in which it begins
_NEVER = 2**62


def limited(step: Step, absences: Sequence[Absence], limit: int) -> tuple[list[Window], int] | None:
    """Windows under which no slot's load is above `limit` bytes, waiting as little as is seen.

    Forward in time: memory is released when its copy out has ended, or waited for when a slot
    needs it. The next copy in begins in the slot in which it must begin to be in time, or, where
    its bytes would not fit until its use, in the first from which they do.

    Returns
    -------
    (list of Window, int) or None
        With the overhead in picoseconds; None where the absences are not enough for the limit.

    Source: AutoSwap (arXiv 1903.06631), mode "stick to the limit"; the look ahead is our own.
    """
    crossing = any(a.crosses(step.slots) for a in absences)
    walk = _Walk(step, absences, limit, 3 if crossing else 1)
    if walk.base.max(initial=0) > limit:
        return None
    walk.run()
    windows = walk.windows(int(crossing))
    if not crossing and not walk.useless:
        return windows, walk.now - int(step.starts[-1])
    if load_of(step, windows).max(initial=0) > limit:
        return None  # iterations differ, so there is no schedule for all of them
    return windows, Clock(step, windows).run().overhead_ticks


def least_load(step: Step, absences: Sequence[Absence]) -> NDArray[np.int64]:
    """Bytes in each slot when every absence lasts as long as it may: int64[n]."""
    load = step.load - step.absent(
        [a.size for a in absences], [a.first for a in absences], [a.need for a in absences]
    )
    for a in absences:
        load[a.need % step.slots] += a.extra
    return load


class _Walk:
    """The forward pass over one or more iterations; its slots are numbered through."""

    def __init__(self, step: Step, absences: Sequence[Absence], limit: int, rounds: int) -> None:
        self._step, self._absences, self._limit = step, absences, limit
        n = step.slots
        # Bytes in each slot of what is never away; `_planned` also of what is back before its need.
        self.base = least_load(step, absences)
        self._planned = np.tile(self.base, rounds + 1)
        self._starts: list[int] = step.long_starts[: rounds * n + 1].tolist()
        begins = latest_copies_in(step, absences)
        latest = np.searchsorted(step.long_starts, begins, side="right") - 1
        self._leaving: dict[int, list[_Instance]] = defaultdict(list)
        returns: list[tuple[int, int, int, _Instance]] = []
        for i in sorted(range(len(absences)), key=lambda i: (absences[i].first, absences[i].gap)):
            a = absences[i]
            early = a.need if a.recomputed or not a.returns else min(int(latest[i]), a.need)
            for k in range(-1, rounds):
                if k >= 0 and a.first + k * n < rounds * n:
                    self._leaving[a.first + k * n].append((i, k))
                if 0 <= a.need + k * n < rounds * n:
                    returns.append((a.need + k * n, a.gap, early + k * n, (i, k)))
        self._returns = deque(sorted(returns))
        self._leaves = sorted(self._leaving)
        self.now, self._out_free, self._in_free = 0, 0, 0
        self._pending: deque[tuple[int, _Instance]] = deque()  # (when copied, what), in order
        self._pending_bytes = 0
        self._released: dict[_Instance, int] = {}
        self._fetched: dict[_Instance, int] = {}
        self._arrivals: dict[int, int] = {}  # when what a slot needs has been copied
        self.useless = False

    def run(self) -> None:
        """Enter the slots in which something may happen, one after the other."""
        slot, end = 0, len(self._starts) - 1
        while slot < end:
            self._enter(slot)
            following = min(self._next(slot), end)
            self.now += self._starts[following] - self._starts[slot]
            slot = following

    def _next(self, slot: int) -> int:
        if self._pending:
            return slot + 1
        place = bisect.bisect_right(self._leaves, slot)
        leave = self._leaves[place] if place < len(self._leaves) else _NEVER
        come = max(self._returns[0][2], slot + 1) if self._returns else _NEVER
        return min(leave, come, min(self._arrivals, default=_NEVER))

    def _enter(self, slot: int) -> None:
        """Copies that begin, end or are waited for before `slot` computes."""
        for instance in self._leaving.get(slot, ()):
            self._leave(slot, instance)
        pending = self._pending
        while pending and (pending[0][0] <= self.now or self._exceeds(slot, 0)):
            self.now = max(self.now, pending[0][0])
            _, instance = pending.popleft()
            self._pending_bytes -= self._absences[instance[0]].size
            self._released[instance] = slot
        while self._returns and self._come_back(slot):
            self._returns.popleft()
        if slot in self._arrivals:
            self.now = max(self.now, self._arrivals.pop(slot))

    def _exceeds(self, slot: int, more: int) -> bool:
        return self._planned.item(slot) + self._pending_bytes + more > self._limit

    def _leave(self, slot: int, instance: _Instance) -> None:
        a = self._absences[instance[0]]
        if a.recomputed:
            self._released[instance] = slot
            return
        self._out_free = max(self.now, self._out_free) + a.out_ticks
        self._pending.append((self._out_free, instance))
        self._pending_bytes += a.size

    def _come_back(self, slot: int) -> bool:
        """Begin the next return if it is due; False where it waits for a later slot."""
        need, _, early, instance = self._returns[0]
        a = self._absences[instance[0]]
        if need > slot and (early > slot or not self._may_begin(slot, need, instance)):
            return False
        if instance not in self._released and instance[1] >= 0:
            # Needed before its copy out has ended: it never left, and the copy was for nothing.
            self._pending = deque(p for p in self._pending if p[1] != instance)
            self._pending_bytes -= a.size
            self.useless = True
            return True
        self._fetched[instance] = slot
        self._planned[slot:need] += a.size
        if a.recomputed:
            self.now += a.replay_ticks
        elif a.returns:
            self._in_free = max(self.now, self._in_free) + a.in_ticks
            self._arrivals[need] = self._in_free
        return True

    def _may_begin(self, slot: int, need: int, instance: _Instance) -> bool:
        """Whether a copy in may begin before its storage is needed: stream and memory are free."""
        size = self._absences[instance[0]].size
        if instance[1] >= 0 and instance not in self._released:
            return False
        if self._in_free >= self.now + self._starts[slot + 1] - self._starts[slot]:
            return False
        if self._exceeds(slot, size):
            return False
        return int(self._planned[slot:need].max()) + size <= self._limit

    def windows(self, iteration: int) -> list[Window]:
        """What was decided for the absences that began in `iteration`."""
        found: list[Window] = []
        back = iteration * self._step.slots
        for i, a in enumerate(self._absences):
            release = self._released.get((i, iteration))
            # What is freed with the iteration does not come back within it.
            fetch = self._fetched.get((i, iteration), a.need + back)
            if release is not None and fetch > release:
                found.append(Window(a, release - back, fetch - back))
        return found
