"""One iteration of a training step as arrays, with the gaps in which a storage may be away.

Time inside the planner is integer picoseconds, so that a schedule is exact: no stall and a stall of
a rounding error are different things.

A *slot* is one operation (or, after `Step.coarse`, a run of operations); slot ``n + i`` is slot `i`
of the next iteration. Copies start, and memory changes hands, at the start of a slot only: that is
where an executor can act, and the load of a slot is then one number.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from gradbase.resources.lifetimes import Trace
from gradbase.resources.swapping.link import Link

TICKS_PER_S = 1e12


@dataclass(frozen=True)
class Gap:
    """From one access of a storage to the next: the time in which its bytes may be elsewhere.

    Parameters
    ----------
    storage : int
        Its id.
    size : int, bytes
    first : int
        First slot in which it may be away (the one after the access), ``1 <= first <= n``.
    need : int
        Slot that uses it again, ``need > first``; ``need >= n`` in the next iteration.
    returns : bool
        False where nobody uses it again: `need` is where it is freed, and nothing is copied back.
    out_ticks, in_ticks : int, picoseconds
        Of the two copies.
    """

    storage: int
    size: int
    first: int
    need: int
    returns: bool
    out_ticks: int
    in_ticks: int

    def covers(self, slot: int, slots: int) -> bool:
        """Whether it may be away in `slot` of an iteration of `slots`."""
        return self.first <= slot < self.need or self.first <= slot + slots < self.need


@dataclass(frozen=True, eq=False)
class Step:
    """An iteration of n slots.

    Parameters
    ----------
    ticks : int64[n], picoseconds
        How long each slot computes.
    load : int64[n], bytes
        What is in memory during each slot when nothing is ever away.
    gaps : tuple of Gap
    begins : int64[n]
        Of a coarse step, where its slots begin in the finer one.
    """

    ticks: NDArray[np.int64]
    load: NDArray[np.int64]
    gaps: tuple[Gap, ...]
    begins: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))

    @property
    def slots(self) -> int:
        """n."""
        return len(self.ticks)

    @functools.cached_property
    def starts(self) -> NDArray[np.int64]:
        """When each slot of one iteration would start without stalls, and its end: int64[n + 1]."""
        return np.concatenate(([0], np.cumsum(self.ticks)))

    @functools.cached_property
    def long_starts(self) -> NDArray[np.int64]:
        """`starts` over four iterations and the end: int64[4n + 1]."""
        total, begin = self.starts[-1], self.starts[:-1]
        return np.concatenate([*(begin + k * total for k in range(4)), [4 * total]])

    def start_of(self, slot: int) -> int:
        """When `slot` (of this or a later iteration) would start without stalls."""
        iteration, within = divmod(slot, self.slots)
        return int(self.starts[within] + iteration * self.starts[-1])

    def absent(
        self, sizes: Sequence[int], first: Sequence[int], until: Sequence[int]
    ) -> NDArray[np.int64]:
        """Bytes away in each slot when ``sizes[i]`` is away in [first[i], until[i]): int64[n]."""
        n = self.slots
        long = max(until, default=0) // n + 1
        change = np.zeros(long * n + 1, np.int64)
        np.add.at(change, np.asarray(first, np.int64), np.asarray(sizes, np.int64))
        np.subtract.at(change, np.asarray(until, np.int64), np.asarray(sizes, np.int64))
        return np.cumsum(change[:-1]).reshape(long, n).sum(axis=0)

    def least_load(self) -> NDArray[np.int64]:
        """Load when every gap is used in full: int64[n]."""
        gaps = self.gaps
        return self.load - self.absent(
            [g.size for g in gaps], [g.first for g in gaps], [g.need for g in gaps]
        )

    def across(self, limit: int) -> list[int]:
        """Indices of the gaps that cover a slot whose load is above `limit`."""
        above = np.concatenate(([0], np.cumsum(np.tile(self.load > limit, 4))))
        return [i for i, g in enumerate(self.gaps) if above[g.need] > above[g.first]]

    def of(self, wanted: Callable[[Gap], bool]) -> Step:
        """The step with those of its gaps that are wanted."""
        return replace(self, gaps=tuple(g for g in self.gaps if wanted(g)))

    def coarse(self, most: int) -> Step:
        """About `most` slots: merged where no gap begins or ends; loads are the largest in each.

        What fits here fits in the finer step; only the moments of copies are rounded.
        """
        n = self.slots
        edges = {0, n}
        for g in self.gaps:
            edges |= {g.first % n, g.need % n}
        longest = self.starts[-1] // max(most, 1)
        begins, began = [0], 0
        for slot in range(1, n):
            if slot in edges or self.starts[slot + 1] - self.starts[began] > longest:
                begins.append(slot)
                began = slot
        where = np.array(begins)
        place = np.searchsorted(where, np.arange(n), side="right") - 1

        def moved(slot: int) -> int:
            return int(slot // n * len(where) + place[slot % n])

        gaps = (replace(g, first=moved(g.first), need=moved(g.need)) for g in self.gaps)
        return Step(
            np.add.reduceat(self.ticks, where),
            np.maximum.reduceat(self.load, where),
            tuple(gaps),
            where,
        )


def step_of(trace: Trace, link: Link, *, min_bytes: int, persistent: bool) -> Step:
    """The step of a trace, with every gap of at least `min_bytes`.

    `persistent` says whether storages that all iterations share may leave too (between the last
    access of an iteration and the first of the next as well). Storages that live longer than an
    iteration stay.
    """
    ticks = [round(o.seconds * TICKS_PER_S) for o in trace.operations]
    used: dict[int, set[int]] = {s.id: set() for s in trace.storages}
    for access in trace.accesses:
        used[access.storage].add(access.operation)
    gaps: list[Gap] = []
    for s in trace.storages:
        times = sorted(used[s.id])
        stays = (s.persistent and not persistent) or s.freed - s.allocated > trace.period
        if s.size < max(min_bytes, 1) or not times or stays:
            continue
        last = (times[0] + trace.period, True) if s.persistent else (s.freed, False)
        if not s.persistent:
            times = sorted({s.allocated, *times})
        ends = [(b, True) for b in times[1:]] + [last]
        for a, (need, returns) in zip(times, ends, strict=True):
            if need - a > 1:
                back = -(a // trace.period) * trace.period
                seconds = link.out_s(s.size), link.in_s(s.size)
                out, into = (round(t * TICKS_PER_S) for t in seconds)
                gaps.append(
                    Gap(s.id, s.size, a + 1 + back, need + back, returns, out, into * returns)
                )
    gaps.sort(key=lambda g: (g.first, -g.size, g.storage))
    return Step(np.array(ticks, np.int64), trace.load(), tuple(gaps))
