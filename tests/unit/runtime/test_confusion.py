"""Counts of predicted rows: by class, and by score."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from gradbase.runtime.confusion import (
    class_counts,
    joined,
    score_counts,
    thinned,
)
from gradbase.runtime.metrics import above, metrics, roc_auc
from gradbase.store import Scores


def as_lists(scores):
    return [column.tolist() for column in scores]


def test_classes_are_counted_in_pairs():
    """Expected, predicted, rows; pairs that do not occur are left out."""
    output = torch.tensor([[2.0, 1, 0], [0, 1, 0], [0, 3, 9], [5, 0, 0]])
    found = class_counts(output, torch.tensor([0, 0, 2, 0]))
    assert found.tolist() == [[0, 0, 2], [0, 1, 1], [2, 2, 1]]
    assert found.dtype == np.int64


@pytest.mark.parametrize(
    ("threshold", "expected"),
    [
        (0.5, [[0, 0, 1], [0, 1, 1], [1, 1, 1]]),
        (0.0, [[0, 1, 2], [1, 1, 1]]),
        (1.0, [[0, 0, 2], [1, 0, 1]]),
    ],
)
def test_two_classes_are_parted_by_a_threshold(threshold, expected):
    """Above it is class 1; the logit 0 itself is not above one half."""
    logit = torch.tensor([[0.0], [1.0], [2.0]])
    assert class_counts(logit, torch.tensor([0.0, 0.0, 1.0]), threshold).tolist() == expected


def test_scores_are_counted_by_value():
    """Ascending, ties together, -0 and 0 one value."""
    logit = torch.tensor([1.0, -0.0, 1.0, 0.0, -3.0])
    found = score_counts(logit, torch.tensor([1, 0, 0, 1, 0]))
    assert as_lists(found) == [[-3.0, 0.0, 1.0], [1, 1, 1], [0, 1, 1]]


def test_nothing_is_counted():
    """No row, no count."""
    assert as_lists(score_counts(torch.empty(0), torch.empty(0))) == [[], [], []]
    assert class_counts(torch.empty(0, 3), torch.empty(0)).shape == (0, 3)


def test_many_scores_are_thinned():
    """No row is lost; counts above each score kept, and above one half, are exact."""
    generator = torch.Generator().manual_seed(1)
    logit = torch.randn(5_000, generator=generator) * 2 - 1
    target = (torch.rand(5_000, generator=generator) < logit.sigmoid()).long()
    whole, few = score_counts(logit, target), thinned(score_counts(logit, target), 100)
    assert len(few.logit) <= 102
    assert [p.sum() for p in few[1:]] == [p.sum() for p in whole[1:]]
    for at in few.logit:
        for kept, all_of in zip(few[1:], whole[1:], strict=True):
            assert kept[few.logit > at].sum() == all_of[whole.logit > at].sum()
    above = {id(s): s.positives[s.logit > 0].sum() for s in (few, whole)}
    assert above[id(few)] == above[id(whole)]
    assert thinned(whole) is whole


def test_folds_are_joined():
    """As if all their rows had been counted at once."""
    logit, target = torch.tensor([0.5, 1.0, 0.5, 2.0]), torch.tensor([0, 1, 1, 1])
    parts = [score_counts(logit[:2], target[:2]), score_counts(logit[2:], target[2:])]
    assert as_lists(joined(parts)) == as_lists(score_counts(logit, target))
    output = torch.tensor([[2.0, 1, 0], [0, 1, 0], [2, 0, 1], [5, 0, 0]])
    parts = [class_counts(output[:2], target[:2]), class_counts(output[2:], target[2:])]
    assert joined(parts).tolist() == class_counts(output, target).tolist()
    assert joined([]) is None


def test_counts_and_metrics_agree():
    """Accuracy and the area under the curve follow from the counts."""
    generator = torch.Generator().manual_seed(2)
    logit = (torch.randn(500, generator=generator) * 4).round() / 4
    target = (torch.rand(500, generator=generator) < logit.sigmoid()).long()
    found = metrics("binary", logit, target)
    cells = {(e, p): n for e, p, n in class_counts(logit[:, None], target).tolist()}
    assert found["accuracy"] == (cells[0, 0] + cells[1, 1]) / 500
    counted = score_counts(logit, target)
    rows = [torch.from_numpy(np.tile(counted.logit, 2)), torch.arange(2 * len(counted.logit))]
    weights = torch.from_numpy(np.concatenate(counted[1:])).double()
    area = roc_auc(rows[0], rows[1] >= len(counted.logit), weights)
    assert found["roc_auc"] == pytest.approx(area, abs=1e-12)


@pytest.mark.parametrize("threshold", [0.0, 0.25, 0.5, 0.75, 1.0])
def test_a_threshold_means_the_same_as_in_predictions(threshold):
    """Scores above it, the label itself at one half."""
    logit = torch.tensor([-800.0, -1.0, -1e-30, 0.0, 1e-30, 1.0986123, 800.0])
    expected = logit > 0 if threshold == 0.5 else logit.double().sigmoid() > threshold
    assert above(logit, threshold).tolist() == expected.tolist()


def test_scores_are_what_the_store_keeps():
    """The same type."""
    assert isinstance(score_counts(torch.zeros(1), torch.zeros(1)), Scores)
