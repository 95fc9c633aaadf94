"""Lifetimes as arrays: what every way to place works on.

Only which storages overlap matters, so time is cut into the *sections* with the largest sets of
storages alive at once (every pair that overlaps meets in one of them), numbered around a circle. A
storage lives in `count` sections from `first` on. Sizes are in granules: bytes over their greatest
common divisor. A set that ends at one moment and begins at another is a circle nobody closes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]

ROUNDS = 64


@dataclass(frozen=True, eq=False)
class Problem:
    """Storages to be placed from `ground` upwards.

    Parameters
    ----------
    ids : int64[n]
        Which storages, as numbers of the caller.
    size : int64[n], granules
    first, count : int64[n]
        Sections of its life: first, first + 1, ..., modulo `sections`.
    sections : int
    ground : int, granules
        What lies below is taken.
    """

    ids: Ints
    size: Ints
    first: Ints
    count: Ints
    sections: int
    ground: int = 0

    def __len__(self) -> int:
        return len(self.size)

    def load(self) -> Ints:
        """Granules alive in each section: int64[sections]."""
        return self.sums(self.count, self.size)

    def sums(self, length: Ints, weight: Ints | int) -> Ints:
        """Sum of `weight` over the storages whose sections first .. first + length - 1 have it."""
        change = np.zeros(2 * self.sections + 1, np.int64)
        np.add.at(change, self.first, weight)
        np.add.at(change, self.first + length, np.negative(weight))
        twice = np.cumsum(change[:-1])
        return twice[: self.sections] + twice[self.sections :]

    @property
    def lower_bound(self) -> int:
        """No placement ends below: ground and the largest load, granules."""
        return self.ground + int(self.load().max(initial=0))

    def part(self, chosen: Ints, ground: int | None = None) -> Problem:
        """The storages `chosen` (positions, ascending) alone."""
        ends = (self.first + self.count)[chosen]
        begin, end, sections = _largest_sets(self.first[chosen], ends, self.sections)
        return Problem(
            self.ids[chosen], self.size[chosen], begin, end - begin, sections,
            self.ground if ground is None else ground,
        )  # fmt: skip


def arranged(lower: Ints, upper: Ints, size: Ints, period: int | None) -> Problem:
    """The problem of lifetimes [lower, upper); with a period, of their arcs (at most a period)."""
    everything = np.arange(len(size))
    if period is None:
        start = int(lower.min()) if len(lower) else 0
        begin, end, sections = _largest_sets(lower - start, upper - start, 0)
    else:
        start = lower % period
        begin, end, sections = _largest_sets(start, start + (upper - lower), period)
    return Problem(everything, size, begin, end - begin, sections)


def _largest_sets(lower: Ints, upper: Ints, period: int) -> tuple[Ints, Ints, int]:
    """Numbers of each life's first section and of the one after its last; how many there are.

    `period` 0 stands for no circle. Lives have ``0 <= lower < upper <= lower + period``.
    """
    if not len(lower):
        return lower, upper, 0
    if not period:
        period = int(upper.max())
    closing = upper % period
    moments = np.unique(np.concatenate([lower, closing]))
    begins, ends = np.zeros((2, len(moments)), bool)
    begins[np.searchsorted(moments, lower)] = True
    ends[np.searchsorted(moments, closing)] = True
    turn = int(np.argmax(ends))  # the circle is cut where something ends
    begins, ends = np.roll(begins, -turn), np.roll(ends, -turn)
    k = np.arange(len(moments))
    last_begin = np.maximum.accumulate(np.where(begins, k, -1))
    last_end = np.maximum.accumulate(np.where(ends, k, 0))
    kept = np.roll(ends, -1) & (last_begin >= last_end)
    before = np.concatenate([[0], np.cumsum(kept)])  # kept sections before each moment
    sections = int(before[-1])
    at_lower = (np.searchsorted(moments, lower) - turn) % len(moments)
    at_upper = (np.searchsorted(moments, closing) - turn) % len(moments)
    begin, end = before[at_lower], before[at_upper]
    return begin, np.where(at_upper <= at_lower, end + sections, end), sections


def pieces(whole: Problem, offset: Ints) -> list[Problem]:
    """Independent parts, each with its own ground; what lies at the bottom anyway is put there.

    A storage that lives in all sections of its part can be moved to the bottom of every placement.
    Parts that no storage links have nothing to do with each other. Both are repeated while they
    find something (at most `ROUNDS` deep).

    Parameters
    ----------
    offset : int64[n], granules
        By `ids`; receives those of the storages at the bottom.
    """
    found: list[Problem] = []
    open_parts = [(whole, ROUNDS)] if len(whole) else []
    while open_parts:
        part, rounds = open_parts.pop()
        always = part.count >= part.sections
        if rounds and always.any():
            tops = part.ground + np.cumsum(part.size[always])
            offset[part.ids[always]] = tops - part.size[always]
            rest = np.flatnonzero(~always)
            if len(rest):
                open_parts.append((part.part(rest, int(tops[-1])), rounds - 1))
            continue
        separate = _unlinked(part) if rounds else []
        if len(separate) < 2:
            found.append(part)
        else:
            open_parts += [(part.part(chosen), rounds - 1) for chosen in separate]
    return found


def _unlinked(part: Problem) -> list[Ints]:
    """Positions of the storages of each stretch of sections that no storage leaves."""
    cut = part.sums(part.count - 1, 1) == 0  # nothing goes on from s to s + 1
    stretches = int(cut.sum())
    if stretches < 2:
        return []
    number = (np.cumsum(cut) - cut)[part.first] % stretches
    by_stretch = np.argsort(number, kind="stable")
    ends = np.cumsum(np.bincount(number, minlength=stretches))
    return np.split(by_stretch, ends[:-1])
