"""Successive halving, Hyperband and ASHA: many trials for few epochs, few for many."""

from __future__ import annotations

import math
from collections.abc import Sequence

from gradbase.errors import BindError
from gradbase.selection.procedure import (
    Configuration,
    Leg,
    Result,
    Results,
    Rounds,
    Terms,
    best_first,
)
from gradbase.selection.space import draws, product


class SuccessiveHalving:
    """All trials train to the first rung; one of `reduction_factor` goes on to the next.

    Rungs lie at `min_epochs` times powers of `reduction_factor`, the last at all epochs.
    Source: Jamieson and Talwalkar 2016, algorithm 1.
    """

    def __init__(self, terms: Terms) -> None:
        _check(terms)
        self.terms = terms
        self.configurations = _configurations(terms, "successive halving")
        self.trials = len(self.configurations)

    def rounds(self) -> Rounds:
        trials = dict(enumerate(self.configurations, start=1))
        rungs = rungs_of(self.terms.min_epochs, self.terms.epochs, self.terms.reduction_factor)
        yield from _halved(trials, rungs, self.terms.reduction_factor)


class Hyperband:
    """Brackets of successive halving, from many trials that start small to few that run in full.

    Brackets train side by side. Without `trials` there is one of each; with it, brackets are filled
    in order, again and again, until so many trials are there. Source: Li et al. 2018, algorithm 1.
    """

    def __init__(self, terms: Terms) -> None:
        _check(terms)
        self.terms = terms
        sizes = [n for n, _ in brackets_of(terms)]
        self.trials = sum(sizes) if terms.trials is None else terms.trials
        self.configurations = draws(terms.space, self.trials, terms.seed, "hyperband")

    def rounds(self) -> Rounds:
        numbered = list(enumerate(self.configurations, start=1))
        brackets: list[Rounds] = []
        while numbered:
            for size, rungs in brackets_of(self.terms):
                mine, numbered = dict(numbered[:size]), numbered[size:]
                if mine:
                    brackets.append(_halved(mine, rungs, self.terms.reduction_factor))
        yield from _side_by_side(brackets)


class Asha:
    """Successive halving that never waits for a whole rung: who is among the best so far goes on.

    `parallel` legs at a time are chosen in order, from what ended before, as that many workers
    would; so the search is the same whatever runs it. Source: Li et al. 2020, algorithm 2.
    """

    def __init__(self, terms: Terms) -> None:
        _check(terms)
        self.terms = terms
        self.configurations = _configurations(terms, "asha")
        self.trials = len(self.configurations)
        self.rungs = rungs_of(terms.min_epochs, terms.epochs, terms.reduction_factor)

    def rounds(self) -> Rounds:
        at: list[dict[int, Result]] = [{} for _ in self.rungs]
        promoted: list[set[int]] = [set() for _ in self.rungs]
        begun = 0
        while True:
            legs: list[Leg] = []
            to: dict[int, int] = {}
            while len(legs) < self.terms.parallel:
                found = self._promotable(at, promoted)
                if found is None and begun == len(self.configurations):
                    break
                if found is None:
                    begun += 1
                    found = (begun, 0)
                trial, rung = found
                to[trial] = rung
                legs.append(Leg(trial, self.configurations[trial - 1], self.rungs[rung]))
            if not legs:
                return
            results = yield legs
            for trial, rung in to.items():
                at[rung][trial] = results[trial]

    def _promotable(
        self, at: Sequence[dict[int, Result]], promoted: Sequence[set[int]]
    ) -> tuple[int, int] | None:
        """A trial and its next rung, from the highest rung that has one."""
        for rung in range(len(self.rungs) - 2, -1, -1):
            best = best_first(at[rung])[: len(at[rung]) // self.terms.reduction_factor]
            for trial in best:
                if trial not in promoted[rung] and at[rung][trial].value > -math.inf:
                    promoted[rung].add(trial)
                    return trial, rung + 1
        return None


def rungs_of(least: int, most: int, factor: int) -> list[int]:
    """Epochs at which halving decides, rising to `most`.

    Examples
    --------
    >>> rungs_of(1, 20, 3)
    [1, 3, 9, 20]
    """
    found: list[int] = []
    while least < most:
        found.append(least)
        least *= factor
    return [*found, most]


def brackets_of(terms: Terms) -> list[tuple[int, list[int]]]:
    """Hyperband's brackets: trials and rungs of each.

    Examples
    --------
    >>> brackets_of(Terms({}, epochs=9))
    [(9, [1, 3, 9]), (5, [3, 9]), (3, [9])]
    """
    rungs = rungs_of(terms.min_epochs, terms.epochs, terms.reduction_factor)
    last = len(rungs) - 1
    return [
        (math.ceil((last + 1) / (s + 1) * terms.reduction_factor**s), rungs[last - s :])
        for s in range(last, -1, -1)
    ]


def _halved(trials: dict[int, Configuration], rungs: Sequence[int], factor: int) -> Rounds:
    for epochs in rungs:
        results = yield [Leg(trial, c, epochs) for trial, c in trials.items()]
        kept = best_first({t: results[t] for t in trials})[: max(1, len(trials) // factor)]
        trials = {t: trials[t] for t in sorted(kept) if results[t].value > -math.inf}
        if not trials:
            return


def _side_by_side(all_rounds: Sequence[Rounds]) -> Rounds:
    """Several sequences of rounds as one: the first rounds together, then the second ones, …"""
    going = [(rounds, next(rounds)) for rounds in all_rounds]
    while going:
        results: Results = yield [leg for _, legs in going for leg in legs]
        following: list[tuple[Rounds, list[Leg]]] = []
        for rounds, legs in going:
            mine = {leg.trial: results[leg.trial] for leg in legs}
            try:
                following.append((rounds, rounds.send(mine)))
            except StopIteration:
                continue
        going = following


def _configurations(terms: Terms, what: str) -> list[Configuration]:
    """The whole product of listed values where no number of trials is given, else draws."""
    if terms.trials is None and all(hasattr(d, "values") for d in terms.space.values()):
        return product(terms.space, None)
    return draws(terms.space, terms.trials, terms.seed, what)


def _check(terms: Terms) -> None:
    if "epochs" in terms.space:
        raise BindError(
            "max_epochs is searched over, but this procedure itself decides how long trials train",
            hint="give max_epochs one value, or use the procedure 'random'",
        )
    if terms.min_epochs > terms.epochs:
        raise BindError(
            f"min_epochs is {terms.min_epochs}, above max_epochs {terms.epochs}",
            hint="lower min_epochs or raise max_epochs",
        )
