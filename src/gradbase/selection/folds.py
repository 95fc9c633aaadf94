"""Cross-validation: what a trial did on every fold as one outcome, and its fit on all rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from gradbase.errors import TrainingError
from gradbase.ir.learning import Dataset, Fit
from gradbase.runtime.confusion import joined as joined_counts
from gradbase.selection.outcome import Outcome
from gradbase.store.records import FAILED, STOPPED, SUCCEEDED, FoldRecord


def on_all_rows(data: Dataset) -> Dataset:
    """The rows of a fold's dataset, all of them to train on."""
    return data.replace(split=data.split.replace(fold=0))


def joined(outcomes: Sequence[Outcome], rows: Mapping[int, int]) -> list[Outcome]:
    """One outcome per trial from those of its folds, in order of trials.

    A trial that failed on one fold has failed. Its epochs are those of all folds, one run each.

    Parameters
    ----------
    outcomes : sequence of Outcome
    rows : mapping of int to int
        Evaluation rows of each fold.
    """
    by_trial: dict[int, list[Outcome]] = {}
    for outcome in sorted(outcomes, key=lambda o: (o.trial, _fold(o))):
        by_trial.setdefault(outcome.trial, []).append(outcome)
    return [_joined(folds, rows) for folds in by_trial.values()]


def _joined(folds: Sequence[Outcome], rows: Mapping[int, int]) -> Outcome:
    found = Outcome(folds[0].fit)
    for fold in folds:
        found.epochs += [replace(e, run=_fold(fold) - 1) for e in fold.epochs]
    failed = next((o for o in folds if o.status == FAILED), None)
    if failed is not None:
        found.status, found.traceback = FAILED, failed.traceback
        found.error = f"fold {_fold(failed)}: {failed.error}"
        return found
    found.status = next((o.status for o in folds if o.status == STOPPED), SUCCEEDED)
    found.counts = joined_counts([o.counts for o in folds if o.counts is not None])
    found.folds = tuple(
        FoldRecord(
            fold=_fold(o),
            rows=rows[_fold(o)],
            epochs=len(o.epochs),
            train_loss=o.train_loss,
            eval_loss=o.eval_loss,
            metrics=o.metrics,
        )
        for o in folds
    )
    return found


def refit_of(best: Outcome) -> Fit:
    """The best trial on all rows: for as many epochs as its folds took, on average by rows."""
    rows = sum(f.rows for f in best.folds)
    epochs = sum(f.epochs * f.rows for f in best.folds) / rows
    return best.fit.replace(
        data=on_all_rows(best.fit.data), epochs=max(1, round(epochs)), early_stop=False
    )


def take_over(best: Outcome, refit: Outcome, name: str) -> None:
    """Give the trial that won on the folds the model that was trained on all rows.

    Raises
    ------
    TrainingError
        That training failed.
    """
    if refit.status == FAILED:
        raise TrainingError(
            f"trial {best.trial} of `{name}` is the best on the folds, but failed when it was "
            f"trained on all rows: {refit.error}",
            hint="lower learn_rate",
        )
    best.epochs += [replace(e, run=len(best.folds)) for e in refit.epochs]
    best.outputs, best.params, best.error = refit.outputs, refit.params, refit.error


def _fold(outcome: Outcome) -> int:
    return outcome.fit.data.split.fold
