"""Depth-first search for a placement within a capacity: memory, restarts, slices of time."""

from __future__ import annotations

from collections.abc import Generator

import numpy as np
from numpy.typing import NDArray

from gradbase.resources.placement.greedy import keys, order_by
from gradbase.resources.placement.problem import Problem

Ints = NDArray[np.int64]

# Kept in memory: storages by section, and pairs that overlap (8 bytes each). Where nothing is
# compiled, what is larger has no hope anyway.
MOST_ENTRIES, MOST_UNCOMPILED = 30_000_000, 100_000
# After so much work, a few hundredths of a second, Ctrl-C and the time limit are heard.
SLICE, SLICE_UNCOMPILED = 5_000_000, 50_000
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
        from gradbase.resources.placement import deduction, descent, machine, overlaps

        self._problem = problem
        self._begin, self._search, self._codes = deduction.reset, descent.search, deduction
        self._net = overlaps.network(problem)
        self._state = deduction.fresh(len(problem), problem.sections)
        self._keys = keys(problem)
        self._slice = SLICE if machine.COMPILED else SLICE_UNCOMPILED

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
        codes, last = self._codes, self.nodes + nodes
        while True:
            stop = int(self._state.control[codes.WORK]) + self._slice
            outcome = self._search(self._net, self._state, capacity, last, stop, tie)
            if outcome == codes.TRAIL_FULL:
                self._state = self._state._replace(trail=_doubled(self._state.trail))
            elif outcome == codes.STACK_FULL:
                self._state = self._state._replace(stack=_doubled(self._state.stack))
            elif outcome != codes.PAUSED:
                return outcome == codes.SOLVED
            elif self.nodes >= last:
                return None
            else:
                yield

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
