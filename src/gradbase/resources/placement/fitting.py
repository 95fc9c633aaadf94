"""The compiled loop behind `greedy` (import it late: it loads numba)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gradbase.resources.placement.machine import compiled, inner, meet

Ints = NDArray[np.int64]


class Lives(NamedTuple):
    """Storages: sizes, lives as arcs of a circle, its number of sections."""

    size: Ints
    first: Ints
    length: Ints
    sections: int


class Shelf(NamedTuple):
    """What is placed already, by time, each list in the order of offsets.

    The circle is divided into blocks of at least `width` sections; a window is a block and the next
    one, so that a life of at most `width` sections lies in one. Longer lives look at everything
    placed; where these are more than few, there is one window of all sections.
    """

    width: int
    start: Ints
    used: Ints
    offset: Ints
    top: Ints
    first: Ints
    length: Ints


def shelf(first: Ints, count: Ints, sections: int) -> Shelf:
    """An empty shelf with room for all storages."""
    width = max(1, int(np.quantile(count, 0.97)))
    windows = sections // width
    if windows < 4:
        width, windows = sections, 1
    start = _room(first, count, sections, windows)
    return Shelf(
        width, start, np.zeros(windows, np.int64),
        *(np.zeros(int(start[-1]), np.int64) for _ in range(4)),
    )  # fmt: skip


@inner
def _span(first: int, count: int, sections: int, windows: int) -> tuple[int, int]:
    """(first window, how many) that share a section with a life."""
    if windows == 1:
        return 0, 1
    begin = first * windows // sections - 1
    return begin, min((first + count - 1) * windows // sections - begin + 1, windows)


@compiled
def _room(first: Ints, count: Ints, sections: int, windows: int) -> Ints:
    start = np.zeros(windows + 1, np.int64)
    for i in range(len(first)):
        begin, many = _span(first[i], count[i], sections, windows)
        for k in range(many):
            start[(begin + k) % windows + 1] += 1
    for w in range(windows):
        start[w + 1] += start[w]
    return start


@inner
def _insert(column: Ints, begin: int, end: int, value: int) -> None:
    for k in range(end, begin, -1):
        column[k] = column[k - 1]
    column[begin] = value


@inner
def _put(shelf: Shelf, offset: int, top: int, first: int, count: int, sections: int) -> None:  # noqa: PLR0917
    windows = len(shelf.used)
    begin, many = _span(first, count, sections, windows)
    for k in range(many):
        w = (begin + k) % windows
        a, e = shelf.start[w], shelf.start[w] + shelf.used[w]
        at, above = a, e
        while at < above:
            middle = (at + above) // 2
            if shelf.offset[middle] < offset:
                at = middle + 1
            else:
                above = middle
        _insert(shelf.offset, at, e, offset)
        _insert(shelf.top, at, e, top)
        _insert(shelf.first, at, e, first)
        _insert(shelf.length, at, e, count)
        shelf.used[w] += 1


@inner
def _hole_on(shelf: Shelf, size: int, first: int, count: int, sections: int, best: bool) -> int:  # noqa: PLR0917
    """Where a storage goes that one window knows all neighbours of."""
    w = first * len(shelf.used) // sections
    top, gap, found = 0, 1 << 62, -1
    for k in range(shelf.start[w], shelf.start[w] + shelf.used[w]):
        hole = shelf.offset[k] - top
        if hole >= size and not best:
            return top
        if shelf.top[k] > top and meet(first, count, shelf.first[k], shelf.length[k], sections):
            if size <= hole < gap:
                found, gap = top, hole
            top = shelf.top[k]
    return found if found >= 0 else top


@inner
def _sort(members: Ints, key: Ints) -> None:
    """In place, by Shell's method: NumPy's sorting takes seconds to compile."""
    gap = 1
    while gap < len(members):
        gap = 3 * gap + 1
    while gap > 0:
        for k in range(gap, len(members)):
            moved, at = members[k], k
            while at >= gap and key[members[at - gap]] > key[moved]:
                members[at] = members[at - gap]
                at -= gap
            members[at] = moved
        gap //= 3


@inner
def _hole_among(size: Ints, offset: Ints, near: Ints, wanted: int, best: bool) -> int:
    """Where a storage of `wanted` granules goes that overlaps those of `near`."""
    top, gap, found = 0, 1 << 62, -1
    _sort(near, offset)
    for j in near:
        hole = int(offset[j]) - top
        if hole >= wanted and not best:
            return top
        if wanted <= hole < gap:
            found, gap = top, hole
        top = max(top, int(offset[j] + size[j]))
    return found if found >= 0 else top


@compiled
def fit(  # noqa: PLR0917
    net: Lives, order: Ints, begin: int, end: int, best: bool, shelf: Shelf, offset: Ints
) -> None:
    """Place ``order[begin:end]`` in that order, after ``order[:begin]``.

    A storage takes the lowest hole that it fits in, or with `best` the smallest; above all where
    there is none. One whose `offset` is not negative lies there already.
    """
    size, first, count, sections = net
    hits = np.empty(end if len(shelf.used) > 1 else 0, np.int64)
    for q in range(begin, end):
        i = order[q]
        if offset[i] < 0:
            if len(shelf.used) == 1 or count[i] <= shelf.width:
                offset[i] = _hole_on(shelf, size[i], first[i], count[i], sections, best)
            else:
                many = 0
                for j in order[:q]:
                    if meet(first[i], count[i], first[j], count[j], sections):
                        hits[many] = j
                        many += 1
                offset[i] = _hole_among(size, offset, hits[:many], size[i], best)
        _put(shelf, offset[i], offset[i] + size[i], first[i], count[i], sections)
