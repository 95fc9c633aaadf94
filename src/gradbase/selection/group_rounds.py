"""The searches of all groups side by side, each deciding by its own group's results."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

from gradbase.ir.grouping import FitGroups
from gradbase.ir.learning import Fit
from gradbase.ir.metrics import is_minimised
from gradbase.runtime.groups.member import Member
from gradbase.runtime.groups.rows import Group
from gradbase.selection import TO_THE_END, make_procedure
from gradbase.selection.configuring import configured
from gradbase.selection.outcome import value_of
from gradbase.selection.procedure import Leg, Result, Rounds, Terms

Pairs = list[tuple[int, Member]]
Going = tuple[Group, Rounds, list[Leg]]


class GroupRounds:
    """Iterating gives the members of each round, with their numbers; train them, then go on.

    Parameters
    ----------
    plan : FitGroups
    terms : Terms
        What the search procedure is made from.
    groups : sequence of Group
        Those with something to learn.
    make : callable
        ``make(group, fit)``: the fit of a group as a member that has not begun.

    Attributes
    ----------
    members : dict of int to Member
        All that have begun, by number.
    """

    def __init__(
        self,
        plan: FitGroups,
        terms: Terms,
        groups: Sequence[Group],
        make: Callable[[Group, Fit], Member],
    ) -> None:
        self.plan, self._make = plan, make
        self.members: dict[int, Member] = {}
        procedure = make_procedure(plan.procedure, terms)
        self._going: list[Going] = []
        for group in groups:
            rounds = procedure.rounds()
            self._going.append((group, rounds, next(rounds)))
        self._known = {fit.trial: fit for fit in plan.fits}

    def __iter__(self) -> Iterator[Pairs]:
        while self._going:
            yield [p for group, _, legs in self._going for p in self._begun(group, legs)]
            going = [self._following(*one) for one in self._going]
            self._going = [one for one in going if one is not None]

    def first_trial(self, group: int) -> int:
        """The number of a group's first trial."""
        return group * self.plan.trials + 1

    def _begun(self, group: Group, legs: Sequence[Leg]) -> Pairs:
        """The members of a round that have something to do."""
        found: Pairs = []
        for leg in legs:
            number = self._number(group, leg.trial)
            member = self.members.get(number)
            if member is None:
                member = self.members[number] = self._make(group, self._fit(leg))
            elif member.has_ended:
                continue
            else:
                member.start = self._number(group, leg.parent or leg.trial)
                member.fit = self._make(group, self._fit(leg)).fit if leg.parent else member.fit
            member.until = min(leg.epochs, member.fit.epochs)
            found.append((number, member))
        return found

    def _fit(self, leg: Leg) -> Fit:
        known = self._known.get(leg.trial)
        if known is not None and not leg.parent:
            return known
        return configured(self.plan.fits[0], leg.trial, leg.configuration)

    def _number(self, group: Group, trial: int) -> int:
        return self.first_trial(group.number) + trial - 1

    def _following(self, group: Group, rounds: Rounds, legs: Sequence[Leg]) -> Going | None:
        results = {leg.trial: self._result(group, leg) for leg in legs}
        try:
            return group, rounds, rounds.send(results)
        except StopIteration:
            return None

    def _result(self, group: Group, leg: Leg) -> Result:
        member = self.members[self._number(group, leg.trial)]
        value = math.nan if member.error else value_at_end(self.plan.metric, member)
        sign = -1.0 if is_minimised(self.plan.metric) else 1.0
        return Result(leg.trial, member.epochs, -math.inf if math.isnan(value) else sign * value)


def value_at_end(metric: str, member: Member) -> float:
    """The metric after the last epoch; NaN where there is none."""
    evaluated = member.eval_losses[-1] if member.eval_losses else None
    return value_of(metric, member.metrics, member.train_losses[-1], evaluated)


def size_of(procedure: str, terms: Terms) -> tuple[int, int]:
    """Trials of a search, and the epochs of all of them where none ends by itself."""
    made = make_procedure(procedure, terms)
    if procedure in TO_THE_END:
        return made.trials, made.trials * terms.epochs
    rounds, had = made.rounds(), dict[int, int]()
    legs, total = next(rounds), 0
    while True:
        total += sum(leg.epochs - had.get(leg.trial, 0) for leg in legs)
        had |= {leg.trial: leg.epochs for leg in legs}
        try:
            legs = rounds.send({g.trial: Result(g.trial, g.epochs, -g.trial) for g in legs})
        except StopIteration:
            return made.trials, total
