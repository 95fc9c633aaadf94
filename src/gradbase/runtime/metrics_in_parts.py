"""Metrics of more rows than should be in memory at once: those of `metrics`, from pieces.

Counts, areas and medians are the same; sums are added up piece by piece, so their last digits may
differ. Rows are never sorted as a whole: those whose scores begin with the same bits are.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt
import torch

from gradbase.ir.learning import METRICS
from gradbase.runtime.metrics import binary_rates, class_rates, confusion, log_likelihood
from gradbase.runtime.train.identity import Words
from gradbase.runtime.train.ranks import ascending, digits, numbers_of, of_rank
from gradbase.store.records import Scores

PIECE_ROWS = 65_536
"""Rows up to which nothing is done in pieces."""
_TOGETHER = 1 << 16
"""Scores that are sorted together."""
_DIGITS = 4
_HALF = 31
"""Bits of a product that are summed apart from the others, so that sums stay exact."""

Pieces = Callable[[], Iterator[tuple[torch.Tensor, torch.Tensor]]]
"""Outputs Tensor[n, width] and targets Tensor[n (, width)] of all rows, again and again."""
Scored = Callable[[], Iterator[tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]]]
"""Scores and whether they are of the positive class, again and again."""


def metrics_in_parts(task: str, pieces: Pieces) -> dict[str, float]:
    """As `metrics.metrics` without weights."""
    names = METRICS[task]
    if not all(bool(x.isfinite().all()) for x, _ in pieces()):
        return dict.fromkeys(names, math.nan)
    match task:
        case "regression":
            found = _regression(pieces)
        case "reconstruction":
            found = _reconstruction(pieces)
        case _:
            found = _classification(pieces)
    return {n: float(found[n]) for n in names}


def _classification(pieces: Pieces) -> dict[str, float]:
    cells, likelihood, rows = torch.zeros(()), 0.0, 0
    for x, target in pieces():
        wide, classes = x.double(), target.long()
        cells = cells + confusion(wide, classes, None)
        likelihood += float(log_likelihood(wide, classes).sum())
        rows += len(x)
    binary = len(cells) == 2
    present = [1] if binary else torch.nonzero(cells.sum(1))[:, 0].tolist()
    areas = [_area(runs(lambda c=c: scores_of(pieces, c))) for c in present]
    rates = binary_rates(cells) if binary else class_rates(cells)
    return {**rates, "log_loss": -likelihood / rows, "roc_auc": sum(areas) / len(areas)}


def scores_of(
    pieces: Pieces, of: int
) -> Iterator[tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]]:
    """Scores of class number `of`."""
    for x, target in pieces():
        wide = x.double()
        score = wide[:, 0] if x.shape[1] == 1 else wide.softmax(1)[:, of]
        yield score.numpy(), (target.long() == of).numpy()


def _area(found: Iterator[Scores]) -> float:
    """Probability that a positive row scores above a negative one, ties half."""
    twice = negatives = positives = 0
    for part in found:
        below = negatives + np.cumsum(part.negatives) - part.negatives
        pairs = part.positives * (2 * below + part.negatives)
        twice += (int((pairs >> _HALF).sum()) << _HALF) + int((pairs & ((1 << _HALF) - 1)).sum())
        negatives += int(part.negatives.sum())
        positives += int(part.positives.sum())
    return twice / (2 * negatives * positives) if negatives and positives else math.nan


def runs(scored: Scored, prefix: tuple[int, ...] = ()) -> Iterator[Scores]:
    """Rows by distinct score, ascending, some at a time."""

    def alike() -> Iterator[tuple[Words, npt.NDArray[np.bool_]]]:
        for score, positive in scored():
            words = ascending(score)
            here = np.ones(len(words), np.bool_)
            for place, digit in enumerate(prefix):
                here &= digits(words, place) == digit
            yield words[here], positive[here]

    counts = np.zeros(1 << 16, np.int64)
    for words, _ in alike():
        counts += np.bincount(digits(words, len(prefix)), minlength=len(counts))
    present = np.flatnonzero(counts)
    group = np.cumsum(counts[present]) // _TOGETHER
    for _, members in itertools.groupby(zip(group.tolist(), present.tolist(), strict=True), _first):
        some = [digit for _, digit in members]
        if len(some) == 1 and counts[some[0]] > _TOGETHER and len(prefix) + 1 < _DIGITS:
            yield from runs(scored, (*prefix, some[0]))
        else:
            yield _sorted(alike(), len(prefix), some[0], some[-1])


def _first(pair: tuple[int, int]) -> int:
    return pair[0]


def _sorted(
    alike: Iterator[tuple[Words, npt.NDArray[np.bool_]]], place: int, low: int, high: int
) -> Scores:
    """Those whose digit at `place` is from `low` to `high`."""
    together: dict[bool, list[Words]] = {False: [], True: []}
    for words, positive in alike:
        digit = digits(words, place)
        here = (digit >= low) & (digit <= high)
        for is_positive, found in together.items():
            found.append(words[here & (positive == is_positive)])
    sides = {k: np.unique(np.concatenate(v), return_counts=True) for k, v in together.items()}
    distinct = np.union1d(sides[False][0], sides[True][0])
    counts = np.zeros((2, len(distinct)), np.int64)
    for is_positive, (words, count) in sides.items():
        counts[int(is_positive), np.searchsorted(distinct, words)] = count
    return Scores(numbers_of(distinct), counts[0], counts[1])


def _regression(pieces: Pieces) -> dict[str, float]:
    rows, sums, negative = 0, torch.zeros(4, dtype=torch.float64), False
    for x, target in pieces():
        y, value = target.reshape(-1).double(), x[:, 0].double()
        error = y - value
        sums += torch.stack([(error**2).sum(), error.abs().sum(), error.sum(), y.sum()])
        negative |= bool((value < 0).any() or (y < 0).any())
        rows += len(x)
    squared, absolute, mean_error, mean = (sums / rows).tolist()
    spread = unexplained = logs = 0.0
    for x, target in pieces():
        y, value = target.reshape(-1).double(), x[:, 0].double()
        spread += float(((y - mean) ** 2).sum()) / rows
        unexplained += float(((y - value - mean_error) ** 2).sum()) / rows
        logs += math.nan if negative else float(((y.log1p() - value.log1p()) ** 2).sum()) / rows

    def errors() -> Iterator[Words]:
        for x, target in pieces():
            yield ascending((target.reshape(-1).double() - x[:, 0]).abs().numpy())[:, None]

    middle = np.concatenate([of_rank(errors, rank) for rank in {(rows - 1) // 2, rows // 2}])
    return {
        "mean_absolute_error": absolute,
        "mean_squared_error": squared,
        "mean_squared_log_error": logs,
        "median_absolute_error": float(numbers_of(middle).mean()),
        "r2_score": 1 - squared / spread if spread > 0 else math.nan,
        "explained_variance": 1 - unexplained / spread if spread > 0 else math.nan,
    }


def _reconstruction(pieces: Pieces) -> dict[str, float]:
    sums, count = torch.zeros(3, dtype=torch.float64), 0
    for x, target in pieces():
        value, y = x.double(), target.double()
        logs = y.clamp(min=0).log1p() - value.clamp(min=0).log1p()
        error = y - value
        sums += torch.stack([error.abs().sum(), error.square().sum(), logs.square().sum()])
        count += error.numel()
    names = ("mean_absolute_error", "mean_squared_error", "mean_squared_log_error")
    return dict(zip(names, (sums / count).tolist(), strict=True))
