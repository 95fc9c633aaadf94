"""Placing a whole problem: its parts, the highest first, until time or work runs out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gradbase.resources.placement.clock import Clock
from gradbase.resources.placement.problem import Problem, pieces
from gradbase.resources.placement.refine import Piece, finished

Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Found:
    """A placement: offsets int64[n], height and bound in granules, what found the last part."""

    offset: Ints
    height: int
    bound: int
    method: str


def best_placement(problem: Problem, method: str, goal: int, seed: int, clock: Clock) -> Found:
    """The lowest placement found until the clock runs out, or one not above `goal` granules.

    Parts differ in how hard they are; only the highest matters, so it has each next step.
    """
    offset = np.zeros(len(problem), np.int64)
    parts = [Piece(p) for p in pieces(problem, offset)]
    bottom = np.ones(len(problem), bool)
    for part in parts:
        bottom[part.problem.ids] = False
    floor = int((offset + problem.size)[bottom].max(initial=0))

    def lowest() -> int:
        return max(goal, floor, *(part.bound for part in parts))

    steps = [part.refine(method, lowest, seed, clock) for part in parts]
    for step in steps:  # a first placement of every part
        next(step)
    working = set(range(len(parts)))
    while parts and not clock.expired():
        k = max(range(len(parts)), key=lambda k: parts[k].height)
        if k not in working or finished(parts[k], lowest()):
            break
        if next(steps[k], "done") == "done":
            working.discard(k)
    for part in parts:
        offset[part.problem.ids] = part.problem.ground + part.offset
    height = max([floor, *(part.height for part in parts)])
    highest = max(parts, key=lambda part: part.height, default=None)
    by = highest.method if highest and highest.height > floor else "stacking"
    return Found(offset, height, max([floor, *(part.bound for part in parts)]), by)
