"""Search spaces: what a hyper-parameter may be.  Sampling is `selection`'s."""

from __future__ import annotations

import math
from dataclasses import dataclass

from gradbase.errors import BindError


@dataclass(frozen=True)
class Choice:
    """One of `values`, which come from Python or from HPARAM_CANDIDATES."""

    values: tuple[object, ...]

    def __post_init__(self) -> None:
        if not self.values:
            raise BindError("a choice needs at least one value")


@dataclass(frozen=True)
class Uniform:
    """A float in [low, high], evenly."""

    low: float
    high: float

    def __post_init__(self) -> None:
        _check_order(self.low, self.high)


@dataclass(frozen=True)
class LogUniform:
    """A float in [low, high], evenly on a logarithmic scale; 0 < low."""

    low: float
    high: float

    def __post_init__(self) -> None:
        _check_order(self.low, self.high)
        if self.low <= 0:
            raise BindError(f"a logarithmic range starts above 0, found {self.low:g}")


@dataclass(frozen=True)
class IntUniform:
    """An int in [low, high], both included."""

    low: int
    high: int

    def __post_init__(self) -> None:
        _check_order(self.low, self.high)


Dimension = Choice | Uniform | LogUniform | IntUniform


def _check_order(low: float, high: float) -> None:
    if not (math.isfinite(low) and math.isfinite(high) and low <= high):
        raise BindError(
            f"a range goes from a smaller to a larger finite number, found {low:g}, {high:g}"
        )


def choice(*values: object) -> Choice:
    """One of `values`.

    Examples
    --------
    >>> choice([64, 32], [128])
    Choice(values=([64, 32], [128]))
    """
    return Choice(values)


def uniform(low: float, high: float) -> Uniform:
    """A float between `low` and `high`, evenly."""
    return Uniform(low, high)


def loguniform(low: float, high: float) -> LogUniform:
    """A float between `low` and `high`, evenly on a logarithmic scale."""
    return LogUniform(low, high)


def randint(low: int, high: int) -> IntUniform:
    """An int from `low` to `high`, both included."""
    return IntUniform(low, high)
