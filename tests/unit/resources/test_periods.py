"""The iteration is found in a sequence of operations without marks."""

from __future__ import annotations

import random

import pytest

from gradbase.resources.periods import Repetition, find_repetition, root, z_function


def slowly(s):
    """The same by trying every start and period."""
    best = None
    for p in range(1, len(s) // 2 + 1):
        i = 0
        while i + p < len(s):
            start = i
            while i + p < len(s) and s[i] == s[i + p]:
                i += 1
            length = i - start + p
            if i - start >= p and (best is None or length > best.length):
                best = Repetition(start, p, length)
            i += 1
    return best


@pytest.mark.parametrize("letters", [1, 2, 3])
def test_agrees_with_the_slow_way(letters):
    """Random words over few letters are full of repetitions."""
    rng = random.Random(letters)
    for _ in range(300):
        s = [rng.randrange(letters) for _ in range(rng.randrange(14))]
        found, expected = find_repetition(s), slowly(s)
        assert (found is None) == (expected is None), s
        if found is not None:
            assert (found.length, found.period) == (expected.length, expected.period), s
            assert all(
                s[i] == s[i + found.period] for i in range(found.start, found.stop - found.period)
            )


def test_z_function_agrees_with_its_definition():
    rng = random.Random(0)
    for _ in range(100):
        s = [rng.randrange(2) for _ in range(rng.randrange(12))]
        expected = [
            next((k for k in range(len(s) - i) if s[k] != s[i + k]), len(s) - i)
            for i in range(len(s))
        ]
        assert z_function(s) == expected


def test_training_loop_with_prologue_and_epilogue():
    """Repetition inside a step (an LSTM's cells) is shorter than that of the steps."""
    step = [1, *[2, 3, 4] * 5, 5, *[6, 7] * 5, 8]
    found = find_repetition([20, 21, *step * 4, 30, 31, 32])
    assert found == Repetition(2, len(step), 4 * len(step))


def test_nothing_repeats():
    assert find_repetition(list(range(50))) is None
    assert find_repetition([]) is None


@pytest.mark.parametrize(
    ("s", "expected"), [([1, 1, 1], 1), ([1, 2, 1, 2], 2), ([1, 2, 1], 3), ([], 0)]
)
def test_root(s, expected):
    assert root(s) == expected


def test_long_sequences_do_not_take_quadratic_work():
    """A quadratic search would compare 10 ** 9 pairs here."""
    rng = random.Random(1)
    step = [rng.randrange(50) for _ in range(3_000)]
    assert find_repetition([*range(100, 400), *step * 10]) == Repetition(300, 3_000, 30_000)
