"""What networks give for the rows that they are judged by, in pieces where there are many."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor

from gradbase.runtime.confusion import (
    Counts,
    class_counts,
    joined,
    score_counts,
    thinned,
    thinned_runs,
)
from gradbase.runtime.metrics import metrics
from gradbase.runtime.metrics_in_parts import PIECE_ROWS, metrics_in_parts, runs, scores_of
from gradbase.runtime.train.data import Batch, TrainingData
from gradbase.runtime.train.split import stretches
from gradbase.store.records import Scores


def outputs_of(
    data: TrainingData,
    part: str,
    forward: Callable[[Batch], Tensor],
    mean_losses: Callable[[Tensor, Tensor], list[float]],
    dtype: torch.dtype = torch.float32,
) -> tuple[Tensor, list[float]]:
    """(outputs [fits, rows, width], mean loss of each fit) over a part of the rows.

    Of more than `PIECE_ROWS` rows, outputs may lie in a file.

    Parameters
    ----------
    forward : function of a batch giving Tensor[fits, rows, width]
    mean_losses : function of (outputs, labels of the same rows)
    """
    rows = len(getattr(data.parts, part))
    held: list[tuple[Tensor, Tensor]] = []
    room: Tensor | None = None
    totals: list[float] = []
    at = waiting = 0
    for batch in data.evaluation(part, dtype):
        held.append((forward(batch), batch.y))
        waiting += len(batch.y)
        if waiting < PIECE_ROWS and at + waiting < rows:
            continue
        z, y = torch.cat([z for z, _ in held], 1), torch.cat([y for _, y in held])
        means = mean_losses(z, y)
        if rows <= PIECE_ROWS:
            return z, means
        if room is None:
            room, totals = data.room(len(z), rows, z.shape[2], z.dtype), [0.0] * len(z)
        room[:, at : at + waiting] = z
        totals = [t + m * waiting for t, m in zip(totals, means, strict=True)]
        at += waiting
        waiting = 0
        held.clear()
        data.release()
    assert room is not None, f"no row in {part}"
    return room, [t / rows for t in totals]


def metrics_of(data: TrainingData, part: str, z: Tensor) -> dict[str, float]:
    """Metrics of a fit whose outputs over a part are `z` Tensor[rows, width]."""
    if len(z) > PIECE_ROWS:
        return metrics_in_parts(data.task, partial(_pieces, data, part, z))
    return metrics(data.task, *judged(data, part, z))


def counts_of(data: TrainingData, part: str, z: Tensor) -> Scores | Counts | None:
    """How a classifier's rows were predicted: scores of two classes, `class_counts` of more."""
    pieces = partial(_pieces, data, part, z)
    if data.task == "binary" and len(z) > PIECE_ROWS:
        return thinned_runs(lambda: runs(lambda: scores_of(pieces, 1)))
    if data.task == "binary":
        return thinned(score_counts(*judged(data, part, z)))
    return joined([class_counts(x, y) for x, y in pieces()])


def judged(
    data: TrainingData, part: str, z: Tensor, places: range | None = None
) -> tuple[Tensor, Tensor]:
    """Outputs and labels; of a regression in the label's own unit."""
    y, target = data.labels(part, places), data.target
    if data.task == "regression":
        z, y = z.double() * target.scale + target.mean, y * target.scale + target.mean
    return z, torch.from_numpy(y)


def _pieces(data: TrainingData, part: str, z: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    for places in stretches(len(z), PIECE_ROWS):
        yield judged(data, part, z[places.start : places.stop], places)
        data.release()
