"""Finding the iteration in a sequence of operations that nobody marked.

The iteration of a training loop is the segment that repeats itself immediately over the longest
stretch. All such stretches are found by divide and conquer with Z-functions in O(n log n)
(Main and Lorentz, 1984); SINGA's memory pool searches for the same by brute force.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

_END = -1  # stands in no sequence: operations are numbered from 0

__all__ = ["Repetition", "find_repetition", "root", "z_function"]


@dataclass(frozen=True)
class Repetition:
    """[start, start + length) is a segment of `period` over and over, at least twice."""

    start: int
    period: int
    length: int

    @property
    def stop(self) -> int:
        """First position after the stretch."""
        return self.start + self.length


def z_function(sequence: Sequence[int]) -> list[int]:
    """For each position, how long a prefix of `sequence` stands there (the first: its length).

    Examples
    --------
    >>> z_function([1, 2, 1, 2, 1])
    [5, 0, 3, 0, 1]
    """
    n = len(sequence)
    z = [0] * n
    if n:
        z[0] = n
    left = right = 0
    for i in range(1, n):
        k = min(right - i, z[i - left]) if i < right else 0
        while i + k < n and sequence[k] == sequence[i + k]:
            k += 1
        if i + k > right:
            left, right = i, i + k
        z[i] = k
    return z


def find_repetition(sequence: Sequence[int]) -> Repetition | None:
    """The longest stretch that repeats a segment at least twice; of its periods the smallest.

    Parameters
    ----------
    sequence : sequence of int
        Not negative.

    Examples
    --------
    >>> find_repetition([9, 1, 2, 3, 1, 2, 3, 1, 7])
    Repetition(start=1, period=3, length=7)
    """
    best: Repetition | None = None
    waiting = [(0, len(sequence))]
    while waiting:
        low, high = waiting.pop()
        # No stretch inside a part can be longer than the part.
        if high - low < 2 or (best is not None and high - low < best.length):
            continue
        middle = (low + high) // 2
        for found in _across(sequence, low, middle, high):
            if best is None or (found.length, -found.period) > (best.length, -best.period):
                best = found
        waiting += [(low, middle), (middle, high)]
    return best


def root(sequence: Sequence[int]) -> int:
    """Length of the shortest segment of which `sequence` is a whole number of copies.

    Examples
    --------
    >>> root([1, 2, 1, 2]), root([1, 2, 1])
    (2, 3)
    """
    n, z = len(sequence), z_function(sequence)
    return next((p for p in range(1, n) if n % p == 0 and z[p] == n - p), n)


def _across(sequence: Sequence[int], low: int, middle: int, high: int) -> Iterator[Repetition]:
    """Stretches within [low, high) that have a whole segment on one side of `middle`."""
    whole, left, right = sequence[low:high], sequence[low:middle], sequence[middle:high]
    n, m = len(left), len(right)
    right_in_whole = z_function([*right, _END, *whole])[m + 1 :]
    left_in_whole = z_function([*left[::-1], _END, *whole[::-1]])[n + 1 :]  # both backwards
    for p in range(1, n + 1):  # [middle - p, middle) repeats itself
        forward = right_in_whole[n - p]
        backward = left_in_whole[m + p] if p < n else 0
        if forward + backward >= p:
            yield Repetition(middle - p - backward, p, p + forward + backward)
    for p in range(1, m + 1):  # [middle, middle + p) repeats itself
        forward = right_in_whole[n + p] if p < m else 0
        backward = left_in_whole[m - p]
        if forward + backward >= p:
            yield Repetition(middle - backward, p, p + forward + backward)
