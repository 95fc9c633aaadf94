"""Local search over the order in which storages are fitted in."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gradbase.resources.placement.clock import Clock
from gradbase.resources.placement.greedy import order_by

if TYPE_CHECKING:
    from gradbase.resources.placement.refine import Piece

Ints = NDArray[np.int64]

PATIENCE = 200


def climb(piece: Piece, random: np.random.Generator, clock: Clock) -> Iterator[None]:
    """Move storages that reach the top forward in the order, keep what is no worse.

    A move that leaves the height is judged by how many storages reach beyond the load that the
    piece cannot go below. After `PATIENCE` moves without progress a few random ones are kept.

    Source: own, after squeaky-wheel optimisation (Joslin and Clements, JAIR 10, 1999).
    """
    size = piece.problem.size
    limit = piece.bound - piece.problem.ground
    orders = [order_by(piece.keys, *names) for names in (("size",), ("area",), ("duration",))]
    turn, idle = 0, PATIENCE
    order, offset, worth = orders[0], np.zeros(0, np.int64), (0, 0)
    while True:
        if idle >= PATIENCE:
            order = _shuffled(orders[turn % 3], turn // 3, random)
            started = piece.fits.fit(order, clock)
            turn, idle = turn + 1, 0
            if started is None:
                yield
                continue
            offset, worth = started, _worth(started + size, limit)
            piece.offer(offset, "local search")
        moved = _promoted(order, offset + size, random)
        found = piece.fits.fit(moved, clock)
        idle += 1
        if found is not None and _worth(found + size, limit) <= worth:
            if _worth(found + size, limit) < worth:
                idle = 0
            order, offset, worth = moved, found, _worth(found + size, limit)
            piece.offer(offset, "local search")
        yield


def _worth(tops: Ints, limit: int) -> tuple[int, int]:
    return int(tops.max()), int(np.maximum(tops - limit, 0).sum())


def _promoted(order: Ints, tops: Ints, random: np.random.Generator) -> Ints:
    highest = np.flatnonzero(tops[order] == tops.max())
    at = int(random.choice(highest))
    to = int(at * random.random())
    return np.concatenate([order[:to], order[at : at + 1], order[to:at], order[at + 1 :]])


def _shuffled(order: Ints, swaps: int, random: np.random.Generator) -> Ints:
    order = order.copy()
    for _ in range(swaps):
        a, b = random.integers(0, len(order), 2)
        order[[a, b]] = order[[b, a]]
    return order
