"""Every combination of the listed values."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

from gradbase.errors import BindError
from gradbase.frontend.space import Choice, Dimension
from gradbase.selection.procedure import Configuration, EpochResult


class Grid:
    """The product of all choices, in the order of options, the last one changing fastest.

    `trials` keeps the first so many; None all of them. Source: own; textbook.
    """

    def __init__(self, space: Mapping[str, Dimension], trials: int | None, seed: int) -> None:
        del seed  # nothing is random here
        self.choices: dict[str, Choice] = {}
        for name, dimension in space.items():
            if not isinstance(dimension, Choice):
                raise BindError(
                    f"a grid needs listed values, `{name}` is a range",
                    hint="use HPARAM_CANDIDATES (gb.choice), or the procedure 'random'",
                )
            self.choices[name] = dimension
        self.trials = trials

    def configurations(self) -> list[Configuration]:
        combinations = itertools.product(*(c.values for c in self.choices.values()))
        kept = itertools.islice(combinations, self.trials)
        return [dict(zip(self.choices, values, strict=True)) for values in kept]

    def decide(self, results: Sequence[EpochResult]) -> frozenset[int]:
        return frozenset(r.trial for r in results)
