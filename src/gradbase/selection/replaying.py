"""Training one trial of a search again, from what the search's journal says, to the same bits."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gradbase.errors import BindError, DataError, TrainingError, UnsupportedError, near
from gradbase.frontend.torch_export import Exporter
from gradbase.ir.learning import Fit, FusedFit, Search
from gradbase.ir.parser import parse_plan
from gradbase.selection.deals import read
from gradbase.selection.executors.in_process import InProcess
from gradbase.selection.group import Group, Shared
from gradbase.selection.networks import Networks
from gradbase.selection.outcome import Outcome
from gradbase.selection.progress import Silent
from gradbase.selection.resuming import Interrupted
from gradbase.selection.states import Position, States
from gradbase.selection.watch import Watch
from gradbase.selection.workers import Workers
from gradbase.store.records import FAILED, EpochRecord

if TYPE_CHECKING:
    import numpy as np

    from gradbase.ir.conversion import ToTable
    from gradbase.ir.learning import Model
    from gradbase.runtime.context import RunContext
    from gradbase.store.journal import Event


@dataclass(frozen=True)
class Replay:
    """A trial that was trained again.

    Parameters
    ----------
    trial : int
    epochs : sequence of EpochRecord
        What was trained: of a trial that went on from another one, first the other's.
    outputs : tuple of ToTable
        The programs of its model, small constants included.
    params : mapping
        The others, by hash.
    same : bool
        Whether programs and constants are those of the store, bit for bit.
    """

    trial: int
    epochs: Sequence[EpochRecord]
    outputs: tuple[ToTable, ...]
    params: Mapping[str, np.ndarray[Any, Any]]
    same: bool


@dataclass(frozen=True)
class Stretch:
    """A leg to train again: from the state that the one before it had after `before` epochs."""

    item: Fit | FusedFit
    before: int
    until: int

    @property
    def fit(self) -> Fit:
        return self.item.fits[0] if isinstance(self.item, FusedFit) else self.item


def replay(
    past: Interrupted,
    stored: Model,
    context: RunContext,
    python_modules: Sequence[str] = (),
) -> Replay:
    """Train the trial of a stored model again, and those whose states it went on from.

    Raises
    ------
    BindError
        The search had no such trial.
    DataError
        The rows of its query have changed.
    TrainingError
        It fails now.
    UnsupportedError
        It was trained on folds.
    """
    trial = stored.trial
    stretches = stretches_of(past.events, trial)
    search = past.search().replace(executor="in_process", workers=1)
    watch = Watch(_Nowhere(), Silent(), search.metric, context.cancelled)
    with tempfile.TemporaryDirectory(prefix="gradbase-replay-") as folder:
        deals = read(search, context, watch.data)
        threads = max(1, search.threads)
        executor = InProcess(search.name, context, watch, drivers=1, threads=threads)
        shared = Shared(Networks(python_modules), Exporter(), States(Path(folder)), threads)
        workers = Workers(search, context, watch, deals, executor)
        try:
            found = _Again(past, workers, shared).run(stretches)
        finally:
            deals.close()
    if found.status == FAILED or found.outputs is None:
        raise TrainingError(
            f"trial {trial} cannot be trained again: {found.error}",
            hint="its function must be as it was when it was trained",
        )
    # Equal programs are one object; large constants are in them by the hash of their content.
    same = found.outputs == stored.outputs
    return Replay(trial, tuple(found.epochs), found.outputs, found.params, same)


def stretches_of(events: Sequence[Event], trial: int) -> list[Stretch]:
    """The legs that made a trial what it is, in the order of training."""
    rounds = [e for e in events if e["event"] in ("round", "added")]
    ends: dict[int, int] = {}
    for event in events:
        if event["event"] in ("stopped", "converged"):
            ends[event["trial"]] = event["epochs"]
        elif event["event"] == "continued":
            ends.pop(event["trial"], None)
    numbers = {leg["trial"] for e in rounds for leg in e["legs"]}
    if trial not in numbers:
        raise BindError(
            f"the search had no trial {trial}",
            hint=near(str(trial), [str(n) for n in sorted(numbers)]),
        )
    reached: dict[int, int] = {}
    made: dict[int, list[Stretch]] = {}
    for event in rounds:
        plan = parse_plan(event["plan"])
        assert isinstance(plan, Search), plan
        before = dict(made)
        for leg in event["legs"]:
            number, given = leg["trial"], event.get("from")
            parent, start = given or (leg["parent"], reached.get(leg["trial"], 0))
            until = min(leg["epochs"], ends.get(number, leg["epochs"]))
            if until > start:
                earlier = _cut(before.get(parent or number, []), start)
                made[number] = [*earlier, _stretch(plan, number, start, until)]
        reached |= {leg["trial"]: leg["epochs"] for leg in event["legs"]}
    return made[trial]


def _cut(stretches: Sequence[Stretch], epochs: int) -> list[Stretch]:
    """As much of them as was trained after so many epochs."""
    return [replace(s, until=min(s.until, epochs)) for s in stretches if s.before < epochs]


def _stretch(plan: Search, trial: int, before: int, until: int) -> Stretch:
    """What a plan says of a trial, in a stack of its own where it was in one."""
    for item in plan.trials:
        for fit in item.fits if isinstance(item, FusedFit) else (item,):
            if fit.trial == trial:
                if fit.data.split.folds:
                    raise UnsupportedError(
                        f"trial {trial} was several trainings, one on each fold",
                        hint="train again: the same seed gives the same models",
                    )
                kept = FusedFit((fit,)) if isinstance(item, FusedFit) else fit
                return Stretch(kept, before, until)
    raise AssertionError(f"trial {trial} is not in its plan")


class _Again:
    def __init__(self, past: Interrupted, workers: Workers, shared: Shared) -> None:
        self.past, self.workers, self.shared = past, workers, shared

    def run(self, stretches: Sequence[Stretch]) -> Outcome:
        """Train one stretch after the other; the last one's outcome."""
        self._check_rows(stretches[0].fit)
        found: Outcome | None = None
        for stretch in stretches:
            found = self._trained(stretch, found)
            if found.status == FAILED:
                break
        assert found is not None
        if not found.status:  # its leg is over, and its model wanted
            found.start = (found.trial, Position(len(found.epochs)))
            self.workers.conclude([self._group(stretches[-1], found)])
        return found

    def _trained(self, stretch: Stretch, before: Outcome | None) -> Outcome:
        outcome = Outcome(
            stretch.fit, fused=isinstance(stretch.item, FusedFit), until=stretch.until
        )
        if before is not None:
            outcome.epochs = list(before.epochs[: stretch.before])
            outcome.start = (before.trial, Position(stretch.before))
        self.workers.train([self._group(stretch, outcome)])
        return outcome

    def _group(self, stretch: Stretch, outcome: Outcome) -> Group:
        group = Group(stretch.item, self.shared, [outcome])
        self.workers.deals.expect([group.data])
        return group

    def _check_rows(self, fit: Fit) -> None:
        self.workers.deals.expect([fit.data])
        data = self.workers.deals.take(fit.data)
        if data.relation_hash != self.past.relation_hash:
            raise DataError(
                "the rows of the training query have changed since the search",
                hint="with other rows there are other weights: train again",
            )


class _Nowhere:
    """The journal of what nobody goes on with."""

    def append(self, event: Mapping[str, Any], *, durable: bool = True) -> None:
        """Forget it."""
