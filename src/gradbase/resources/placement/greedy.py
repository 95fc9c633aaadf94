"""Placing one storage after the other, each in a hole between those that are there already.

Source: first and best fit in the order of sizes as in SmartPool (arXiv 1903.06631), section 3;
the other orders are own.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gradbase.resources.placement.clock import Clock
from gradbase.resources.placement.problem import Problem

Ints = NDArray[np.int64]

ORDERS = ("size", "area", "duration", "load", "start")
CHUNK = 2048


def keys(problem: Problem) -> dict[str, Ints]:
    """By what storages are sorted, the largest first: each int64[n]."""
    load = problem.load()
    reach = np.concatenate([load, load])
    return {
        "size": problem.size,
        "area": problem.size * problem.count,
        "duration": problem.count,
        "load": _window_max(reach, problem.first, problem.count),
        "start": -problem.first,
    }


def order_by(of: dict[str, Ints], *names: str) -> Ints:
    """Positions, the largest of the first key first; ties by the next, at last by start."""
    return np.lexsort([-of[name] for name in reversed((*names, "start"))])


def _window_max(values: Ints, first: Ints, count: Ints) -> Ints:
    """Largest of ``values[first : first + count]`` for each pair, from maxima of powers of two."""
    result = np.zeros(len(first), values.dtype)
    level, width = values, 1
    while len(first) and width <= int(count.max()):
        mine = (count >= width) & (count < 2 * width)
        a, b = first[mine], (first + count)[mine] - width
        result[mine] = np.maximum(level[a], level[b])
        level, width = np.maximum(level[: len(level) - width], level[width:]), 2 * width
    return result


class Greedy:
    """Fits in any order, compiled where numba is installed and with NumPy elsewhere."""

    def __init__(self, problem: Problem) -> None:
        from gradbase.resources.placement.machine import COMPILED

        self._problem, self._compiled = problem, COMPILED
        if COMPILED:
            from gradbase.resources.placement.fitting import Lives, shelf

            self._lives = Lives(problem.size, problem.first, problem.count, problem.sections)
            self._shelf = shelf(problem.first, problem.count, problem.sections)

    def fit(
        self,
        order: Ints,
        clock: Clock | None = None,
        *,
        best: bool = False,
        core: Ints | None = None,
    ) -> Ints | None:
        """Offsets, granules above ground: int64[n]; None where `clock` runs out before.

        Parameters
        ----------
        best : bool
            The smallest hole rather than the lowest.
        core : int64[n], granules
            Offsets of storages that lie there already, -1 for the others.
        """
        offset = np.full(len(order), -1, np.int64) if core is None else core.copy()
        if core is not None:
            there = offset[order] >= 0
            order = np.concatenate([order[there], order[~there]])
        if self._compiled:
            self._shelf.used[:] = 0
        for begin in range(0, len(order), CHUNK):
            if clock is not None and clock.expired():
                return None
            self._part(order, begin, min(begin + CHUNK, len(order)), best, offset)
        return offset

    def _part(self, order: Ints, begin: int, end: int, best: bool, offset: Ints) -> None:
        if self._compiled:
            from gradbase.resources.placement.fitting import fit

            fit(self._lives, order, begin, end, best, self._shelf, offset)
            return
        for q in range(begin, end):
            if offset[order[q]] < 0:
                offset[order[q]] = self._hole(order[q], order[:q], offset, best)

    def _hole(self, i: int, placed: Ints, offset: Ints, best: bool) -> int:
        p = self._problem
        ahead = (p.first[placed] - p.first[i]) % p.sections
        near = placed[(ahead < p.count[i]) | ((ahead > 0) & (p.sections - ahead < p.count[placed]))]
        near = near[np.argsort(offset[near], kind="stable")]
        tops = np.maximum.accumulate(np.concatenate([[0], (offset + p.size)[near]]))
        holes = offset[near] - tops[:-1]
        usable = np.flatnonzero(holes >= p.size[i])
        if not len(usable):
            return int(tops[-1])
        return int(tops[usable[np.argmin(holes[usable])] if best else usable[0]])
