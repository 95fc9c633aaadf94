"""What all workers of a search share: the journal, the listener, and the switch that stops it."""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from gradbase.errors import CancelledError
from gradbase.runtime.train.trainer import Ran
from gradbase.selection.outcome import Outcome
from gradbase.selection.progress import Listener, Silent
from gradbase.selection.states import Position
from gradbase.store.records import EpochRecord

log = logging.getLogger("gradbase.selection")


class Unit(NamedTuple):
    """A unit that was trained: its shard, rows, and where."""

    shard: int
    rows: int
    ran: Ran

    @property
    def seconds(self) -> float:
        """Of the worker; not those in which the trial waited for one."""
        return sum(self.ran.seconds.values())

    @property
    def plain(self) -> dict[str, Any]:
        """As the journal has it."""
        ran = self.ran
        return {
            "shard": self.shard, "seconds": round(self.seconds, 6), "rows": self.rows,
            "worker": ran.worker, "attempt": ran.attempt, "moved_bytes": ran.moved_bytes,
            **{f"{part}_s": round(s, 6) for part, s in ran.seconds.items()},
        }  # fmt: skip


class Journal(Protocol):
    """Where events are written durably."""

    def append(self, event: Mapping[str, Any], *, durable: bool = True) -> None: ...


class Watch:
    """Journal and listener, one event at a time; asks whether to stop.

    Parameters
    ----------
    cancelled : threading.Event
        Set by the user's `cancel`.
    """

    def __init__(
        self, journal: Journal, listener: Listener, metric: str, cancelled: threading.Event
    ) -> None:
        self._journal, self._listener, self._metric = journal, listener, metric
        self._cancelled = cancelled
        self._abandoned = threading.Event()
        self._started = False
        self._lock = threading.Lock()
        self._units: list[dict[str, Any]] = []
        self.epochs = 0

    def check(self) -> None:
        """CancelledError once somebody has cancelled, or another worker hit a fatal error."""
        if self._cancelled.is_set() or self._abandoned.is_set():
            raise CancelledError("the search was cancelled")

    def abandon(self) -> None:
        """Make every worker stop at its next check."""
        self._abandoned.set()

    def data(self, what: str, rows: int) -> None:
        """The rows are being made ready; not told once trials train, while folds are dealt out."""
        if not self._started:
            self._tell(lambda to: to.on_data(what, rows))

    def started(self, outcomes: Sequence[Outcome]) -> None:
        """A round of training begins; after folds the best trial trains once more."""
        self._started = True
        epochs = sum(o.until - len(o.epochs) for o in outcomes)
        epochs += sum(o.fit.epochs for o in outcomes[:1] if o.fit.data.split.folds)
        self._tell(lambda to: to.on_start(len(outcomes), epochs))

    def finished(self, message: str) -> None:
        """The search is over."""
        self._tell(lambda to: to.on_end(message))

    def saved(
        self, outcomes: Sequence[Outcome], at: Position, file: str, units: Sequence[Unit]
    ) -> None:
        """The states of a group's trials are on disk: the units until then are committed."""
        event = {"event": "saved", "trials": [o.trial for o in outcomes], "epoch": at.epoch}
        event |= {"done": at.done, "file": file, "units": [unit.plain for unit in units]}
        with self._lock:
            self._journal.append(event)
            self._units.append(event)

    def take_units(self) -> list[dict[str, Any]]:
        """Events with units that are in the journal since the last call."""
        with self._lock:
            found, self._units = self._units, []
            return found

    def give_back_units(self, events: Sequence[dict[str, Any]]) -> None:
        """They could not be copied into the catalog yet."""
        with self._lock:
            self._units[:0] = events

    def written(self, size_bytes: int, seconds: float, access: str) -> None:
        """The rows of a dataset were made ready for workers, which get at them so."""
        event = {"event": "shards", "bytes": size_bytes, "seconds": round(seconds, 6)}
        event |= {"access": access}
        with self._lock:
            self._journal.append(event)

    def trained(self, workers: int, seconds: float) -> None:
        """A round is over: it took so long on so many workers."""
        event = {"event": "trained", "workers": workers, "seconds": round(seconds, 6)}
        with self._lock:
            self._journal.append(event)

    def epoch(
        self, outcomes: Sequence[Outcome], units: Sequence[Unit], worker: int, validate_s: float
    ) -> None:
        """A group has trained and validated one epoch; its records are the outcomes' last.

        `units` are those that `saved` has not told.
        """
        trials = {o.trial: _plain(o.epochs[-1]) for o in outcomes}
        number = outcomes[0].epochs[-1].epoch
        event: dict[str, Any] = {
            "event": "epoch",
            "epoch": number,
            "worker": worker,
            "trials": trials,
            "units": [unit.plain for unit in units],
            "validate_s": round(validate_s, 6),
        } | _fold(outcomes[0])
        with self._lock:
            self._journal.append(event)
            self._units.append(event)
            self.epochs += len(outcomes)
            for outcome in outcomes:
                # One fold's metric is not the trial's: it must not pass for the best so far.
                value = math.nan if _fold(outcome) else outcome.value(self._metric)
                shown = outcome.metrics | {"loss": outcome.value("loss"), self._metric: value}
                log.info("trial %d, epoch %d: %s", outcome.trial, number + 1, _said(shown))
                self._tell(lambda to, o=outcome, s=shown: to.on_epoch(o.trial, number + 1, s))

    def ended(self, outcome: Outcome, reason: str) -> None:
        """A trial is over; `reason` is ``done``, ``converged``, ``stopped`` or ``failed``."""
        event = {"event": reason, "trial": outcome.trial, "status": outcome.status}
        event |= {"epochs": len(outcome.epochs)} | _fold(outcome)
        if outcome.error:
            event |= {"error": outcome.error, "traceback": outcome.traceback}
        with self._lock:
            # That it is done follows from its epochs; a flush for each would be what costs most.
            self._journal.append(event, durable=reason == "failed")
            left = max(0, outcome.until - len(outcome.epochs))
            self._tell(lambda to: to.on_trial_end(outcome.trial, outcome.status, left))

    def _tell(self, what: Callable[[Listener], None]) -> None:
        """Progress that cannot be shown stops being shown; the search goes on."""
        try:
            what(self._listener)
        except Exception as error:  # noqa: BLE001
            log.warning("progress is no longer reported: %s: %s", type(error).__name__, error)
            self._listener = Silent()


def _said(metrics: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.4g}" for name, value in metrics.items())


def _fold(outcome: Outcome) -> dict[str, int]:
    fold = outcome.fit.data.split.fold
    return {"fold": fold} if fold else {}


def _plain(epoch: EpochRecord) -> dict[str, Any]:
    return {
        "train_loss": epoch.train_loss,
        "eval_loss": epoch.eval_loss,
        "metrics": dict(epoch.metrics),
        "learn_rate": epoch.learn_rate,
        "seconds": epoch.seconds,
    }
