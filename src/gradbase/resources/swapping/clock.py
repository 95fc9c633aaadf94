"""What a schedule costs: a virtual clock with one compute stream and two serial copy streams."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gradbase.resources.swapping.step import Step


@dataclass(frozen=True)
class Absence:
    """A storage that leaves after an access and is back for the next.

    Parameters
    ----------
    gap : int
        Index of the gap in the step.
    size : int, bytes
    first, need : int
        First slot in which it may be away and the slot that needs it again. The latter may be
        earlier than the gap's end: another storage's recomputation can need it before.
    out_ticks, in_ticks : int, picoseconds
        Of the copies; 0 and 0 where it is recomputed.
    returns : bool
        Whether it comes back.
    recomputed : bool
        Dropped and computed again instead of copied.
    replay_ticks : int, picoseconds
        Computing it again.
    extra : int, bytes
        That the recomputation needs in slot `need` besides.
    """

    gap: int
    size: int
    first: int
    need: int
    out_ticks: int
    in_ticks: int
    returns: bool = True
    recomputed: bool = False
    replay_ticks: int = 0
    extra: int = 0

    def crosses(self, slots: int) -> bool:
        """Whether it reaches into the next of iterations of `slots` slots."""
        return self.need > slots or (self.need == slots and self.returns)


class Window(NamedTuple):
    """An absence with its slots: memory is free in [release, fetch)."""

    absence: Absence
    release: int
    fetch: int


class Copy(NamedTuple):
    """One transfer of the virtual clock, in picoseconds since the start of its iteration."""

    gap: int
    direction: Literal["out", "in"]
    start: int
    end: int


@dataclass(frozen=True)
class Run:
    """An iteration in the steady state.

    Parameters
    ----------
    stall_ticks, replay_ticks : int, picoseconds
        Waiting for copies, and computing again what was dropped.
    copies : tuple of Copy
    """

    stall_ticks: int
    replay_ticks: int
    copies: tuple[Copy, ...]

    @property
    def overhead_ticks(self) -> int:
        """Stalls and recomputation together, picoseconds."""
        return self.stall_ticks + self.replay_ticks


class Clock:
    """Runs windows as written, iteration by iteration.

    At the start of a slot, in this order: copies out of what was last used begin; memory to be
    released waits for its copy; copies in begin; what the slot needs is waited for; what was
    dropped is computed again.
    """

    def __init__(self, step: Step, windows: Sequence[Window]) -> None:
        self._step, self._windows = step, windows
        self._out_free = self._in_free = self._now = 0
        self._out_end = [0] * len(windows)
        self._in_end = [0] * len(windows)
        absences = [w.absence for w in windows]
        self._leave = self._by_slot([(a.first, a.first, a.gap) for a in absences])
        self._release = self._by_slot([(w.release, 0, 0) for w in windows])
        self._fetch = self._by_slot([(w.fetch, w.absence.need, w.absence.gap) for w in windows])
        self._need = self._by_slot([(a.need, a.need, a.gap) for a in absences])
        self._events = sorted({*self._leave, *self._release, *self._fetch, *self._need})

    def _by_slot(self, keys: list[tuple[int, int, int]]) -> dict[int, list[int]]:
        """Windows by the slot that begins their key, modulo n; each list in order of keys."""
        found: dict[int, list[int]] = defaultdict(list)
        for i in sorted(range(len(keys)), key=keys.__getitem__):
            found[keys[i][0] % self._step.slots].append(i)
        return found

    def run(self) -> Run:
        """The first iteration that is as the one before."""
        crossing = any(w.absence.crosses(self._step.slots) for w in self._windows)
        before, state = self._iteration(), self._state()
        for _ in range(8 * crossing):
            now, after = self._iteration(), self._state()
            if (now.overhead_ticks, after) == (before.overhead_ticks, state):
                return now
            before, state = now, after
        return before

    def _state(self) -> tuple[int, int]:
        return max(0, self._out_free - self._now), max(0, self._in_free - self._now)

    def _iteration(self) -> Run:
        begin, stall, replay = self._now, 0, 0
        copies: list[Copy] = []
        for slot in self._events:
            ready = begin + int(self._step.starts[slot]) + stall + replay
            now = ready
            for i in self._leave.get(slot, ()):
                self._copy_out(i, ready, begin, copies)
            for i in self._release.get(slot, ()):
                now = max(now, self._out_end[i])
            for i in self._fetch.get(slot, ()):
                self._copy_in(i, now, begin, copies)
            for i in self._need.get(slot, ()):
                now = max(now, self._in_end[i])
            stall += now - ready
            replay += sum(self._windows[i].absence.replay_ticks for i in self._need.get(slot, ()))
        self._now = begin + int(self._step.starts[-1]) + stall + replay
        return Run(stall, replay, tuple(copies))

    def _copy_out(self, i: int, ready: int, begin: int, copies: list[Copy]) -> None:
        absence = self._windows[i].absence
        if absence.recomputed:
            self._out_end[i] = ready
            return
        start = max(ready, self._out_free)
        self._out_free = self._out_end[i] = start + absence.out_ticks
        copies.append(Copy(absence.gap, "out", start - begin, self._out_end[i] - begin))

    def _copy_in(self, i: int, now: int, begin: int, copies: list[Copy]) -> None:
        absence = self._windows[i].absence
        if not absence.returns or absence.recomputed:
            self._in_end[i] = now
            return
        start = max(now, self._in_free)
        self._in_free = self._in_end[i] = start + absence.in_ticks
        copies.append(Copy(absence.gap, "in", start - begin, self._in_end[i] - begin))


def load_of(step: Step, windows: Sequence[Window]) -> NDArray[np.int64]:
    """Bytes in memory during each slot: int64[n]."""
    absent = step.absent(
        [w.absence.size for w in windows], [w.release for w in windows], [w.fetch for w in windows]
    )
    load = step.load - absent
    for w in windows:
        load[w.absence.need % step.slots] += w.absence.extra
    return load
