"""One part of a problem, placed better and better: the order in which the methods take turns."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from gradbase.resources.placement.clock import Clock
from gradbase.resources.placement.exact import ORDERS as DESCENTS
from gradbase.resources.placement.exact import TIES, Descent, entries, most_entries
from gradbase.resources.placement.greedy import Greedy, keys, order_by
from gradbase.resources.placement.local import climb
from gradbase.resources.placement.problem import Problem

Ints = NDArray[np.int64]
Steps = Iterator[None]

# Greedy passes, the best first; above `MANY` storages a pass takes long, and only those marked run.
PASSES = (
    (("size",), False, True),
    (("area", "size"), False, True),
    (("duration", "size"), False, True),
    (("size",), True, False),
    (("load", "size"), False, False),
    (("start",), True, False),
    (("start",), False, False),
    (("area", "size"), True, False),
)
MANY = 20_000
SMALLEST_CORE = 8
# Seconds per entry that making a search takes.
MAKING = 3e-7
CLIMBS = 32
RESTARTS = 48


class Piece:
    """A part of a problem and the best placement of it so far.

    Heights are granules from the bottom, the part's ground included.
    """

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.bound = problem.lower_bound
        self.height, self.offset, self.method = -1, np.zeros(0, np.int64), ""
        self.fits = Greedy(problem)
        self.keys = keys(problem)

    def offer(self, offset: Ints, method: str) -> bool:
        """Keep offsets (granules above ground) that are lower than the best."""
        height = self.problem.ground + int((offset + self.problem.size).max())
        better = self.height < 0 or height < self.height
        if better:
            self.height, self.offset, self.method = height, offset, method
        return better

    def refine(self, method: str, goal: Callable[[], int], seed: int, clock: Clock) -> Steps:
        """Improve in short steps, as long as it is asked for more.

        Parameters
        ----------
        method : 'greedy', 'local', 'exact' or 'auto'
        goal : callable giving granules
            There is no use in being below.
        """
        yield from self._greedy(clock)
        random = np.random.default_rng(seed)
        if method == "local":
            yield from climb(self, random, clock)
        if method in ("exact", "auto"):
            yield from _Search(self, goal, random, clock).steps(mixed=method == "auto")

    def _greedy(self, clock: Clock) -> Steps:
        for names, best, always in PASSES:
            if not always and len(self.problem) > MANY:
                continue
            # The first pass is finished whatever the time: there has to be a plan.
            limit = None if self.height < 0 else clock
            offset = self.fits.fit(order_by(self.keys, *names), limit, best=best)
            if offset is None:
                return
            self.offer(offset, f"greedy by {names[0]}, {'best' if best else 'first'} fit")
            yield


class _Search:
    """Depth-first searches over all storages of a piece, or its largest, the others filled in."""

    def __init__(
        self, piece: Piece, goal: Callable[[], int], random: np.random.Generator, clock: Clock
    ) -> None:
        self._piece, self._goal, self._random, self._clock = piece, goal, random, clock
        self._n = len(piece.problem)

    def steps(self, *, mixed: bool) -> Steps:
        local = climb(self._piece, self._random, self._clock)
        whole = None
        if self._affordable(self._piece.problem):
            whole = Descent(self._piece.problem)
            yield from self._dives(whole, (0, 1), rising=False)
        for turn in itertools.count():
            if mixed:
                yield from self._cores(turn)
            if whole and turn == 0:
                yield from self._dives(whole, range(2, len(DESCENTS)), rising=False)
                yield from self._dives(whole, (0, 2), rising=True)
            if whole:
                yield from self._restarts(whole, turn)
            if mixed:
                yield from itertools.islice(local, CLIMBS)

    def _affordable(self, problem: Problem) -> bool:
        """Whether a search over it can be made, in memory and in the time that is left."""
        held = entries(problem)
        return held <= most_entries() and held * MAKING < self._clock.left()

    @property
    def _target(self) -> int:
        """The lowest height worth having, granules above ground."""
        return max(self._piece.bound, self._goal()) - self._piece.problem.ground

    @property
    def _bound(self) -> int:
        """No placement is lower, granules above ground."""
        return self._piece.bound - self._piece.problem.ground

    @property
    def _above(self) -> int:
        """The best height so far, granules above ground."""
        return self._piece.height - self._piece.problem.ground

    def _dives(self, descent: Descent, attempts: Iterable[int], *, rising: bool) -> Steps:
        """Plain orders; with `rising` the capacity is raised where the search gets stuck."""
        for attempt in attempts:
            # Tighter is often easier: every other one as low as can be.
            target = capacity = self._bound if attempt % 2 else self._target
            order = descent.order(attempt, self._random)
            found = yield from descent.run(order, capacity, 2 * self._n + 1000, 0)
            while rising and found is None and capacity < self._above - 1:
                capacity = min(capacity + max(1, (self._above - capacity) // 8), self._above - 1)
                found = yield from descent.resume(capacity, self._n, 0)
            yield from self._conclude(descent, found, proof=capacity == target)

    def _restarts(self, descent: Descent, turn: int) -> Steps:
        """Orders with noise, at the target, as low as can be, or below the best height so far."""
        part = 0.5
        for k in range(turn * RESTARTS, (turn + 1) * RESTARTS):
            again = k // len(DESCENTS) + 1
            order = descent.order(k + len(DESCENTS), self._random)
            capacity = self._target
            if k % 4 == 1:
                capacity = self._bound
            elif k % 4 == 3:
                capacity += int((self._above - 1 - capacity) * part)
            nodes = max(2000, self._n // 2) * luby(again)
            found = yield from descent.run(order, capacity, nodes, (k + again) % TIES)
            yield from self._conclude(descent, found, proof=True)
            if k % 4 == 3:
                part = 0.5 if found else (1 + part) / 2

    def _conclude(self, descent: Descent, found: bool | None, *, proof: bool) -> Steps:
        if found:
            self._piece.offer(descent.offsets, "exact search")
        elif found is False and proof:
            need = self._piece.problem.ground + descent.need
            self._piece.bound = min(max(self._piece.bound, need), self._piece.height)
        yield  # who has the next turn is decided here, not by the time that a search took

    def _cores(self, turn: int) -> Steps:
        """Search over the largest storages alone, then fit in the others."""
        problem = self._piece.problem
        for by in ("size", "area"):
            order = order_by(self._piece.keys, by)
            many = int(self._n * (self._random.uniform(0.5, 1) if turn else 0.5))
            while many >= SMALLEST_CORE:
                chosen = np.sort(order[:many])
                core = problem.part(chosen)
                if self._affordable(core):
                    yield from self._core(core, chosen, order, turn)
                many //= 2 if self._n < MANY else 4
                yield

    def _core(self, core: Problem, chosen: Ints, order: Ints, turn: int) -> Steps:
        descent = Descent(core)
        first = descent.order(turn, self._random)
        found = yield from descent.run(first, self._target, 2 * len(core) + 1000, turn % TIES)
        if not found:
            return
        offset = np.full(self._n, -1, np.int64)
        offset[chosen] = descent.offsets
        filled = self._piece.fits.fit(order, self._clock, core=offset)
        if filled is not None:
            self._piece.offer(filled, "exact search over the largest, then first fit")


def luby(k: int) -> int:
    """The k-th number (from 1) of 1, 1, 2, 1, 1, 2, 4, ...: how long restarts take.

    Source: Luby, Sinclair, Zuckerman, Information Processing Letters 47 (1993).
    """
    power = k.bit_length()
    return 1 << (power - 1) if k == (1 << power) - 1 else luby(k - (1 << (power - 1)) + 1)


def finished(piece: Piece, goal: int) -> bool:
    """Whether the piece need not, or cannot, become lower."""
    return 0 <= piece.height <= max(goal, piece.bound)
