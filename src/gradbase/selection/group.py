"""Training one group of trials, alone or fused, from its first epoch to every trial's end."""

from __future__ import annotations

import math
import time
import traceback
from typing import TYPE_CHECKING

from gradbase.errors import CancelledError, EngineError, InternalError, StoreError, UnsupportedError
from gradbase.ir.learning import MINIMISED, Fit, FusedFit
from gradbase.runtime.train.trainer import make_trainer
from gradbase.selection.outcome import LOSS, Outcome
from gradbase.selection.procedure import EpochResult, Procedure
from gradbase.selection.watch import Unit, Watch
from gradbase.store.records import FAILED, STOPPED, SUCCEEDED, EpochRecord

if TYPE_CHECKING:
    from gradbase.runtime.train.data import TrainingData
    from gradbase.runtime.train.trainer import Trainer
    from gradbase.selection.networks import Networks

FATAL = (CancelledError, StoreError, EngineError, InternalError)
"""Errors that end a search: no other trial would fare better."""


class Group:
    """The trials of one `Fit` or `FusedFit`.

    A trial that raises, or whose loss is no longer finite, fails alone; the others go on and are
    not changed by it.
    """

    def __init__(
        self,
        item: Fit | FusedFit,
        data: TrainingData,
        networks: Networks,
        procedure: Procedure,
        metric: str,
    ) -> None:
        self.item, self.data, self.networks = item, data, networks
        self.procedure, self.metric = procedure, metric
        fits = item.fits if isinstance(item, FusedFit) else (item,)
        self.outcomes = [Outcome(fit) for fit in fits]

    @property
    def running(self) -> list[Outcome]:
        return [o for o in self.outcomes if not o.status]

    def train(self, watch: Watch, worker: int) -> None:
        """Run every epoch; afterwards each outcome has a status."""
        try:
            watch.check()
            trainer = make_trainer(self.item, self.data, self.networks)
            epoch = 0
            while self.running:
                self._epoch(trainer, epoch, watch, worker)
                epoch += 1
        except FATAL:
            raise
        except Exception as error:
            for outcome in self.running:
                self._fail(outcome, error, watch)

    def _epoch(self, trainer: Trainer, epoch: int, watch: Watch, worker: int) -> None:
        started = time.perf_counter()
        units: list[Unit] = []
        for turn in range(self.data.shards):
            watch.check()
            shard, unit_started = (turn + epoch) % self.data.shards, time.perf_counter()
            trainer.run_unit(epoch, shard)
            units.append((shard, time.perf_counter() - unit_started))
        running = self.running
        for outcome, measured in zip(running, trainer.evaluate(), strict=True):
            outcome.epochs.append(measured)
        seconds = (time.perf_counter() - started) / len(running)
        watch.epoch(running, units, worker)
        self._end_some(trainer, watch)
        del seconds

    def _end_some(self, trainer: Trainer, watch: Watch) -> None:
        """Give their status to trials that failed, are done, converged or are stopped."""
