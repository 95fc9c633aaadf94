"""Metrics against scikit-learn's, and the cases without an answer."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn import metrics as sk

from gradbase.ir.learning import METRICS
from gradbase.runtime import metrics_in_parts
from gradbase.runtime.confusion import score_counts, thinned, thinned_runs
from gradbase.runtime.metrics import metrics
from gradbase.runtime.train import ranks

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


IN_PARTS = {
    "binary": (torch.randn(900, 1).round(decimals=1), torch.arange(900) % 3 // 2),
    "one class": (torch.randn(50, 1), torch.ones(50)),
    "equal scores": (torch.zeros(60, 1), torch.arange(60) % 2),
    "multiclass": (torch.randn(700, 4), torch.arange(700) % 3),
    "regression": (torch.rand(801, 1), torch.rand(801)),
    "negative regression": (torch.randn(300, 1), torch.randn(300)),
    "reconstruction": (torch.randn(200, 3), torch.randn(200, 3)),
    "infinite": (torch.full((9, 1), float("inf")), torch.zeros(9)),
}


@pytest.mark.parametrize("case", IN_PARTS)
def test_metrics_in_parts_are_the_same(monkeypatch, case):
    monkeypatch.setattr(metrics_in_parts, "_TOGETHER", 40)
    monkeypatch.setattr(ranks, "FEW", 10)
    outputs, target = IN_PARTS[case]
    task = case.split()[-1] if case.split()[-1] in METRICS else "binary"

    def pieces():
        yield from zip(outputs.split(70), target.split(70), strict=True)

    expected = metrics(task, outputs, target)
    found = metrics_in_parts.metrics_in_parts(task, pieces)
    assert found == pytest.approx(expected, rel=1e-12, nan_ok=True)
    if task == "binary" and case != "infinite":
        scores = score_counts(outputs, target)
        for most in (7, 10_000):
            again = thinned_runs(
                lambda: metrics_in_parts.runs(lambda: metrics_in_parts.scores_of(pieces, 1)), most
            )
            for one, other in zip(thinned(scores, most), again, strict=True):
                assert np.array_equal(one, other)
