"""How good predictions are: the metrics of each task, exactly and from arrays.

Training validates with the same functions as ``ML.EVALUATE``. All arithmetic is in float64.

Classification: class 1 of a binary model is positive where its probability is above `threshold`.
Precision, recall and F1 of a multi-class model are means over the classes that occur among targets
or predictions (macro); accuracy is global. A precision, recall or F1 without cases is 0. ROC AUC is
exact, ties counted half; multi-class: mean of one against the rest over classes that occur; NaN
where only one class occurs. Log loss clips probabilities to [1e-15, 1].

Regression: R2 and explained variance are NaN for a constant target, the squared log error is NaN
where a target or prediction is below 0.

Reconstruction: means over rows and encoded columns; logarithms take numbers below 0 for 0.

Anything computed from an output that is not finite is NaN.
"""

from __future__ import annotations

import math

import torch

from gradbase.errors import InternalError
from gradbase.ir.learning import METRICS

_SMALLEST = 1e-15
HALF = 0.5


def metrics(
    task: str,
    output: torch.Tensor,
    target: torch.Tensor,
    weights: torch.Tensor | None = None,
    threshold: float = 0.5,
) -> dict[str, float]:
    """Metrics of one model.

    Parameters
    ----------
    task : str
        ``binary``, ``multiclass``, ``regression`` or ``reconstruction``.
    output : Tensor[rows, width]
        Binary: logits (width 1); multi-class: one logit per class; regression: predictions in the
        target's own unit (width 1). A Tensor[rows] counts as width 1.
    target : Tensor[rows]
        Class numbers, or values; to be reconstructed: Tensor[rows, width].
    weights : Tensor[rows], optional
        Weight of each row, 1 where None. The median ignores it.
    threshold : float
        Probability above which class 1 is predicted (binary).

    Examples
    --------
    >>> found = metrics("binary", torch.tensor([-1.0, 2.0, 0.5]), torch.tensor([0, 1, 0]))
    >>> found["accuracy"], found["roc_auc"]
    (0.6666666666666666, 1.0)
    """
    x = output.detach().double()
    x = x[:, None] if x.dim() == 1 else x
    w = torch.ones(len(x), dtype=torch.float64) if weights is None else weights.double()
    names = METRICS[task]
    if not len(x) or not bool(x.isfinite().all()):
        return dict.fromkeys(names, math.nan)
    match task:
        case "binary":
            found = _binary(x[:, 0], target.reshape(-1).long(), w, threshold)
        case "multiclass":
            found = _multiclass(x, target.reshape(-1).long(), w)
        case "regression":
            found = _regression(x[:, 0], target.reshape(-1).double(), w)
        case "reconstruction":
            found = _reconstruction(x, target.double())
        case _:
            raise InternalError(f"task `{task}` has no metrics")
    return {n: float(found[n]) for n in names}


# -- classification ----------------------------------------------------------------------------


def _binary(
    logit: torch.Tensor, target: torch.Tensor, w: torch.Tensor, threshold: float
) -> dict[str, float]:
    return {
        **binary_rates(confusion(logit[:, None], target, w, threshold)),
        "log_loss": _log_loss(log_likelihood(logit[:, None], target), w),
        "roc_auc": roc_auc(logit, target == 1, w),
    }


def binary_rates(cells: torch.Tensor) -> dict[str, float]:
    """What follows from the `confusion` of two classes."""
    true_negative, false_positive, false_negative, true_positive = cells.reshape(-1).tolist()
    precision = _ratio(true_positive, true_positive + false_positive)
    recall = _ratio(true_positive, true_positive + false_negative)
    return {
        "precision": precision,
        "recall": recall,
        "accuracy": _ratio(true_negative + true_positive, cells.sum().item()),
        "f1_score": _ratio(2 * precision * recall, precision + recall),
    }


def log_likelihood(x: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Logarithm of the probability of each row's class, not below that of 1e-15.

    Parameters
    ----------
    x : Tensor[rows, width] float64
        Logits, as of `confusion`.
    """
    if x.shape[1] == 1:
        signed = torch.where(target == 1, x[:, 0], -x[:, 0])
        found = torch.nn.functional.logsigmoid(signed)
    else:
        found = torch.log_softmax(x, dim=1).gather(1, target[:, None])[:, 0]
    return found.clamp(min=math.log(_SMALLEST))


def _multiclass(x: torch.Tensor, target: torch.Tensor, w: torch.Tensor) -> dict[str, float]:
    cells, scores = confusion(x, target, w), x.softmax(1)
    present = torch.nonzero(cells.sum(1))[:, 0].tolist()
    areas = [roc_auc(scores[:, c], target == c, w) for c in present]
    return {
        **class_rates(cells),
        "log_loss": _log_loss(log_likelihood(x, target), w),
        "roc_auc": sum(areas) / len(areas),
    }


def class_rates(cells: torch.Tensor) -> dict[str, float]:
    """What follows from the `confusion` of several classes."""
    hits, of_class, as_class = cells.diagonal(), cells.sum(1), cells.sum(0)
    present = (of_class + as_class) > 0
    precision, recall = _ratios(hits, as_class), _ratios(hits, of_class)
    f1 = _ratios(2 * precision * recall, precision + recall)
    return {
        "precision": precision[present].mean().item(),
        "recall": recall[present].mean().item(),
        "accuracy": _ratio(hits.sum().item(), cells.sum().item()),
        "f1_score": f1[present].mean().item(),
    }


def confusion(
    x: torch.Tensor, target: torch.Tensor, w: torch.Tensor | None, threshold: float = 0.5
) -> torch.Tensor:
    """Weight of the rows of each (target, predicted) pair: Tensor[classes, classes] float64.

    Parameters
    ----------
    x : Tensor[rows, width] float64
        Logits: one of two classes, one per class of more.
    target : Tensor[rows] int64
    w : Tensor[rows] float64, optional
        1 where None.
    threshold : float
        Probability above which class 1 of two is predicted.
    """
    classes = max(x.shape[1], 2)
    predicted = above(x[:, 0], threshold).long() if x.shape[1] == 1 else x.argmax(dim=1)
    w = torch.ones(len(x), dtype=torch.float64) if w is None else w
    pairs = torch.bincount(target * classes + predicted, weights=w, minlength=classes**2)
    return pairs.reshape(classes, classes)


def roc_auc(score: torch.Tensor, positive: torch.Tensor, w: torch.Tensor) -> float:
    """Probability that a positive row scores above a negative one, ties half; NaN for one class.

    Parameters
    ----------
    score : Tensor[rows] float64
    positive : Tensor[rows] bool
    w : Tensor[rows] float64
    """
    order = torch.argsort(score)
    ordered = score[order]
    positives, negatives = (torch.where(p, w, 0.0)[order] for p in (positive, ~positive))
    total = positives.sum() * negatives.sum()
    if total == 0:
        return math.nan
    # Per distinct score: the negatives below it, and half of those that tie with it.
    group = torch.zeros(len(ordered), dtype=torch.long)
    group[1:] = (ordered[1:] != ordered[:-1]).cumsum(0)
    count = int(group[-1]) + 1
    plus, minus = (torch.zeros(count, dtype=torch.float64).index_add_(0, group, v)
                   for v in (positives, negatives))  # fmt: skip
    below = minus.cumsum(0) - minus
    return float((plus * (below + minus / 2)).sum() / total)


def above(logit: torch.Tensor, threshold: float) -> torch.Tensor:
    """Where a probability, given by its logit, is above `threshold`: what PREDICT says at 0.5."""
    return logit > 0 if threshold == HALF else logit.double().sigmoid() > threshold


def _log_loss(log_probability: torch.Tensor, w: torch.Tensor) -> float:
    return float((-log_probability * w).sum() / w.sum())


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else 0.0


def _ratios(part: torch.Tensor, whole: torch.Tensor) -> torch.Tensor:
    return torch.where(whole > 0, part / whole.clamp(min=1e-300), 0.0)


# -- regression --------------------------------------------------------------------------------


def _regression(x: torch.Tensor, target: torch.Tensor, w: torch.Tensor) -> dict[str, float]:
    error, total = target - x, w.sum()

    def mean(values: torch.Tensor) -> torch.Tensor:
        return (values * w).sum() / total

    squared = mean(error**2)
    spread = mean((target - mean(target)) ** 2)
    negative = bool((x < 0).any() or (target < 0).any())
    logs = math.nan if negative else float(mean((target.log1p() - x.log1p()) ** 2))
    return {
        "mean_absolute_error": float(mean(error.abs())),
        "mean_squared_error": float(squared),
        "mean_squared_log_error": logs,
        "median_absolute_error": _median(error.abs()),
        "r2_score": float(1 - squared / spread) if spread > 0 else math.nan,
        "explained_variance": float(1 - mean((error - mean(error)) ** 2) / spread)
        if spread > 0
        else math.nan,
    }


def _reconstruction(x: torch.Tensor, target: torch.Tensor) -> dict[str, float]:
    """Means over rows and columns; logarithms take numbers below 0 for 0."""
    logs = target.clamp(min=0).log1p() - x.clamp(min=0).log1p()
    return {
        "mean_absolute_error": float((target - x).abs().mean()),
        "mean_squared_error": float((target - x).square().mean()),
        "mean_squared_log_error": float(logs.square().mean()),
    }


def _median(values: torch.Tensor) -> float:
    """The middle value, or the mean of the two middle ones (torch's own takes the lower)."""
    ordered, half = values.sort().values, len(values) // 2
    return float((ordered[(len(values) - 1) // 2] + ordered[half]) / 2)
