"""What becomes of a trial while it trains, which trial is best, and the record of all of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from gradbase.errors import TrainingError
from gradbase.ir.conversion import ToTable
from gradbase.ir.learning import Fit, Model, Search
from gradbase.ir.metrics import is_minimised
from gradbase.store.records import (
    FAILED,
    EpochRecord,
    FoldRecord,
    ModelRecord,
    Scores,
    TrialRecord,
    over_folds,
)

if TYPE_CHECKING:
    import numpy as np

    from gradbase.runtime.train.data import TrainingData
    from gradbase.selection.states import Position

_SHOWN = 5
"""Reasons listed where every trial failed for another one."""
LOSS = "loss"
"""The metric that stands for the loss itself."""


@dataclass
class Outcome:
    """A trial's progress. `status` is '' while it runs, also between two rounds of the search.

    `until` is how many epochs it is to have had at the end of its leg; `fused` whether it trains in
    a stack. `start` is where that leg begins: a trial and the position of its saved state; None for
    the first weights. `stop` and `keep` are wishes for the end of its epoch: that it ends, and that
    its state is saved.
    `outputs` are None where the trial failed, and where its network cannot be stored; `error` says
    why. `counts` are a classifier's, see `Trainer.counts`.
    """

    fit: Fit
    status: str = ""
    error: str | None = None
    traceback: str | None = None
    epochs: list[EpochRecord] = field(default_factory=list)
    test_metrics: dict[str, float] = field(default_factory=dict)
    outputs: tuple[ToTable, ...] | None = None
    params: dict[str, np.ndarray] = field(default_factory=dict)
    folds: tuple[FoldRecord, ...] = ()
    counts: Scores | np.ndarray | None = None
    until: int = 0
    fused: bool = False
    start: tuple[int, Position] | None = None
    stop: bool = False
    keep: bool = False

    @property
    def trial(self) -> int:
        return self.fit.trial

    @property
    def metrics(self) -> dict[str, float]:
        """Of the last epoch; with folds the means over them."""
        if self.folds:
            names = self.folds[0].metrics
            return {n: self._mean([f.metrics.get(n) for f in self.folds]) for n in names}
        return dict(self.epochs[-1].metrics) if self.epochs else {}

    @property
    def train_loss(self) -> float | None:
        if self.folds:
            return self._mean([f.train_loss for f in self.folds])
        return self.epochs[-1].train_loss if self.epochs else None

    @property
    def eval_loss(self) -> float | None:
        if self.folds:
            return self._mean([f.eval_loss for f in self.folds])
        return self.epochs[-1].eval_loss if self.epochs else None

    def _mean(self, values: Sequence[float | None]) -> float:
        return over_folds(values, [f.rows for f in self.folds])[0]

    def value(self, metric: str, epochs: int | None = None) -> float:
        """The metric after the last epoch, or after so many; NaN where there is none."""
        if epochs is None:
            return value_of(metric, self.metrics, self.train_loss, self.eval_loss)
        if not epochs:
            return math.nan
        at = self.epochs[epochs - 1]
        return value_of(metric, at.metrics, at.train_loss, at.eval_loss)

    @property
    def is_going(self) -> bool:
        """Whether its leg is not over."""
        return not self.status and len(self.epochs) < self.until and not self.converged()

    def converged(self) -> bool:
        """Whether the loss has not improved enough for `patience` epochs in a row.

        Enough is the trial's relative minimum, of the best loss so far. The loss is that of the
        evaluation rows, of the training rows where nothing is held out.
        """
        if not self.fit.early_stop or not self.epochs:
            return False
        best, waited = _stopping_loss(self.epochs[0]), 0
        for epoch in self.epochs[1:]:
            loss = _stopping_loss(epoch)
            if best - loss < self.fit.min_rel_progress * abs(best):
                waited += 1
            else:
                best, waited = loss, 0
        return waited >= self.fit.patience


def _stopping_loss(epoch: EpochRecord) -> float:
    loss = epoch.train_loss if epoch.eval_loss is None else epoch.eval_loss
    return math.nan if loss is None else loss


def value_of(
    metric: str, metrics: Mapping[str, float], train_loss: float | None, eval_loss: float | None
) -> float:
    """`metric` of what was measured; ``loss`` is the evaluation loss, else the training loss."""
    if metric == LOSS:
        loss = train_loss if eval_loss is None else eval_loss
        return math.nan if loss is None else loss
    return metrics.get(metric, math.nan)


def best_of(outcomes: Sequence[Outcome], metric: str) -> Outcome:
    """The best trial that did not fail: NaN never wins, ties go to the lowest trial number.

    Where no trial has a value (one class among the evaluation rows), the loss decides.
    """
    sign = 1.0 if is_minimised(metric) else -1.0

    def rank(outcome: Outcome) -> tuple[int, float, int]:
        value = outcome.value(metric)
        if not math.isnan(value):
            return (0, sign * value, outcome.trial)
        loss = outcome.value(LOSS)
        return (1, math.inf if math.isnan(loss) else loss, outcome.trial)

    return min((o for o in outcomes if o.status != FAILED), key=rank)


def all_failed(name: str, outcomes: Sequence[Outcome]) -> TrainingError:
    """The error of a search without a single trial left; equal reasons are told once."""
    reasons: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        reason = (outcome.error or "").partition("\n")[0]
        reasons.setdefault(reason.replace(f" of trial {outcome.trial}", ""), []).append(outcome)
    told = [f"trial {_numbers(o)}: {r}" for r, o in list(reasons.items())[:_SHOWN]]
    if len(reasons) == 1:  # then there is room for where it happened and what to do
        whole = (outcomes[0].error or "").replace("\n", "\n  ")
        told = [f"trial {_numbers(outcomes)}: {whole}"]
    elif len(reasons) > _SHOWN:
        told.append(f"and {len(reasons) - _SHOWN} other reasons")
    return TrainingError(f"all {len(outcomes)} trials of `{name}` failed:\n  " + "\n  ".join(told))


def _numbers(outcomes: Sequence[Outcome]) -> str:
    shown = ", ".join(str(o.trial) for o in outcomes[:3])
    return shown if len(outcomes) <= 3 else f"{shown}, … ({len(outcomes)} trials)"


def trial_record(
    outcome: Outcome, search: Search, data: TrainingData, configuration: dict[str, Any]
) -> TrialRecord:
    """The trial as the store keeps it."""
    model = None
    if outcome.outputs is not None:
        inputs = data.inputs
        model = Model(
            search.name, 0, outcome.trial, data.task, outcome.fit.data.label, inputs.features,
            outcome.outputs, inputs.columns, inputs.transform,
        )  # fmt: skip
    return TrialRecord(
        trial=outcome.trial,
        status=outcome.status,
        configuration=configuration,
        metrics=outcome.metrics,
        train_loss=outcome.train_loss,
        eval_loss=outcome.eval_loss,
        error=outcome.error,
        traceback=outcome.traceback,
        epochs=tuple(outcome.epochs),
        model=model,
        params=outcome.params,
        test_metrics=outcome.test_metrics,
        folds=outcome.folds,
        scores=outcome.counts if isinstance(outcome.counts, Scores) else None,
        confusion=None if isinstance(outcome.counts, Scores) else outcome.counts,
    )


@dataclass(frozen=True)
class RunResult:
    """The version that a search made, its record, how long it took, and what the data lack."""

    version: int
    record: ModelRecord
    seconds: float
    warnings: tuple[str, ...] = ()

    @property
    def summary(self) -> dict[str, Any]:
        """The row that CREATE MODEL returns, in the order of `ir.learning.SUMMARY`."""
        record = self.record
        best = record.trial(record.best_trial)
        value = value_of(record.metric, best.metrics, best.train_loss, best.eval_loss)
        return {
            "model": record.name,
            "version": self.version,
            "trials": sum(t.trial > 0 for t in record.trials),  # 0: of all groups together
            "failed": sum(t.status == FAILED for t in record.trials),
            "best_trial": record.best_trial or None,  # of one model per group: each has its own
            "metric": record.metric,
            "value": None if math.isnan(value) else value,
            "seconds": self.seconds,
        }

    def __str__(self) -> str:
        row = self.summary
        failed = f" ({row['failed']} failed)" if row["failed"] else ""
        value = "" if row["value"] is None else f" {row['value']:.4g}"
        best = f"best is trial {row['best_trial']} with"
        if self.record.groups:
            best = f"the best of each of {len(self.record.groups)} groups together have"
        return (
            f"trained `{row['model']}` version {row['version']}: {row['trials']} trials{failed} "
            f"in {row['seconds']:.1f} s, {best} {row['metric']}{value}"
        )
