"""Every combination of the listed values."""

from __future__ import annotations

from gradbase.selection.procedure import Leg, Rounds, Terms
from gradbase.selection.space import product


class Grid:
    """The product of all choices, in the order of options, the last one changing fastest.

    `trials` keeps the first so many; None all of them. Source: own; textbook.
    """

    def __init__(self, terms: Terms) -> None:
        self.terms = terms
        self.configurations = product(terms.space, terms.trials)
        self.trials = len(self.configurations)

    def rounds(self) -> Rounds:
        yield [Leg(k, c, self.terms.epochs) for k, c in enumerate(self.configurations, start=1)]
