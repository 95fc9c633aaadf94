"""What no schedule of copies can do better."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from gradbase.resources.swapping.step import Gap, Step


def least_peak(step: Step) -> int:
    """Bytes below which the peak cannot be brought by copying without an operator waiting.

    In each slot no more can be away than the out stream could copy before it, working whenever
    there is something to copy, nor more than the in stream can bring back after it. Parts of
    storages count.

    Source: own.
    """
    low = int(step.least_load().max(initial=0))
    for slot in np.argsort(-step.load, kind="stable"):
        load = int(step.load[slot])
        if load <= low:
            break
        before, after = _around(step, int(slot))
        gone = _copied(before, int(step.starts[slot]))
        back = _copied(after, -int(step.starts[slot + 1]))
        low = max(low, int(np.ceil(load - min(gone, back))))
    return low


def least_stall(step: Step, limit: int) -> int:
    """Picoseconds that operators wait at least if the load stays within `limit` by copying alone.

    What is above the limit in a slot has to be copied out before it and back in after it. Copies
    that reach into a neighbouring iteration may hide behind one wait, so then the larger counts.

    Source: own.
    """
    least = 0
    wraps = any(g.need > step.slots for g in step.gaps)
    for slot in np.flatnonzero(step.load > limit):
        above = int(step.load[slot]) - limit
        before, after = _around(step, int(slot))
        out = _earliest(before, above) - int(step.starts[slot])
        back = _earliest(after, above) + int(step.starts[slot + 1])
        waits = max(out, 0), max(back, 0)
        least = max(least, max(waits) if wraps else sum(waits))
    return least


_Jobs = list[tuple[int, int, int]]  # (may begin at, picoseconds, bytes), in order of beginning


def _around(step: Step, slot: int) -> tuple[_Jobs, _Jobs]:
    """Copies out of all that may be away in `slot`, and copies in, in reversed time."""
    out: _Jobs = []
    back: _Jobs = []
    for gap, late in _over(step.gaps, slot, step.slots):
        begin = step.start_of(gap.first) - late * int(step.starts[-1])
        end = step.start_of(gap.need) - late * int(step.starts[-1])
        out.append((begin, gap.out_ticks, gap.size))
        back.append((-end, gap.in_ticks, gap.size))
    return sorted(out), sorted(back)


def _over(gaps: Iterable[Gap], slot: int, n: int) -> Iterable[tuple[Gap, int]]:
    """Gaps that cover `slot`; 1 for those that began in the iteration before, else 0."""
    for gap in gaps:
        for late in (0, 1):
            if gap.first <= slot + late * n < gap.need:
                yield gap, late


def _copied(jobs: _Jobs, until: int) -> float:
    """Most bytes that can be copied before `until`: the cheapest first, whenever one may begin."""
    busy, free = 0, None
    for begin, ticks, _ in jobs:
        start = begin if free is None else max(begin, free)
        free = start + ticks
        busy += max(0, min(free, until) - start)
    at_once, per_byte = _speed(jobs)
    total = sum(size for *_, size in jobs)
    return min(total, at_once + (busy / per_byte if per_byte else 0.0))


def _earliest(jobs: _Jobs, size: int) -> int:
    """Before which time `size` bytes cannot have been copied."""
    at_once, per_byte = _speed(jobs)
    rest, sooner = size - at_once, 0
    paid = [job for job in jobs if job[1]]
    if rest <= 0 or not paid:
        return -(2**62)
    least = paid[0][0]
    for begin, _, bytes_ in paid:
        if sooner < rest:
            least = max(least, begin + int((rest - sooner) * per_byte))
        sooner += bytes_
    return least


def _speed(jobs: _Jobs) -> tuple[int, float]:
    """Bytes that need no time, and the least picoseconds per byte of the others."""
    at_once = sum(size for _, ticks, size in jobs if not ticks)
    return at_once, min((ticks / size for _, ticks, size in jobs if ticks), default=0.0)
