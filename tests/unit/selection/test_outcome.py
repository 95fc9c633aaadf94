"""Which trial wins, and when a trial has converged."""

from __future__ import annotations

import math

import pytest

from gradbase.ir.learning import Dataset, Fit, Mlp, Optimizer, Split
from gradbase.ir.relational import Scan
from gradbase.ir.types import FLOAT64, Schema
from gradbase.selection.outcome import Outcome, best_of
from gradbase.store.records import FAILED, SUCCEEDED, EpochRecord

DATA = Dataset(
    Scan("t", "", Schema.of(a=FLOAT64, y=FLOAT64)), ("a",), "y", "binary",
    Split("none", 0.0, 0.0), (), 1, 7,
)  # fmt: skip


def outcome(
    trial, *losses, status=SUCCEEDED, held_out=True, early_stop=True, patience=1, **metrics
):
    fit = Fit(
        DATA, trial, Mlp((4,)), Optimizer("adam", 0.1), 32, 9, early_stop, 0.01, False, 7, patience
    )
    epochs = [
        EpochRecord(e, loss, loss if held_out else None, metrics) for e, loss in enumerate(losses)
    ]
    return Outcome(fit, status, epochs=epochs)


NAN = math.nan


@pytest.mark.parametrize(
    ("metric", "values", "best"),
    [
        ("roc_auc", [0.5, 0.9, 0.7], 2),
        ("log_loss", [0.5, 0.9, 0.7], 1),
        ("mean_squared_error", [0.5, 0.9, 0.3], 3),
        ("roc_auc", [0.9, 0.9, 0.9], 1),
        ("roc_auc", [NAN, 0.1, NAN], 2),
        ("log_loss", [NAN, 0.1, 0.2], 2),
    ],
)
def test_best_trial(metric, values, best):
    """By the metric's direction; NaN never wins, ties go to the lowest number."""
    trials = [outcome(k, 1.0, **{metric: v}) for k, v in enumerate(values, start=1)]
    assert best_of(trials[::-1], metric).trial == best


def test_failed_trials_never_win_and_the_loss_decides_where_no_metric_is_known():
    trials = [
        outcome(1, 0.1, status=FAILED, roc_auc=1.0),
        outcome(2, 0.5, roc_auc=NAN),
        outcome(3, 0.4, roc_auc=NAN),
    ]
    assert best_of(trials, "roc_auc").trial == 3
    assert best_of(trials, "loss").trial == 3


@pytest.mark.parametrize(
    ("losses", "converged"),
    [
        ([1.0], False),
        ([1.0, 0.98], False),
        ([1.0, 0.995], True),
        ([1.0, 1.2], True),
        ([1.0, 0.9, 0.8, 0.799], True),
        ([0.0, 0.0], False),
    ],
)
def test_convergence_is_too_little_relative_improvement(losses, converged):
    """Of the evaluation loss; of the training loss where nothing is held out."""
    assert outcome(1, *losses).converged() is converged
    assert outcome(1, *losses, held_out=False).converged() is converged
    assert outcome(1, *losses, early_stop=False).converged() is False


@pytest.mark.parametrize(
    ("patience", "losses", "converged"),
    [
        (2, [1.0, 0.995], False),
        (2, [1.0, 0.995, 0.992], True),
        (2, [1.0, 0.995, 0.98], False),
        (2, [1.0, 1.2, 1.1], True),
        (2, [1.0, 1.2, 0.9, 1.2], False),
        (3, [1.0, 1.2, 1.1, 1.05], True),
        (2, [NAN, NAN, NAN], False),
    ],
)
def test_patience_waits_for_epochs_in_a_row_without_progress_on_the_best(
    patience, losses, converged
):
    assert outcome(1, *losses, patience=patience).converged() is converged
