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
            return _even(u, low, high, dimension.step)
        case LogUniform(low, high):
            found = math.exp(math.log(low) + u * (math.log(high) - math.log(low)))
            return min(max(found, low), high)
        case IntUniform(low, high, log=True):
            bottom, top = math.log(low - 0.5), math.log(high + 0.5)
            return min(max(round(math.exp(bottom + u * (top - bottom))), low), high)
        case IntUniform(low, high, step):
            return low + step * int(u * ((high - low) // step + 1))


def _even(u: float, low: float, high: float, step: float | None) -> float:
    if step is None:
        return low + u * (high - low)
    steps = math.floor((high - low) / step + 1e-9)  # 0.3 / 0.1 is a little below 3
    return min(low + step * int(u * (steps + 1)), high)


def _uniform(seed: int, name: str, trial: int) -> float:
    """A number in [0, 1) with 53 random bits."""
    digest = blake3(f"{seed}|search|{trial}|{name}".encode()).digest(length=8)
    return (int.from_bytes(digest, "little") >> 11) / (1 << 53)
