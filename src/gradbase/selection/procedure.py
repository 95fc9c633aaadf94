"""What a search procedure is: it says, round by round, which trials train, and how far."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass
from typing import Protocol

from gradbase.frontend.space import Dimension

Configuration = Mapping[str, object]
"""Hyper-parameter names and values of one trial."""


@dataclass(frozen=True)
class Terms:
    """What a procedure is made from; it depends on nothing else.

    Parameters
    ----------
    space : mapping
        Hyper-parameters that are searched over.
    trials : int, optional
    seed : int
    epochs : int
        The most that any trial trains.
    reduction_factor : int
        One of so many trials goes on at each rung.
    min_epochs : int
        Epochs to the first rung, and between two decisions of population based training.
    parallel : int
        Trials that are chosen without knowing of each other's results.
    """

    space: Mapping[str, Dimension]
    trials: int | None = None
    seed: int = 0
    epochs: int = 1
    reduction_factor: int = 3
    min_epochs: int = 1
    parallel: int = 8


@dataclass(frozen=True)
class Leg:
    """A stretch of a trial: train it until it has had `epochs` epochs (all of them counted).

    `parent` is the trial whose state it goes on from, 0 its own.
    """

    trial: int
    configuration: Configuration
    epochs: int
    parent: int = 0


@dataclass(frozen=True)
class Result:
    """A trial at the end of a leg.

    `value` is the search's metric, more being better (so the negative of a loss); -inf for a trial
    that failed or has none.
    """

    trial: int
    epochs: int
    value: float


Results = Mapping[int, Result]
Rounds = Generator[list[Leg], Results, None]
"""Yields the legs of a round, and is sent what became of their trials.

A leg of a trial that ended by itself (it failed or converged) is not trained; its result stays.
"""


class Procedure(Protocol):
    """A way to search. Decides in the order of trials from values alone, so it can be replayed.

    What it has decided is in `rounds`: these can be begun again and again, side by side. `trials`
    is how many trials there are.
    """

    trials: int

    def __init__(self, terms: Terms) -> None: ...

    def rounds(self) -> Rounds:
        """The rounds of the search."""
        ...


def best_first(results: Results) -> list[int]:
    """Trials by value, best first; ties go to the lowest number."""
    return sorted(results, key=lambda trial: (-results[trial].value, trial))
