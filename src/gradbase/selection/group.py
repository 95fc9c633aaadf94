"""Training one group of trials, alone or fused, from its first epoch to every trial's end."""

from __future__ import annotations

import itertools
import math
import time
import traceback
from collections.abc import Generator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gradbase.errors import (
    CancelledError,
    EngineError,
    GradbaseError,
    InternalError,
    ShapeError,
    StoreError,
    UnsupportedError,
)
from gradbase.frontend.option_table import NORMAL_EQUATION
from gradbase.frontend.torch_export import Exporter
from gradbase.ir.learning import MINIMISED, Fit, FusedFit, PythonNetwork
from gradbase.runtime.train.trainer import make_trainer, shard_order
from gradbase.selection.networks import Networks
from gradbase.selection.outcome import Outcome
from gradbase.selection.procedure import EpochResult, Procedure
from gradbase.selection.tracing import tracing, training
from gradbase.selection.watch import Unit, Watch
from gradbase.store.records import FAILED, STOPPED, SUCCEEDED, EpochRecord

if TYPE_CHECKING:
    from gradbase.runtime.train.data import TrainingData
    from gradbase.runtime.train.trainer import Evaluation, Trainer

FATAL = (CancelledError, StoreError, EngineError, InternalError)
"""Errors that end a search: no other trial would fare better."""
_FRAMES = 20


@dataclass(frozen=True)
class Shared:
    """What all groups of a search have in common."""

    networks: Networks
    exporter: Exporter
    procedure: Procedure
    metric: str
    threads: int


class Group:
    """The trials of one `Fit` or `FusedFit`.

    A trial that raises, or whose loss is no longer finite, fails alone: the others go on with the
    numbers they would have had without it. A fold's models are not kept.
    """

    def __init__(self, item: Fit | FusedFit, shared: Shared) -> None:
        self.item, self.shared = item, shared
        fits = item.fits if isinstance(item, FusedFit) else (item,)
        self.outcomes = [Outcome(fit) for fit in fits]
        self.data = fits[0].data
        self.eval_rows = 0
        self.is_module = isinstance(fits[0].network, PythonNetwork)
        self._untraced: Trainer | None = None

    def split(self) -> list[Group]:
        """Two groups of half the trials each, with the same outcomes."""
        assert isinstance(self.item, FusedFit)
        half = (len(self.outcomes) + 1) // 2
        made: list[Group] = []
        for fits, outcomes in (
            (self.item.fits[:half], self.outcomes[:half]),
            (self.item.fits[half:], self.outcomes[half:]),
        ):
            group = Group(FusedFit(fits), self.shared)
            group.outcomes = outcomes
            made.append(group)
        return made

    @contextmanager
    def failing(self, watch: Watch) -> Generator[None]:
        """An error inside fails the trials that have no status yet; others go on."""
        try:
            watch.check()
            yield
        except FATAL:
            raise
        except Exception as error:  # noqa: BLE001 (a trial's error is recorded, the others go on)
            for outcome in self._running.values():
                _fail(outcome, error, watch)

    def build(self, data: TrainingData) -> Trainer:
        """The group's trainer."""
        self.eval_rows = len(data.parts.eval)
        with self._steps():
            return make_trainer(
                self.item, data, self.shared.networks,
                threads=self.shared.threads, exporter=self.shared.exporter,
            )  # fmt: skip

    def train(self, trainer: Trainer, watch: Watch, worker: int) -> None:
        """Run every epoch; afterwards each outcome has a status."""
        for epoch in itertools.count():
            self._epoch(trainer, epoch, watch, worker)
            if not self._running:
                break

    def finish(self) -> None:
        """Trace a module that has ended; for when no other trial of the search trains."""
        if self._untraced is not None:
            with tracing():
                _keep_model(self._untraced, 0, self.outcomes[0])
            self._untraced = None

    def _steps(self) -> AbstractContextManager[None]:
        """What the trainer's work stands under."""
        return training() if self.is_module else nullcontext()

    @property
    def _running(self) -> dict[int, Outcome]:
        """By place in the group."""
        return {place: o for place, o in enumerate(self.outcomes) if not o.status}

    def _epoch(self, trainer: Trainer, epoch: int, watch: Watch, worker: int) -> None:
        held_out, started = trainer.data.has("eval"), time.perf_counter()
        losses, units = self._units(trainer, epoch, watch)
        with self._steps():
            measured = trainer.evaluate("eval" if held_out else "train")
        going = {p: o for p, o in self._running.items() if p not in trainer.failed}
        seconds = (time.perf_counter() - started) / max(len(going), 1)
        for place, outcome in going.items():
            loss, metrics = measured[place]
            rate = learn_rate_of(outcome.fit)
            eval_loss = loss if held_out else None
            outcome.epochs.append(
                EpochRecord(epoch, losses[place], eval_loss, metrics, rate, seconds)
            )
        if going:
            watch.epoch(list(going.values()), units, worker)
        for place, error in trainer.failed.items():
            if not self.outcomes[place].status:
                _fail(self.outcomes[place], error, watch)
        self._end_some(trainer, going, watch)

    def _units(self, trainer: Trainer, epoch: int, watch: Watch) -> tuple[list[float], list[Unit]]:
        """Train over every shard: each trial's mean loss, and how long each unit took."""
        rows = [len(shard) for shard in trainer.data.shards]
        losses = [0.0] * len(self.outcomes)
        units: list[Unit] = []
        for shard in shard_order(epoch, len(rows)):
            watch.check()
            started = time.perf_counter()
            with self._steps():
                found = trainer.run_unit(epoch, shard)
            units.append((shard, time.perf_counter() - started))
            for place, loss in enumerate(found):
                losses[place] += loss * rows[shard] / sum(rows)
        return losses, units

    def _end_some(self, trainer: Trainer, going: Mapping[int, Outcome], watch: Watch) -> None:
        """Give a status to trials that are done, have converged or are stopped."""
        go_on = self._decide(list(going.values()))
        reasons: dict[int, str] = {}
        for place, outcome in going.items():
            if len(outcome.epochs) >= outcome.fit.epochs:
                reasons[place] = "done"
            elif outcome.converged():
                reasons[place] = "converged"
            elif outcome.trial not in go_on:
                reasons[place] = "stopped"
        tested: list[Evaluation] = []
        if reasons and trainer.data.has("test"):
            with self._steps():
                tested = trainer.evaluate("test")
        for place, reason in reasons.items():
            outcome = self.outcomes[place]
            outcome.test_metrics = dict(tested[place][1]) if tested else {}
            outcome.counts = trainer.counts(place)
            if self.data.split.fold:
                pass
            elif self.is_module:
                self._untraced = trainer
            else:
                _keep_model(trainer, place, outcome)
            outcome.status = STOPPED if reason == "stopped" else SUCCEEDED
            watch.ended(outcome, reason)
        if self._running:
            for place in reasons:
                trainer.drop(place)

    def _decide(self, outcomes: Sequence[Outcome]) -> frozenset[int]:
        metric = self.shared.metric
        results = [
            EpochResult(
                o.trial, len(o.epochs), o.train_loss if o.train_loss is not None else math.nan,
                o.eval_loss, o.value(metric), metric in MINIMISED,
            )
            for o in outcomes
        ]  # fmt: skip
        return self.shared.procedure.decide(results)


def learn_rate_of(fit: Fit) -> float | None:
    """None where no steps are taken."""
    return None if fit.optimizer.name == NORMAL_EQUATION else fit.optimizer.learn_rate


def _keep_model(trainer: Trainer, place: int, outcome: Outcome) -> None:
    """The trial's program; a network that cannot be stored leaves its reason instead."""
    try:
        outcome.outputs, outcome.params = trainer.finish(place)
    except (UnsupportedError, ShapeError) as error:
        outcome.error = f"the trained network cannot be stored: {error}"


def _fail(outcome: Outcome, error: Exception, watch: Watch) -> None:
    known = isinstance(error, GradbaseError)
    outcome.status = FAILED
    outcome.error = str(error) if known else f"{type(error).__name__}: {error}"
    outcome.traceback = "".join(traceback.format_exception(error, limit=-_FRAMES))
    watch.ended(outcome, "failed")
