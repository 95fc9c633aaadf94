"""Which storages live in which section and which overlap: what a search knows of its problem."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gradbase.resources.placement.machine import compiled, meet
from gradbase.resources.placement.problem import Problem

Ints = NDArray[np.int64]


class Net(NamedTuple):
    """What a search does not change; storages are 0..n-1, sections 0..m-1 of a circle.

    `live` lists the storages of each section in the order of `rank`, `near` those that overlap a
    storage; `twin` numbers the distinct lifetimes.
    """

    size: Ints
    first: Ints
    length: Ints
    twin: Ints
    rank: Ints
    live_start: Ints
    live: Ints
    near_start: Ints
    near: Ints


@compiled
def fill_live(first: Ints, count: Ints, order: Ints, live_start: Ints, live: Ints) -> None:
    """List the storages of each section in the given order."""
    sections = len(live_start) - 1
    end = live_start[:sections].copy()
    for i in order:
        s = first[i]
        for _ in range(count[i]):
            live[end[s]] = i
            end[s] += 1
            s += 1
            if s == sections:
                s = 0


@compiled
def neighbours(
    first: Ints, count: Ints, by_first: Ints, live_start: Ints, live: Ints
) -> tuple[Ints, Ints]:
    """Starts and members of the lists of overlapping storages: those live in its first section,
    and those that begin later in its life."""
    n, sections = len(first), len(live_start) - 1
    begin = np.zeros(sections + 1, np.int64)
    for i in range(n):
        begin[first[i] + 1] += 1
    for s in range(sections):
        begin[s + 1] += begin[s]
    start = np.zeros(n + 1, np.int64)
    near = np.empty(0, np.int64)
    for write in (False, True):
        k = 0
        for i in range(n):
            a = first[i]
            for q in range(live_start[a], live_start[a + 1]):
                if live[q] != i:
                    if write:
                        near[k] = live[q]
                    k += 1
            s = a
            for _ in range(count[i] - 1):
                s += 1
                if s == sections:
                    s = 0
                for q in range(begin[s], begin[s + 1]):
                    j = by_first[q]
                    if not meet(s, count[j], a, 1, sections):
                        if write:
                            near[k] = j
                        k += 1
            start[i + 1] = k
        if not write:
            near = np.empty(k, np.int64)
    return start, near


def network(problem: Problem) -> Net:
    """What a search knows of `problem`; ranks are set when it begins."""
    n, first, count = len(problem), problem.first, problem.count
    start = np.concatenate([[0], np.cumsum(problem.sums(count, 1))])
    live = np.empty(int(start[-1]), np.int64)
    fill_live(first, count, np.arange(n), start, live)
    near_start, near = neighbours(first, count, np.argsort(first), start, live)
    lives = np.stack([first, count])
    twin = np.unique(lives, axis=1, return_inverse=True)[1].astype(np.int64).reshape(n)
    rank = np.zeros(n, np.int64)
    return Net(problem.size, first, count, twin, rank, start, live, near_start, near)
