"""Drawing values from a dimension: every dimension has a random stream of its own."""

from __future__ import annotations

import math

from blake3 import blake3

from gradbase.frontend.space import Choice, Dimension, IntUniform, LogUniform, Uniform


def draw(dimension: Dimension, name: str, seed: int, trial: int) -> object:
    """Value of dimension `name` for a trial.

    It depends on the seed, the name and the trial's number only: adding a dimension or a trial
    changes no other value.

    Examples
    --------
    >>> draw(IntUniform(1, 6), "dots", seed=7, trial=1) in range(1, 7)
    True
    """
    u = _uniform(seed, name, trial)
    match dimension:
        case Choice(values):
            return values[int(u * len(values))]
        case Uniform(low, high):
            return low + u * (high - low)
        case LogUniform(low, high):
            found = math.exp(math.log(low) + u * (math.log(high) - math.log(low)))
            return min(max(found, low), high)
        case IntUniform(low, high):
            return low + int(u * (high - low + 1))


def _uniform(seed: int, name: str, trial: int) -> float:
    """A number in [0, 1) with 53 random bits."""
    digest = blake3(f"{seed}|search|{trial}|{name}".encode()).digest(length=8)
    return (int.from_bytes(digest, "little") >> 11) / (1 << 53)
