"""The rounds of a search: what a procedure asks for, as groups of trials to train."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from gradbase.errors import StoreError
from gradbase.ir.learning import Fit, FusedFit, Search
from gradbase.ir.metrics import is_minimised
from gradbase.ir.parser import parse_plan
from gradbase.ir.printer import print_plan
from gradbase.selection import AT_ONCE
from gradbase.selection.configuring import configuration_of, configured
from gradbase.selection.outcome import Outcome
from gradbase.selection.procedure import Leg, Procedure, Result
from gradbase.selection.states import Position, States
from gradbase.store.records import FAILED

Replan = Callable[[Search], Search]
"""Optimises a search: decides which of its fits are fused."""
Item = Fit | FusedFit


@dataclass(frozen=True)
class Planned:
    """A group to train and its outcomes, place by place."""

    item: Item
    outcomes: list[Outcome]


class Rounds:
    """Drives a procedure. Iterating gives the groups of each round; train them, then go on.

    Parameters
    ----------
    search : Search
        The first round, optimised.
    procedure : Procedure
    states : States
    replan : callable
        Optimises the later rounds.
    journal : callable
        Writes an event durably: each round is written before it begins.
    tuned : sequence of str
        Names of the hyper-parameters searched over.
    """

    def __init__(
        self,
        search: Search,
        procedure: Procedure,
        states: States,
        replan: Replan,
        *,
        journal: Callable[[Mapping[str, Any]], None],
        tuned: Sequence[str] = (),
    ) -> None:
        self.tuned = tuned
        self.search, self.states, self.replan, self._journal = search, states, replan, journal
        self._sign = -1.0 if is_minimised(search.metric) else 1.0
        self._rounds = procedure.rounds()
        self._recorded: list[Mapping[str, Any]] = []
        self.outcomes: dict[tuple[int, int], Outcome] = {}
        """By trial and fold."""
        self.workers = search.workers
        """How many groups should train at once."""
        self._ends: dict[int, int] = {}
        self._added: list[Planned] = []

    def remember(self, rounds: Sequence[Mapping[str, Any]], outcomes: Sequence[Outcome]) -> None:
        """Go on where another process stopped: its rounds, and what its trials came to."""
        self._recorded = [event for event in rounds if event["event"] == "round"]
        self.outcomes = {_key(o.fit): o for o in outcomes}
        for event in rounds:
            if event["event"] == "added":
                outcome = self.outcomes[event["legs"][0]["trial"], 0]
                outcome.until = 0 if outcome.stop else outcome.fit.epochs
                own = self.states.position(outcome.trial)
                outcome.start = (outcome.trial, own) if own else _from(event)
                if outcome.is_going:
                    self._added.append(Planned(outcome.fit, [outcome]))

    @property
    def free(self) -> int | None:
        """The number that one more trial may have; None where the procedure names trials later."""
        taken = max(trial for trial, _ in self.outcomes)
        return taken + 1 if self.search.procedure in AT_ONCE else None

    def add(self, fit: Fit, parent: tuple[int, int] | None) -> Planned:
        """One more trial, alone; it goes on from the state of `parent`: a trial and its epochs."""
        outcome = Outcome(fit, until=fit.epochs)
        leg = {"trial": fit.trial, "epochs": fit.epochs, "parent": 0}
        event = {
            "event": "added",
            "legs": [leg | {"configuration": configuration_of(fit, self.tuned)}],
            "plan": print_plan(self.search.replace(trials=(fit,))),
            "from": parent,
        }
        self._journal(event)
        outcome.start = _from(event)
        if parent:
            outcome.epochs = list(self.outcomes[parent[0], 0].epochs[: parent[1]])
        self.outcomes[_key(fit)] = outcome
        return Planned(fit, [outcome])

    def again(self, outcome: Outcome) -> Planned:
        """A trial that users stopped goes on to its end, alone or in a stack as it was."""
        epochs = len(outcome.epochs)
        self._journal({"event": "continued", "trial": outcome.trial, "epochs": epochs})
        # The group it was in may still train others: it keeps the outcome that has ended.
        found = replace(
            outcome, status="", stop=False, epochs=list(outcome.epochs), outputs=None, params={},
            until=outcome.fit.epochs, start=(outcome.trial, Position(epochs)),
        )  # fmt: skip
        self.outcomes[_key(outcome.fit)] = found
        return Planned(FusedFit((found.fit,)) if found.fused else found.fit, [found])

    def __iter__(self) -> Iterator[list[Planned]]:
        legs = next(self._rounds)
        while True:
            items = self._items(legs)
            self._begin(legs, items)
            yield [*self._to_train(items), *self._added]
            self._added = []
            self._ends |= {leg.trial: leg.epochs for leg in legs}
            try:
                legs = self._rounds.send(self._results(legs))
            except StopIteration:
                return

    def left(self) -> list[Planned]:
        """Trials without a status after the last round, with where their states lie."""
        groups: list[Planned] = []
        for outcome in self.outcomes.values():
            if not outcome.status:
                outcome.start = (outcome.trial, Position(len(outcome.epochs)))
                item = FusedFit((outcome.fit,)) if outcome.fused else outcome.fit
                groups.append(Planned(item, [outcome]))
        return groups

    # -- one round ---------------------------------------------------------------------------------

    def _items(self, legs: Sequence[Leg]) -> list[Item]:
        """The groups of a round: as recorded, as planned first, or planned now."""
        if self._recorded:
            event = self._recorded.pop(0)
            if event["legs"] != [_plain(leg) for leg in legs]:
                raise StoreError(
                    f"the journal of `{self.search.name}` tells of other decisions than its search "
                    "procedure takes now: it was written by another version",
                    hint="start the search again",
                )
            found = parse_plan(event["plan"])
            assert isinstance(found, Search), found
            return list(found.trials)
        items = list(self.search.trials) if not self.outcomes else self._planned(legs)
        plan = print_plan(self.search.replace(trials=tuple(items)))
        self._journal({"event": "round", "legs": [_plain(leg) for leg in legs], "plan": plan})
        return items

    def _planned(self, legs: Sequence[Leg]) -> list[Item]:
        """Trials that go on stay what they are, alone or in a stack; new ones are planned."""
        template = self.search.fits[0]
        fits = {leg.trial: configured(template, leg.trial, leg.configuration) for leg in legs}
        before = {leg.trial: self.outcomes.get((leg.parent or leg.trial, 0)) for leg in legs}
        alone = [t for t, o in before.items() if o is not None and not o.fused]
        items: list[Item] = [fits[t] for t in alone]
        batches: dict[int, list[Fit]] = {}
        workers = len(alone)
        for trial, outcome in before.items():
            if trial not in alone:
                batches.setdefault(len(outcome.epochs) if outcome else -1, []).append(fits[trial])
        for epochs, batch in batches.items():
            found = self.replan(self.search.replace(trials=tuple(batch)))
            stacked = epochs >= 0
            items += [FusedFit((i,)) if stacked and isinstance(i, Fit) else i for i in found.trials]
            workers += found.workers
        self.workers = max(self.workers, workers)
        return items

    def _begin(self, legs: Sequence[Leg], items: Sequence[Item]) -> None:
        """Set what each trial is to do in this round."""
        by_trial = {leg.trial: leg for leg in legs}
        for item in items:
            fused = isinstance(item, FusedFit)
            for fit in item.fits if isinstance(item, FusedFit) else (item,):
                outcome = self.outcomes.setdefault(_key(fit), Outcome(fit))
                leg = by_trial[fit.trial]
                if outcome.status or outcome.stop or len(outcome.epochs) >= leg.epochs:
                    continue  # it ended, or had this round behind it when the process stopped
                outcome.fit, outcome.fused, outcome.until = fit, fused, leg.epochs
                outcome.start = self._start(leg)

    def _start(self, leg: Leg) -> tuple[int, Position] | None:
        """Where a leg begins: its trial's furthest state, or at first its parent's."""
        own, before = self.states.position(leg.trial), self._ends.get(leg.trial, 0)
        if leg.parent and (own is None or (own.epoch, own.done) <= (before, 0)):
            return leg.parent, Position(before)
        return None if own is None else (leg.trial, own)

    def _to_train(self, items: Sequence[Item]) -> list[Planned]:
        """The trials of a round that have something to do, those of a group equally far."""
        found: list[Planned] = []
        for item in items:
            fits = item.fits if isinstance(item, FusedFit) else (item,)
            going = [o for fit in fits if (o := self.outcomes[_key(fit)]).is_going]
            for place in dict.fromkeys(_place(o) for o in going):
                mine = [o for o in going if _place(o) == place]
                stack = FusedFit(tuple(o.fit for o in mine))
                found.append(Planned(stack if isinstance(item, FusedFit) else mine[0].fit, mine))
        return found

    def _results(self, legs: Sequence[Leg]) -> dict[int, Result]:
        return {leg.trial: self._result(leg) for leg in legs if (leg.trial, 0) in self.outcomes}

    def _result(self, leg: Leg) -> Result:
        """What a trial had come to at the end of a leg, whatever it did afterwards."""
        outcome = self.outcomes[leg.trial, 0]
        epochs = outcome.epochs[: leg.epochs]
        failed = outcome.status == FAILED and len(epochs) < leg.epochs
        value = math.nan if failed else outcome.value(self.search.metric, len(epochs))
        return Result(
            leg.trial, len(epochs), -math.inf if math.isnan(value) else self._sign * value
        )


def _key(fit: Fit) -> tuple[int, int]:
    return fit.trial, fit.data.split.fold


def _from(event: Mapping[str, Any]) -> tuple[int, Position] | None:
    """Where an added trial begins."""
    return (event["from"][0], Position(event["from"][1])) if event["from"] else None


def _place(outcome: Outcome) -> tuple[int, int]:
    return (outcome.start[1].epoch, outcome.start[1].done) if outcome.start else (0, 0)


def _plain(leg: Leg) -> dict[str, Any]:
    values = {n: list(v) if isinstance(v, tuple) else v for n, v in leg.configuration.items()}
    return {
        "trial": leg.trial, "epochs": leg.epochs, "parent": leg.parent, "configuration": values
    }  # fmt: skip
