"""Population based training: weak trials go on from strong ones, with other hyper-parameters."""

from __future__ import annotations

import math

from gradbase.errors import BindError
from gradbase.frontend.space import Choice, Dimension, IntUniform, LogUniform, Uniform
from gradbase.selection.procedure import Configuration, Leg, Results, Rounds, Terms, best_first
from gradbase.selection.space import draw, draws, uniform

SHARE = 0.2
"""Of the population, at either end."""
FACTORS = (0.8, 1.2)
RESAMPLED = 0.25
"""Chance of a fresh draw instead of a factor."""
CHANGEABLE = (
    "learn_rate", "linear_learn_rate", "l2_reg", "l1_reg", "l1_reg_activation", "momentum",
    "dropout",
)  # fmt: skip
"""What may change while a network trains; the rest of a configuration goes with its weights."""


class Population:
    """After every `min_epochs` epochs the worst fifth take weights and configuration of the best.

    What they took is then perturbed: each changeable value by 0.8 or 1.2 (or the next listed one),
    or drawn again. A trial keeps its number; its history says what it trained with.
    Source: Jaderberg et al. 2017, truncation selection of section 4.1.1.
    """

    def __init__(self, terms: Terms) -> None:
        if not set(terms.space) & set(CHANGEABLE):
            raise BindError(
                "population based training changes hyper-parameters while it trains; none of "
                f"{', '.join(CHANGEABLE)} is searched over",
                hint="search over learn_rate, or use the procedure 'asha'",
            )
        if "epochs" in terms.space:
            raise BindError("max_epochs cannot be searched over by population based training")
        self.terms = terms
        self.first = draws(terms.space, terms.trials, terms.seed, "population based training")
        self.trials = len(self.first)

    def rounds(self) -> Rounds:
        members: dict[int, Configuration] = dict(enumerate(self.first, start=1))
        parents: dict[int, int] = {}
        step, most = self.terms.min_epochs, self.terms.epochs
        for number, epochs in enumerate([*range(step, most, step), most], start=1):
            results = yield [Leg(t, c, epochs, parents.get(t, 0)) for t, c in members.items()]
            parents = self._exploited(results, number)
            members |= {t: self._explored(members[p], t, number) for t, p in parents.items()}

    def _exploited(self, results: Results, number: int) -> dict[int, int]:
        """Member -> the one it goes on from; who ended early takes no part."""
        furthest = max(r.epochs for r in results.values())
        going = {t: r for t, r in results.items() if r.epochs == furthest}
        order = best_first(going)
        size = max(1, math.floor(len(order) * SHARE)) if len(order) > 1 else 0
        best = [t for t in order[:size] if results[t].value > -math.inf]
        worst = [t for t in order[len(order) - size :] if t not in best]
        if not best:
            return {}
        pick = {t: uniform(self.terms.seed, "parent", number, t) for t in worst}
        return {t: best[int(u * len(best))] for t, u in pick.items()}

    def _explored(self, taken: Configuration, trial: int, number: int) -> Configuration:
        found = dict(taken)
        for name in set(self.terms.space) & set(CHANGEABLE):
            dimension = self.terms.space[name]
            if uniform(self.terms.seed, f"resample {name}", number, trial) < RESAMPLED:
                found[name] = draw(dimension, f"{name} {number}", self.terms.seed, trial)
            else:
                upwards = uniform(self.terms.seed, f"direction {name}", number, trial) < 0.5
                found[name] = _moved(dimension, found[name], upwards=upwards)
        return found


def _moved(dimension: Dimension, value: object, *, upwards: bool) -> object:
    match dimension:
        case Choice(values):
            place = values.index(value) + (1 if upwards else -1)
            return values[min(max(place, 0), len(values) - 1)]
        case Uniform(low, high) | LogUniform(low, high) | IntUniform(low, high):
            assert isinstance(value, int | float), value
            moved = value * FACTORS[upwards]
            moved = round(moved) if isinstance(dimension, IntUniform) else moved
            return min(max(moved, low), high)
