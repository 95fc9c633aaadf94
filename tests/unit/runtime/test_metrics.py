"""Metrics against scikit-learn's, and the cases without an answer."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
import torch
from sklearn import metrics as sk

from gradbase.ir.learning import METRICS
from gradbase.runtime.metrics import metrics, metrics_of_each

random = np.random.default_rng(0)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("threshold", [0.5, 0.2])
@pytest.mark.parametrize("rows", [3, 500])
def test_binary_metrics_equal_scikit_learns(weighted, threshold, rows):
    logit = random.normal(size=rows).round(1)  # with ties
    target = random.integers(0, 2, rows)
    target[:2] = 0, 1
    weight = random.random(rows) if weighted else None
    p = 1 / (1 + np.exp(-logit))
    predicted = p > threshold
    kw = {"sample_weight": weight}
    expected = {
        "precision": sk.precision_score(target, predicted, zero_division=0, **kw),
        "recall": sk.recall_score(target, predicted, **kw),
        "accuracy": sk.accuracy_score(target, predicted, **kw),
        "f1_score": sk.f1_score(target, predicted, zero_division=0, **kw),
        "log_loss": sk.log_loss(target, p, **kw),
        "roc_auc": sk.roc_auc_score(target, p, **kw),
    }
    w = None if weight is None else torch.from_numpy(weight)
    found = metrics("binary", torch.from_numpy(logit), torch.from_numpy(target), w, threshold)
    assert found == pytest.approx(expected, rel=1e-9)
    assert tuple(found) == METRICS["binary"]


@pytest.mark.parametrize("weighted", [False, True])
def test_multiclass_metrics_are_macro_averages(weighted):
    x = random.normal(size=(400, 4))
    target = random.integers(0, 4, 400)
    weight = random.random(400) if weighted else None
    p = np.exp(x) / np.exp(x).sum(1, keepdims=True)
    kw = {"sample_weight": weight}
    expected = {
        "precision": sk.precision_score(target, x.argmax(1), average="macro", **kw),
        "recall": sk.recall_score(target, x.argmax(1), average="macro", **kw),
        "accuracy": sk.accuracy_score(target, x.argmax(1), **kw),
        "f1_score": sk.f1_score(target, x.argmax(1), average="macro", **kw),
        "log_loss": sk.log_loss(target, p, **kw),
        "roc_auc": np.mean([sk.roc_auc_score(target == c, p[:, c], **kw) for c in range(4)]),
    }
    w = None if weight is None else torch.from_numpy(weight)
    found = metrics("multiclass", torch.from_numpy(x), torch.from_numpy(target), w)
    assert found == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("rows", [5, 400])
def test_regression_metrics_equal_scikit_learns(weighted, rows):
    target, x = random.random(rows), random.random(rows)
    weight = random.random(rows) if weighted else None
    kw = {"sample_weight": weight}
    expected = {
        "mean_absolute_error": sk.mean_absolute_error(target, x, **kw),
        "mean_squared_error": sk.mean_squared_error(target, x, **kw),
        "mean_squared_log_error": sk.mean_squared_log_error(target, x, **kw),
        "median_absolute_error": sk.median_absolute_error(target, x),
        "r2_score": sk.r2_score(target, x, **kw),
        "explained_variance": sk.explained_variance_score(target, x, **kw),
    }
    w = None if weight is None else torch.from_numpy(weight)
    found = metrics("regression", torch.from_numpy(x), torch.from_numpy(target), w)
    assert found == pytest.approx(expected, rel=1e-9)


def test_one_class_has_no_roc_auc():
    found = metrics("binary", torch.tensor([1.0, 2.0]), torch.tensor([1, 1]))
    assert math.isnan(found["roc_auc"])
    assert found["accuracy"] == 1.0


def test_nothing_predicted_positive_gives_precision_zero():
    found = metrics("binary", torch.tensor([-1.0, -2.0]), torch.tensor([1, 0]))
    assert (found["precision"], found["recall"], found["f1_score"]) == (0.0, 0.0, 0.0)


def test_certain_and_wrong_has_a_finite_log_loss():
    found = metrics("binary", torch.tensor([-1000.0]), torch.tensor([1]))
    assert found["log_loss"] == pytest.approx(-math.log(1e-15))


def test_a_class_seen_in_neither_targets_nor_predictions_is_left_out():
    x = torch.tensor([[2.0, 0.0, -9.0], [0.0, 2.0, -9.0]])
    found = metrics("multiclass", x, torch.tensor([0, 1]))
    assert found["precision"] == found["recall"] == found["f1_score"] == 1.0


@pytest.mark.parametrize("task", list(METRICS))
@pytest.mark.parametrize("output", [[[math.nan]], [[math.inf]], []])
def test_outputs_that_are_not_finite_or_not_there_give_nan(task, output):
    x = torch.tensor(output).reshape(len(output), 1)
    found = metrics(task, x, torch.zeros(len(output)))
    assert all(math.isnan(v) for v in found.values())
    assert tuple(found) == METRICS[task]


def test_constant_and_negative_targets_of_regression():
    found = metrics("regression", torch.tensor([1.0, -2.0]), torch.tensor([1.0, 1.0]))
    assert math.isnan(found["r2_score"])
    assert math.isnan(found["explained_variance"])
    assert math.isnan(found["mean_squared_log_error"])


def test_many_models_at_once_equal_each_alone():
    outputs, target = torch.randn(3, 50, 1), torch.arange(50) % 2
    with warnings.catch_warnings():
        assert metrics_of_each("binary", outputs, target) == [
            metrics("binary", o, target) for o in outputs
        ]
