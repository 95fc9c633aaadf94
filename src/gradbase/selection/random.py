"""Independent random draws."""

from __future__ import annotations

from gradbase.selection.procedure import Leg, Rounds, Terms
from gradbase.selection.space import draws


class Random:
    """Each trial draws each dimension from that dimension's own stream.

    Source: Bergstra and Bengio 2012, section 2; the streams are our own.
    """

    def __init__(self, terms: Terms) -> None:
        self.terms = terms
        self.configurations = draws(terms.space, terms.trials, terms.seed, "random search")
        self.trials = len(self.configurations)

    def rounds(self) -> Rounds:
        yield [Leg(k, c, self.terms.epochs) for k, c in enumerate(self.configurations, start=1)]
