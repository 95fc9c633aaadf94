"""Which storages should leave first: the scores of AutoSwap, and selecting by them.

With t in seconds, S bytes, gap [a, b) and memory limit L:

- DOA, duration of absence: t(b) - t(a) - t_out(S) - t_in(S)
- AOA, area of absence: DOA * S, or DOA / S where DOA is negative
- WDOA, weighted DOA: sum over operations i in [a, b) of load(i) - L
- SWDOA, submodular WDOA: WDOA on the load that is left after what was selected before

Source: AutoSwap (arXiv 1903.06631).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from gradbase.resources.swapping.step import Gap, Step

Floats = NDArray[np.float64]
Score = Callable[[Step, Sequence[Gap], NDArray[np.int64], int], Floats]


def doa(step: Step, gaps: Sequence[Gap], load: NDArray[np.int64], limit: int) -> Floats:
    """Duration of absence, picoseconds: what is left of the gap after both copies."""
    del load, limit
    durations = [
        step.start_of(g.need) - step.start_of(g.first) - g.out_ticks - g.in_ticks for g in gaps
    ]
    return np.array(durations, float)


def aoa(step: Step, gaps: Sequence[Gap], load: NDArray[np.int64], limit: int) -> Floats:
    """Area of absence, bytes x picoseconds; a negative DOA is divided by the size instead."""
    duration = doa(step, gaps, load, limit)
    size = np.array([g.size for g in gaps], float)
    return np.where(duration >= 0, duration * size, duration / size)


def wdoa(step: Step, gaps: Sequence[Gap], load: NDArray[np.int64], limit: int) -> Floats:
    """Sum over the operations from a until before b of load - limit, bytes."""
    del step
    return _sums(load - limit, *_bounds(gaps))


def _bounds(gaps: Sequence[Gap]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    return np.array([g.first - 1 for g in gaps], int), np.array([g.need for g in gaps], int)


def _sums(values: NDArray[np.int64], begin: NDArray[np.int64], end: NDArray[np.int64]) -> Floats:
    total = np.concatenate(([0], np.cumsum(np.tile(values, 3))))
    return (total[end] - total[begin]).astype(float)


SCORES: Mapping[str, Score] = {"doa": doa, "aoa": aoa, "wdoa": wdoa, "swdoa": wdoa}


def ranks(values: Floats) -> Floats:
    """Ranks from 0 (least) to 1 (most); equal values share their mean rank."""
    if len(values) < 2:
        return np.zeros(len(values))
    _, group, counts = np.unique(values, return_inverse=True, return_counts=True)
    mean = np.cumsum(counts) - (counts + 1) / 2
    return mean[group] / (len(values) - 1)


def select(step: Step, limit: int, weights: Mapping[str, float]) -> list[int] | None:
    """Gaps, best first, until the load with them away in full is within the limit.

    The rank of a gap is the sum of the ranks of its scores times `weights`; SWDOA is ranked anew
    after each selection. Ties go to the larger, then the earlier gap.

    Returns
    -------
    list of int or None
        Indices of gaps; None where all of them are not enough.
    """
    left = np.array(sorted(step.across(limit), key=lambda i: (-step.gaps[i].size, i)), int)
    gaps = [step.gaps[i] for i in left]
    fixed = np.zeros(len(left))
    for name, weight in weights.items():
        if name != "swdoa" and weight:
            fixed += weight * ranks(SCORES[name](step, gaps, step.load, limit))
    begin, end = _bounds(gaps)
    anew, load = weights.get("swdoa", 0.0), step.load.copy()
    chosen: list[int] = []
    while load.max(initial=0) > limit:
        if not len(left):
            return None
        total = fixed
        if anew:
            total = fixed + anew * ranks(_sums(load - limit, begin, end))
        best = int(total.argmax())  # the first of equals
        chosen.append(int(left[best]))
        gap = step.gaps[chosen[-1]]
        load -= step.absent([gap.size], [gap.first], [gap.need])
        left, begin, end = (np.delete(a, best) for a in (left, begin, end))
        fixed = np.delete(fixed, best)
    return chosen
