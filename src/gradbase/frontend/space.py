"""Search spaces: what a hyper-parameter may be.  Sampling is `selection`'s."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

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
    """A float in [low, high], evenly; with `step` only low, low + step, …"""

    low: float
    high: float
    step: float | None = None

    def __post_init__(self) -> None:
        _check_order(self.low, self.high)
        if self.step is not None and not 0 < self.step < math.inf:
            raise BindError(f"a step is a number above 0, found {self.step!r}")


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
    """An int in [low, high], both included, in steps; with `log` evenly on a logarithmic scale."""

    low: int
    high: int
    step: int = 1
    log: bool = False

    def __post_init__(self) -> None:
        _check_order(self.low, self.high)
        if self.step < 1 or (self.log and self.step > 1):
            raise BindError(
                f"a step is a whole number from 1, and 1 on a logarithmic scale; found {self.step}"
            )
        if self.log and self.low < 1:
            raise BindError(f"a logarithmic range of whole numbers starts at 1, found {self.low}")


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


def uniform(low: float, high: float, *, step: float | None = None) -> Uniform:
    """A float between `low` and `high`, evenly; with `step` only low, low + step, …"""
    return Uniform(low, high, step)


def loguniform(low: float, high: float) -> LogUniform:
    """A float between `low` and `high`, evenly on a logarithmic scale."""
    return LogUniform(low, high)


def randint(low: int, high: int, *, step: int = 1, log: bool = False) -> IntUniform:
    """An int from `low` to `high`, both included, evenly or on a logarithmic scale."""
    return IntUniform(low, high, step, log)


def as_dimension(value: object) -> object:
    """An Optuna distribution as the dimension that it means; anything else as it is.

    Examples
    --------
    >>> from optuna.distributions import FloatDistribution
    >>> as_dimension(FloatDistribution(1e-4, 0.1, log=True))
    LogUniform(low=0.0001, high=0.1)
    >>> as_dimension(0.1)
    0.1
    """
    optuna: Any = sys.modules.get("optuna.distributions")
    if optuna is None or not isinstance(value, optuna.BaseDistribution):
        return value  # nobody has a distribution without having imported them
    found: Any = value
    match value:
        case optuna.CategoricalDistribution():
            return Choice(tuple(found.choices))
        case optuna.IntDistribution():
            return IntUniform(found.low, found.high, found.step, found.log)
        case _ if found.log:
            return LogUniform(found.low, found.high)
    return Uniform(found.low, found.high, found.step)


def to_plain(dimension: Dimension) -> dict[str, Any]:
    """A dimension as JSON values, for the record of a search; see `space_of`.

    Examples
    --------
    >>> to_plain(LogUniform(0.1, 1.0))
    {'LogUniform': {'low': 0.1, 'high': 1.0}}
    """
    return {type(dimension).__name__: dict(vars(dimension))}


def space_of(
    options: Mapping[str, Any], configurations: Iterable[Mapping[str, Any]]
) -> dict[str, Dimension]:
    """What a search could choose from, by hyper-parameter, from its record.

    Parameters
    ----------
    options : mapping
        Of the search, as JSON; its ``space`` holds what `to_plain` wrote. The first records held no
        more than the values of a choice or the ends of a range.
    configurations : iterable of mapping
        Of the trials: they tell which of both it was.

    Examples
    --------
    >>> space_of({"space": {"lr": to_plain(LogUniform(0.1, 1.0)), "seed": [1, 2]}}, [{"seed": 2}])
    {'lr': LogUniform(low=0.1, high=1.0), 'seed': Choice(values=(1, 2))}
    """
    kinds: dict[str, Any] = {k.__name__: k for k in (Choice, Uniform, LogUniform, IntUniform)}
    tried = list(configurations)
    found: dict[str, Dimension] = {}
    for name, plain in options.get("space", {}).items():
        if isinstance(plain, list):
            listed = all(c[name] in plain for c in tried if name in c)
            found[name] = Choice(tuple(plain)) if listed else Uniform(*plain)
            continue
        [(kind, fields)] = plain.items()
        if kind == "Choice":
            fields = {"values": tuple(fields["values"])}
        found[name] = kinds[kind](**fields)
    return found


def scale_of(dimension: Dimension) -> str:
    """How values of a dimension are spread: ``choice``, ``linear`` or ``log``."""
    match dimension:
        case Choice():
            return "choice"
        case LogUniform() | IntUniform(log=True):
            return "log"
    return "linear"
