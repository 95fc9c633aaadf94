"""Training one group of trials, alone or fused, from its first epoch to every trial's end."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Generator, Mapping, Sequence
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
from gradbase.ir.conversion import ToTable
from gradbase.ir.learning import Fit, FusedFit, PythonNetwork
from gradbase.runtime.train.finish import Params
from gradbase.runtime.train.schedules import Schedules, factor, no_schedules
from gradbase.runtime.train.trainer import Ran, make_trainer, shard_order
from gradbase.selection.networks import Networks
from gradbase.selection.outcome import Outcome
from gradbase.selection.states import Pace, Position, States
from gradbase.selection.tracing import tracing, training
from gradbase.selection.watch import Unit, Watch
from gradbase.store.records import FAILED, STOPPED, SUCCEEDED, EpochRecord

if TYPE_CHECKING:
    from gradbase.runtime.train.data import TrainingData
    from gradbase.runtime.train.step_memory import StepMemory
    from gradbase.runtime.train.trainer import Evaluation, Trainer
    from gradbase.selection.executors.base import Trains

FATAL = (CancelledError, StoreError, EngineError, InternalError)
"""Errors that end a search: no other trial would fare better."""
_FRAMES = 20
Finishing = Callable[[], tuple[tuple[ToTable, ...], Params]]


@dataclass(frozen=True)
class Shared:
    """What all groups of a search have in common."""

    networks: Networks
    exporter: Exporter
    states: States
    threads: int


class Group:
    """The trials of one `Fit` or `FusedFit`, which have come equally far.

    A trial that raises, or whose loss is no longer finite, fails alone: the others go on with the
    numbers they would have had without it. A fold's models and states are not kept.
    """

    def __init__(
        self, item: Fit | FusedFit, shared: Shared, outcomes: Sequence[Outcome] | None = None
    ) -> None:
        self.item, self.shared = item, shared
        fits = item.fits if isinstance(item, FusedFit) else (item,)
        self.outcomes = [Outcome(f, until=f.epochs) for f in fits] if outcomes is None else outcomes
        self.data = fits[0].data
        self.eval_rows = 0
        self.is_module = isinstance(fits[0].network, PythonNetwork)
        self._untraced: dict[int, Finishing] = {}
        self._built: Trainer | None = None
        self._pace = Pace()
        self._position = self._start()
        self._losses = [0.0] * len(fits)
        self._state_bytes = -1
        self._untold: list[Unit] = []

    def split(self) -> list[Group]:
        """Two groups of half the trials each, with the same outcomes."""
        assert isinstance(self.item, FusedFit)
        half = (len(self.outcomes) + 1) // 2
        return [
            Group(FusedFit(fits), self.shared, outcomes)
            for fits, outcomes in (
                (self.item.fits[:half], self.outcomes[:half]),
                (self.item.fits[half:], self.outcomes[half:]),
            )
        ]

    @contextmanager
    def failing(self, watch: Watch) -> Generator[None]:
        """An error inside fails the trials that have no status yet; others go on."""
        try:
            watch.check()
            yield
        except FATAL:
            raise
        except Exception as error:  # noqa: BLE001 (a trial's error is recorded, the others go on)
            for outcome in self.outcomes:
                if not outcome.status:
                    _fail(outcome, error, watch)

    def step_memory(self, data: TrainingData, limit: int) -> StepMemory | None:
        """Of a user's module, which has to be built for it; `build` gives it away then."""
        self._built = self.build(data)
        return self._built.step_memory(limit)

    def build(self, data: TrainingData) -> Trainer:
        """The group's trainer, with its first weights."""
        self.eval_rows = len(data.parts.eval)
        found, self._built = self._built, None
        if found is not None:
            return found
        with self._steps():
            return make_trainer(
                self.item, data, self.shared.networks,
                threads=self.shared.threads, exporter=self.shared.exporter,
            )  # fmt: skip

    def train(self, trainer: Trains, watch: Watch, worker: int) -> None:
        """Run every epoch of the leg; afterwards each outcome is at its end, or has a status."""
        self._restore(trainer)
        try:
            while self._going:
                self._epoch(trainer, watch, worker)
        except CancelledError:
            self._save(trainer, watch, list(self._going))
            raise

    def conclude(self, trainer: Trains, watch: Watch) -> None:
        """Give trials that will not go on their status and model, from their saved states."""
        self._restore(trainer)
        with self._steps():
            trainer.evaluate("eval" if trainer.data.has("eval") else "train")
        self._close(trainer, {p: _reason(o) or "stopped" for p, o in self._open.items()}, watch)

    def finish(self) -> None:
        """Trace modules that have ended; for when no other trial of the search trains."""
        for place, finishing in self._untraced.items():
            with tracing():
                _keep_model(finishing, self.outcomes[place])
        self._untraced.clear()

    def _steps(self) -> AbstractContextManager[None]:
        """What the trainer's work stands under."""
        return training() if self.is_module else nullcontext()

    @property
    def _open(self) -> dict[int, Outcome]:
        """Those without a status, by place in the group."""
        return {place: o for place, o in enumerate(self.outcomes) if not o.status}

    @property
    def _going(self) -> dict[int, Outcome]:
        return {place: o for place, o in enumerate(self.outcomes) if o.is_going}

    # -- states ------------------------------------------------------------------------------------

    def _start(self) -> Position:
        starts = {o.start[1] if o.start else Position(0) for o in self.outcomes}
        positions = {(s.epoch, s.done) for s in starts}
        assert len(positions) == 1, f"trials that have come differently far: {starts}"
        return next(iter(starts))

    def _restore(self, trainer: Trains) -> None:
        for place, outcome in self._open.items():
            if outcome.start:
                trial, at = outcome.start
                trainer.load_state(place, self.shared.states.load(trial, at.epoch, at.done))
                self._losses[place] = at.loss

    def _save(
        self, trainer: Trains, watch: Watch, places: Sequence[int], *, must: bool = True
    ) -> None:
        """Save these trials' states; unless they `must` be there, only where it is worth it."""
        active = [p for p in places if p in trainer.active]
        if self.data.split.fold or not active:
            return
        started = time.perf_counter()
        if not must and not self._pace.is_due(self._size(trainer) * len(active)):
            return
        at = self._position
        path = self.shared.states.save(
            {
                self.outcomes[p].trial: (at._replace(loss=self._losses[p]), trainer.state(p))
                for p in active
            }
        )
        watch.saved([self.outcomes[p] for p in active], at, path.name, self._untold)
        self._untold = []
        self._pace.saved(time.perf_counter() - started)

    def _size(self, trainer: Trains) -> int:
        """Bytes of one trial's state."""
        if self._state_bytes < 0:
            state = trainer.state(trainer.active[0])
            self._state_bytes = sum(t.nbytes for t in state.values())
        return self._state_bytes

    # -- epochs ------------------------------------------------------------------------------------

    def _epoch(self, trainer: Trains, watch: Watch, worker: int) -> None:
        held_out, started = trainer.data.has("eval"), time.perf_counter()
        self._units(trainer, watch, worker)
        validating = time.perf_counter()
        with self._steps():
            measured = trainer.evaluate("eval" if held_out else "train")
        validate_s = trainer.validate_s or time.perf_counter() - validating
        epoch = self._position.epoch
        going = {p: o for p, o in self._going.items() if p not in trainer.failed}
        seconds = (time.perf_counter() - started) / max(len(going), 1)
        for place, outcome in going.items():
            loss, metrics = measured[place]
            steps = trainer.data.steps(outcome.fit.batch_size)
            rate = learn_rate_of(outcome.fit, epoch, steps, self.shared.networks.schedule)
            eval_loss = loss if held_out else None
            outcome.epochs.append(
                EpochRecord(epoch, self._losses[place], eval_loss, metrics, rate, seconds)
            )
        if going:
            watch.epoch(list(going.values()), self._untold, worker, validate_s)
            self._untold = []
        for place, error in trainer.failed.items():
            if not self.outcomes[place].status:
                _fail(self.outcomes[place], error, watch)
        self._position, self._losses = Position(epoch + 1), [0.0] * len(self.outcomes)
        self._end_some(trainer, going, watch)
        wanted = [p for p, o in self._going.items() if o.keep]
        self._save(trainer, watch, list(self._going), must=bool(wanted))

    def _units(self, trainer: Trains, watch: Watch, worker: int) -> None:
        """Train over the rest of an epoch's shards."""
        rows = [len(shard) for shard in trainer.data.shards]
        epoch, done, _ = self._position
        for shard in shard_order(epoch, len(rows), self.outcomes[0].fit.first_shard)[done:]:
            watch.check()
            started, read_s = time.perf_counter(), trainer.data.read_s
            with self._steps():
                found = trainer.run_unit(epoch, shard)
            seconds = time.perf_counter() - started
            decode_s = min(trainer.data.read_s - read_s, seconds)
            here = Ran(worker, seconds={"decode": decode_s, "train": seconds - decode_s})
            self._untold.append(Unit(shard, rows[shard], trainer.ran or here))
            for place, loss in enumerate(found):
                self._losses[place] += loss * rows[shard] / sum(rows)
            done += 1
            self._position = Position(epoch, done)
            if done < len(rows):
                self._save(trainer, watch, list(self._going), must=False)

    def _end_some(self, trainer: Trains, going: Mapping[int, Outcome], watch: Watch) -> None:
        """Close trials that are done or have converged; save those whose leg is over."""
        reasons = {place: reason for place, o in going.items() if (reason := _reason(o))}
        paused = [p for p, o in going.items() if p not in reasons and not o.is_going]
        self._save(trainer, watch, paused)
        # A trial that users stopped may be let go on; from one that has converged where a leg ends
        # others may.
        wanted = any(o.stop or len(o.epochs) == o.until < o.fit.epochs for o in going.values())
        self._save(trainer, watch, list(reasons), must=wanted)
        self._close(trainer, reasons, watch)
        if self._going:
            for place in (*reasons, *paused):
                trainer.drop(place)

    def _close(self, trainer: Trains, reasons: Mapping[int, str], watch: Watch) -> None:
        """Give trials, measured just now, their status and model."""
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
                self._untraced[place] = trainer.here(place).finishing(place)
            else:
                _keep_model(trainer.here(place).finishing(place), outcome)
            outcome.status = STOPPED if reason == "stopped" else SUCCEEDED
            watch.ended(outcome, reason)


def _reason(outcome: Outcome) -> str:
    """Why a trial has ended; '' where it has not."""
    if len(outcome.epochs) >= outcome.fit.epochs:
        return "done"
    if outcome.stop:
        return "stopped"
    return "converged" if outcome.converged() else ""


def learn_rate_of(
    fit: Fit, epoch: int, steps: int, schedules: Schedules = no_schedules
) -> float | None:
    """At the end of an epoch of so many steps; None where no steps are taken."""
    if fit.optimizer.name == NORMAL_EQUATION:
        return None
    steps, own = max(steps, 1), fit.optimizer
    last = (epoch + 1) * steps - 1
    return own.learn_rate * factor(own.stepping, last, steps, fit.epochs, schedules)


def _keep_model(finishing: Finishing, outcome: Outcome) -> None:
    """The trial's program; a network that cannot be stored leaves its reason instead."""
    try:
        outcome.outputs, outcome.params = finishing()
    except (UnsupportedError, ShapeError) as error:
        outcome.error = f"the trained network cannot be stored: {error}"


def told(error: Exception) -> tuple[str, str]:
    """What is said of the error that a trial failed with, and its traceback."""
    known = isinstance(error, GradbaseError)
    text = str(error) if known else f"{type(error).__name__}: {error}"
    return text, "".join(traceback.format_exception(error, limit=-_FRAMES))


def _fail(outcome: Outcome, error: Exception, watch: Watch) -> None:
    outcome.status = FAILED
    outcome.error, outcome.traceback = told(error)
    watch.ended(outcome, "failed")
