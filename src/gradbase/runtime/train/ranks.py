"""What stands at a place among numbers in ascending order, without sorting or holding them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from gradbase.runtime.train.identity import Words

FEW = 1 << 16
"""Rows among which one of a given rank is looked for by sorting them."""
_SIGN = np.uint64(1 << 63)
_DIGIT = 16


def ascending(values: npt.NDArray[Any]) -> Words:
    """uint64 that are in the order of the numbers `values`."""
    if values.dtype.kind == "u":
        return values.astype(np.uint64)
    if values.dtype.kind in "ib":
        return values.astype(np.int64).view(np.uint64) ^ _SIGN
    bits = (values.astype(np.float64) + 0.0).view(np.uint64)  # -0 + 0 is 0
    return np.where(bits & _SIGN, ~bits, bits | _SIGN)


def numbers_of(words: Words) -> npt.NDArray[np.float64]:
    """The floats that `ascending` made these of."""
    return np.where(words & _SIGN, words ^ _SIGN, ~words).view(np.float64)


def of_rank(words: Callable[[], Iterator[Words]], rank: int) -> Words:
    """The uint64[n] at place `rank` (from 0) of all uint64[rows, n] in ascending order.

    Sixteen bits are found in a pass over all, until few are left to be sorted.
    """
    prefix: list[int] = []
    width = 1
    while len(prefix) * _DIGIT < 64 * width:
        counts = np.zeros(1 << _DIGIT, np.int64)
        for chunk in words():
            width = chunk.shape[1]
            counts += np.bincount(_digit(_like(chunk, prefix), len(prefix)), minlength=len(counts))
        below = np.cumsum(counts)
        digit = int(np.searchsorted(below, rank, "right"))
        prefix.append(digit)
        rank -= int(below[digit] - counts[digit])
        if counts[digit] <= FEW:
            break
    left = [found for chunk in words() if len(found := _like(chunk, prefix))]
    if len(prefix) * _DIGIT >= 64 * width:
        return left[0][0]  # all are equal
    together = np.concatenate(left)
    return together[np.lexsort(together.T[::-1])[rank]]


def _like(words: Words, prefix: list[int]) -> Words:
    """Those that begin with these digits."""
    for place, digit in enumerate(prefix):
        words = words[_digit(words, place) == digit]
    return words


def _digit(words: Words, place: int) -> npt.NDArray[np.int64]:
    column, within = divmod(place, 64 // _DIGIT)
    return digits(words[:, column], within)


def digits(words: Words, place: int) -> npt.NDArray[np.int64]:
    """Sixteen bits of each of uint64[rows]: the first (`place` 0), the next, …"""
    shift = np.uint64(64 - _DIGIT * (place + 1))
    return ((words >> shift) & np.uint64((1 << _DIGIT) - 1)).astype(np.int64)
