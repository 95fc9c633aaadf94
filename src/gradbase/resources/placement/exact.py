"""Depth-first search for a placement within a capacity: memory, restarts, slices of time."""

from __future__ import annotations

import time
from collections.abc import Generator

import numpy as np
from numpy.typing import NDArray

from gradbase.resources.placement.greedy import keys, order_by
from gradbase.resources.placement.problem import Problem

Ints = NDArray[np.int64]

# Kept in memory: storages by section, and pairs that overlap (8 bytes each). Where nothing is
# compiled, what is larger has no hope anyway.
MOST_ENTRIES, MOST_UNCOMPILED = 30_000_000, 100_000
# A search hands back control this often, so that Ctrl-C and the time limit are heard.
SLICE_SECONDS = 0.05
# Values are tried in these orders, largest first, the later ones break ties.
ORDERS = (
    ("load", "area", "duration", "size"),
    ("load", "duration", "area", "size"),
    ("size", "load", "duration", "area"),
    ("duration", "area", "load", "size"),
    ("area", "load", "duration", "size"),
    ("size", "duration", "load", "area"),
)
TIES = 4
NOISE = 0.15


def most_entries() -> int:
    """What a search may hold."""
    from gradbase.resources.placement.machine import COMPILED

    return MOST_ENTRIES if COMPILED else MOST_UNCOMPILED


def entries(problem: Problem) -> int:
    """How many storages by section and overlapping pairs a search would hold."""
    if not len(problem):
        return 0
    live = problem.sums(problem.count, 1)
    begins = np.bincount(problem.first, minlength=problem.sections)
    begun = np.concatenate([[0], np.cumsum(np.tile(begins, 2))])
    later = begun[problem.first + problem.count] - begun[problem.first + 1]
    return int(problem.count.sum() + live[problem.first].sum() + later.sum())


class Descent:
    """A search over one problem, to be run many times.

    Outcomes of `run`: True (placed: `offsets`), False (none within the capacity: `need` is the
    least that may do), None (stopped at the limit of nodes).
    """

    def __init__(self, problem: Problem) -> None:
        from gradbase.resources.placement import deduction, descent, overlaps

        self._problem = problem
        self._begin, self._search, self._codes = deduction.reset, descent.search, deduction
        self._net = overlaps.network(problem)
        self._state = deduction.fresh(len(problem), problem.sections)
        self._keys = keys(problem)
        self._pace = 200

    def order(self, attempt: int, random: np.random.Generator) -> Ints:
        """Static order of an attempt: the first ones plain, the later ones with noise."""
        names = ORDERS[attempt % len(ORDERS)]
        if attempt < len(ORDERS):
            return order_by(self._keys, *names)
        noisy = {
            name: self._keys[name] * np.exp(random.normal(0, NOISE, len(self._problem)))
            for name in names
        }
        return order_by({**self._keys, **noisy}, *names)

    def run(
        self, order: Ints, capacity: int, nodes: int, tie: int
    ) -> Generator[None, None, bool | None]:
        """Search from the start, for a height of at most `capacity` granules above ground."""
        self._begin(self._net, self._state, order, capacity)
        return (yield from self.resume(capacity, nodes, tie))

    def resume(self, capacity: int, nodes: int, tie: int) -> Generator[None, None, bool | None]:
        """Go on where the last run stopped; `capacity` may have been raised."""
        codes, spent = self._codes, self.nodes
        last = spent + nodes
        while True:
            begin = time.perf_counter()
            outcome = self._search(
                self._net, self._state, capacity, min(self._pace, last - spent), tie
            )
            if outcome == codes.TRAIL_FULL:
                self._state = self._state._replace(trail=_doubled(self._state.trail))
            elif outcome == codes.STACK_FULL:
                self._state = self._state._replace(stack=_doubled(self._state.stack))
            elif outcome == codes.PAUSED:
                if self.nodes >= last:
                    return None
                self._set_pace(self.nodes - spent, time.perf_counter() - begin)
                yield
            else:
                return outcome == codes.SOLVED
            spent = self.nodes

    def _set_pace(self, nodes: int, seconds: float) -> None:
        per_second = max(nodes, 1) / max(seconds, 1e-6)
        self._pace = int(min(max(self._pace // 2, per_second * SLICE_SECONDS, 1), 2 * self._pace))

    @property
    def nodes(self) -> int:
        """Spent since the last start."""
        return int(self._state.control[self._codes.NODES])

    @property
    def need(self) -> int:
        """After a run that found nothing: no capacity below can do, granules above ground."""
        return int(self._state.control[self._codes.NEED])

    @property
    def offsets(self) -> Ints:
        """After a run that placed all: granules above ground."""
        return self._state.offset.copy()


def _doubled(rows: Ints) -> Ints:
    return np.concatenate([rows, np.zeros_like(rows)])
