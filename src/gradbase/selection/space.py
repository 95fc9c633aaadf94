"""Drawing values from a dimension: every dimension has a random stream of its own."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping

from blake3 import blake3

from gradbase.errors import BindError
from gradbase.frontend.space import Choice, Dimension, IntUniform, LogUniform, Uniform
from gradbase.selection.procedure import Configuration


def draw(dimension: Dimension, name: str, seed: int, trial: int) -> object:
    """Value of dimension `name` for a trial.

    It depends on the seed, the name and the trial's number only: adding a dimension or a trial
    changes no other value.

    Examples
    --------
    >>> draw(IntUniform(1, 6), "dots", seed=7, trial=1) in range(1, 7)
    True
    """
    u = uniform(seed, "search", trial, name)
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


def uniform(seed: int, purpose: str, *which: object) -> float:
    """A number in [0, 1) with 53 random bits."""
    text = "|".join(map(str, (seed, purpose, *which)))
    digest = blake3(text.encode()).digest(length=8)
    return (int.from_bytes(digest, "little") >> 11) / (1 << 53)


def draws(
    space: Mapping[str, Dimension], trials: int | None, seed: int, what: str
) -> list[Configuration]:
    """One random configuration per trial; BindError where `what` is not told how many."""
    if trials is None and space:
        raise BindError(
            f"{what} over {', '.join(space)} needs the number of trials",
            hint="set num_trials (SQL) or trials (Python)",
        )
    numbers = range(1, (trials or 1) + 1)
    return [{name: draw(d, name, seed, trial) for name, d in space.items()} for trial in numbers]


def product(space: Mapping[str, Dimension], trials: int | None) -> list[Configuration]:
    """All combinations of listed values, or the first `trials` of them; BindError for a range."""
    choices: dict[str, Choice] = {}
    for name, dimension in space.items():
        if not isinstance(dimension, Choice):
            raise BindError(
                f"a grid needs listed values, `{name}` is a range",
                hint="use HPARAM_CANDIDATES (gb.choice), or the procedure 'random'",
            )
        choices[name] = dimension
    combinations = itertools.product(*(c.values for c in choices.values()))
    kept = itertools.islice(combinations, trials)
    return [dict(zip(choices, values, strict=True)) for values in kept]
