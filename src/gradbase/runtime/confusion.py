"""Rows counted by what a classifier made of them: the base of confusion matrix and ROC curve.

Training keeps these counts of the evaluation rows, ``ML.CONFUSION_MATRIX`` and ``ML.ROC_CURVE``
make them of given rows: either way the rest is the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import numpy.typing as npt
import torch

from gradbase.runtime.metrics import confusion
from gradbase.store.records import Scores

KEPT_SCORES = 10_000
"""Distinct scores that training keeps of a trial; more are joined to that many of equal counts."""

Counts = npt.NDArray[np.int64]


def class_counts(output: torch.Tensor, target: torch.Tensor, threshold: float = 0.5) -> Counts:
    """int64[n, 3]: (expected class number, predicted one, rows), in order, without zeros.

    Parameters
    ----------
    output : Tensor[rows, width]
        Logits: one of two classes, one per class of more.
    target : Tensor[rows]
        Class numbers.
    threshold : float
        Probability above which class 1 of two is predicted.
    """
    cells = confusion(output.double(), target.long(), None, threshold).long().numpy()
    expected, predicted = np.nonzero(cells)
    return np.stack((expected, predicted, cells[expected, predicted]), axis=1).astype(np.int64)


def score_counts(logit: torch.Tensor, target: torch.Tensor) -> Scores:
    """Rows by distinct logit, ascending.

    Parameters
    ----------
    logit : Tensor[rows] or Tensor[rows, 1]
    target : Tensor[rows]
        0 or 1.
    """
    rows = np.ones(len(target), np.int64)
    positive = target.reshape(-1).numpy().astype(np.int64)
    return _merged(logit.double().reshape(-1).numpy(), rows - positive, positive)


def thinned_runs(runs: Callable[[], Iterable[Scores]], most: int = KEPT_SCORES) -> Scores:
    """As `thinned`, of scores that come some at a time, ascending, again and again."""
    distinct = rows = half = 0
    for part in runs():
        half += int(np.searchsorted(part.logit, 0.0, side="right"))
        distinct += len(part.logit)
        rows += int((part.negatives + part.positives).sum())
    wanted = np.arange(1, most) * (rows / most)
    kept: list[Scores] = []
    place = before = negatives = positives = 0
    for part in runs():
        upto = before + np.cumsum(part.negatives + part.positives)
        here = np.searchsorted(upto, wanted[(wanted > before) & (wanted <= upto[-1])])
        marks = np.array([max(half - 1, 0) - place, distinct - 1 - place])
        here = np.unique(np.append(here, marks[(marks >= 0) & (marks < len(upto))]))
        if distinct <= most:
            here = np.arange(len(upto))
        sums = negatives + np.cumsum(part.negatives), positives + np.cumsum(part.positives)
        kept.append(Scores(part.logit[here], sums[0][here], sums[1][here]))
        place, before = place + len(upto), int(upto[-1])
        negatives, positives = int(sums[0][-1]), int(sums[1][-1])
    logit, *ends = (np.concatenate(columns) for columns in zip(*kept, strict=True))
    return Scores(logit, *(np.diff(e, prepend=0) for e in ends))


def joined(parts: Sequence[Scores | Counts]) -> Scores | Counts | None:
    """Counts of all `parts`, such as folds; None where there are none."""
    scores = [p for p in parts if isinstance(p, Scores)]
    if scores:
        return thinned(_merged(*(np.concatenate(columns) for columns in zip(*scores, strict=True))))
    counts = [p for p in parts if not isinstance(p, Scores)]
    if not counts:
        return None
    whole = np.concatenate(counts)
    cells, where = np.unique(whole[:, :2], axis=0, return_inverse=True)
    rows = np.bincount(where.reshape(-1), weights=whole[:, 2])
    return np.column_stack((cells, rows.astype(np.int64)))


def _merged(logit: npt.NDArray[np.float64], negatives: Counts, positives: Counts) -> Scores:
    distinct, where = np.unique(logit, return_inverse=True)
    sums = (np.bincount(where, weights=part) for part in (negatives, positives))
    return Scores(distinct, *(part.astype(np.int64) for part in sums))


def thinned(scores: Scores, most: int = KEPT_SCORES) -> Scores:
    """At most about `most` scores, each standing for those up to it; exact at probability 0.5."""
    if len(scores.logit) <= most:
        return scores
    upto = np.cumsum(scores.negatives + scores.positives)
    wanted = np.searchsorted(upto, np.arange(1, most) * (upto[-1] / most))
    below_half = max(int(np.searchsorted(scores.logit, 0.0, side="right")) - 1, 0)
    last = np.unique(np.append(wanted, (below_half, len(upto) - 1)))
    first = np.concatenate(([0], last[:-1] + 1))
    sums = (np.add.reduceat(part, first) for part in (scores.negatives, scores.positives))
    return Scores(scores.logit[last], *sums)
