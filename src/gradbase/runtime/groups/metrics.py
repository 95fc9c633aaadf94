"""The metrics of `runtime.metrics` for many models at once, each on rows of its own."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from gradbase.ir.learning import METRICS
from gradbase.runtime.metrics import metrics

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
_SMALLEST = math.log(1e-15)


def metrics_by_group(
    task: str, outputs: Sequence[Floats], targets: Sequence[Floats]
) -> list[dict[str, float]]:
    """Metrics of each model.

    Parameters
    ----------
    task : str
    outputs : sequence of float64[rows, width]
        Not empty. Binary: logits; multi-class: one logit per class; regression: predictions.
    targets : sequence of float64[rows]
        Class numbers or values.
    """
    if task == "multiclass" or not outputs:
        pairs = zip(outputs, targets, strict=True)
        return [metrics(task, torch.from_numpy(o), torch.from_numpy(t)) for o, t in pairs]
    sizes = np.array([len(o) for o in outputs])
    x, y = np.concatenate([o[:, 0] for o in outputs]), np.concatenate(list(targets))
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        found = (_binary if task == "binary" else _regression)(x, y, starts, sizes)
    finite = np.logical_and.reduceat(np.isfinite(x), starts)
    names = METRICS[task]
    whole = np.stack([np.where(finite, found[n], np.nan) for n in names], 1).tolist()
    return [dict(zip(names, row, strict=True)) for row in whole]


def _binary(logit: Floats, y: Floats, starts: Ints, sizes: Ints) -> dict[str, Floats]:
    positive, said = y == 1, logit > 0

    def count(rows: npt.NDArray[np.bool_]) -> Floats:
        return np.add.reduceat(rows, starts, dtype=np.int64).astype(np.float64)

    hits = count(positive & said)
    precision, recall = _ratio(hits, count(said)), _ratio(hits, count(positive))
    signed = np.where(positive, logit, -logit)
    surely = np.maximum(-np.logaddexp(0.0, -signed), _SMALLEST)
    return {
        "precision": precision,
        "recall": recall,
        "accuracy": count(positive == said) / sizes,
        "f1_score": _ratio(2 * precision * recall, precision + recall),
        "log_loss": -np.add.reduceat(surely, starts) / sizes,
        "roc_auc": _areas(logit, positive, starts, sizes),
    }


def _areas(score: Floats, positive: npt.NDArray[np.bool_], starts: Ints, sizes: Ints) -> Floats:
    """As `runtime.metrics.roc_auc`: ties count half, NaN for one class."""
    group = np.repeat(np.arange(len(starts)), sizes)
    order = np.lexsort((score, group))
    ordered, of = score[order], group[order]
    plus = positive[order].astype(np.float64)
    first = np.ones(len(order), np.bool_)
    first[1:] = (ordered[1:] != ordered[:-1]) | (of[1:] != of[:-1])
    begins = np.flatnonzero(first)
    pluses, minuses = np.add.reduceat(plus, begins), np.add.reduceat(1 - plus, begins)
    whose = of[begins]
    before = np.cumsum(minuses) - minuses
    first_run = np.searchsorted(whose, np.arange(len(starts)))
    below = before - before[first_run][whose]
    won = np.add.reduceat(pluses * (below + minuses / 2), first_run)
    ones = np.add.reduceat(positive, starts, dtype=np.int64)
    return won / np.where((ones > 0) & (ones < sizes), ones * (sizes - ones), np.nan)


def _ratio(part: Floats, whole: Floats) -> Floats:
    return np.where(whole > 0, part / np.where(whole > 0, whole, 1.0), 0.0)


def _regression(x: Floats, y: Floats, starts: Ints, sizes: Ints) -> dict[str, Floats]:
    error = y - x

    def mean(values: Floats) -> Floats:
        return np.add.reduceat(values, starts) / sizes

    def apart(values: Floats) -> Floats:
        return mean((values - np.repeat(mean(values), sizes)) ** 2)

    squared, spread = mean(error**2), apart(y)
    usable = np.where(spread > 0, spread, np.nan)
    negative = np.logical_or.reduceat((x < 0) | (y < 0), starts)
    logs = mean((np.log1p(y) - np.log1p(x)) ** 2)
    return {
        "mean_absolute_error": mean(np.abs(error)),
        "mean_squared_error": squared,
        "mean_squared_log_error": np.where(negative, np.nan, logs),
        "median_absolute_error": _medians(np.abs(error), starts, sizes),
        "r2_score": 1 - squared / usable,
        "explained_variance": 1 - apart(error) / usable,
    }


def _medians(values: Floats, starts: Ints, sizes: Ints) -> Floats:
    ordered = values[np.lexsort((values, np.repeat(np.arange(len(starts)), sizes)))]
    return (ordered[starts + (sizes - 1) // 2] + ordered[starts + sizes // 2]) / 2
