"""Linear regression solved exactly: the normal equation in float64, in one step."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from gradbase.errors import UnsupportedError
from gradbase.ir.learning import Fit, Mlp
from gradbase.runtime.train.data import Batch, TrainingData
from gradbase.runtime.train.evaluating import outputs_of
from gradbase.runtime.train.losses import row_losses
from gradbase.runtime.train.networks import MlpShape
from gradbase.runtime.train.stacked import shapes_of

MAX_COLUMNS = 2_048
"""Wider systems take longer to solve than gradient descent takes to come close."""
ROWS = 4_096
"""Rows added at a time: fixed, so that the sums do not depend on memory."""


class NormalEquation:
    """The weights that minimise mean(w (x·b - y)²) + l2_reg/2 |b|²; of several the smallest.

    The minimum that gradient descent goes towards. Sums run in the order of shards and identities,
    so the result follows from the rows and not from their places. Source: textbook.
    """

    def __init__(self, fit: Fit, data: TrainingData, dtype: torch.dtype) -> None:
        assert isinstance(fit.network, Mlp), fit.network
        self.fit, self.data, self.dtype = fit, data, dtype
        (self.shape,) = shapes_of(fit.network, data, aligned=False)
        self._free = self.shape.dense - (not fit.network.intercept)
        self._weight: Tensor | None = None  # float64 [dense, 1]
        if self.shape.dense > MAX_COLUMNS:
            raise UnsupportedError(
                f"the normal equation is for up to {MAX_COLUMNS:,} encoded columns, there are "
                f"{self.shape.dense:,}",
                hint="optimize_strategy = 'batch_gradient_descent'",
            )

    def run_unit(self, epoch: int, shard: int) -> list[float]:
        """Solve over all shards at the first unit; the mean loss over this shard's rows."""
        if self._weight is None:
            self._weight = self._solved(epoch)
        total, rows = 0.0, 0
        for batch in self._batches(epoch, shard):
            losses = row_losses("regression", batch.x @ self._weight, batch.y, None, batch.w)
            total, rows = total + float(losses.sum()), rows + len(batch.y)
        return [total / max(rows, 1)]

    def outputs(self, part: str) -> tuple[Tensor, list[float]]:
        """(outputs [1, rows, 1], mean loss) over a part of the rows."""
        layer = self._layer()

        def mean_losses(z: Tensor, y: Tensor) -> list[float]:
            return [float(row_losses("regression", z[0], y).sum(dtype=torch.float64)) / len(y)]

        return outputs_of(self.data, part, lambda b: (b.x @ layer)[None], mean_losses, self.dtype)

    def state(self, place: int) -> dict[str, Tensor]:
        """The weights, where they are known."""
        assert place == 0
        return {} if self._weight is None else {"weights": self._weight.clone()}

    def load_state(self, place: int, state: dict[str, Tensor]) -> None:
        """Inverse of `state`."""
        assert place == 0
        self._weight = state.get("weights")

    def keep(self, places: list[int]) -> None:
        """A fit by itself is kept as it is."""
        assert places in ([0], [])

    def layers(self, place: int) -> list[tuple[MlpShape, list[Tensor]]]:
        """See `Stack.layers`."""
        assert place == 0
        return [(self.shape, [self._layer()])]

    def _layer(self) -> Tensor:
        assert self._weight is not None
        return self._weight.to(self.dtype)

    def _batches(self, epoch: int, shard: int) -> Iterator[Batch]:
        return self.data.batches(epoch, shard, ROWS, torch.float64)

    def _solved(self, epoch: int) -> Tensor:
        batches = (
            (batch.x, batch.y, batch.w)
            for shard in range(len(self.data.shards))
            for batch in self._batches(epoch, shard)
        )
        l2_reg = self.fit.optimizer.l2_reg
        return smallest_weights(batches, self.shape.dense, self._free, l2_reg)


def smallest_weights(
    batches: Iterable[tuple[Tensor, Tensor, Tensor | None]], dense: int, free: int, l2_reg: float
) -> Tensor:
    """Weights float64 [dense, 1] that solve the normal equation of batches (x, y, w).

    Only the first `free` columns have one.
    """
    square = torch.zeros(dense, dense, dtype=torch.float64)
    right = torch.zeros(dense, dtype=torch.float64)
    rows = 0
    for x, y, w in batches:
        weighted = x if w is None else x * w[:, None]
        square.addmm_(weighted.T, x)
        right.addmv_(weighted.T, y)
        rows += len(y)
    square, right = square[:free, :free] * (2 / rows), right[:free] * (2 / rows)
    square.diagonal().add_(l2_reg)
    found = torch.zeros(dense, 1, dtype=torch.float64)
    found[:free, 0] = _smallest_solution(square, right)
    return found


def _smallest_solution(square: Tensor, right: Tensor) -> Tensor:
    """The x of least length with ``square @ x`` closest to `right`; square is symmetric."""
    values, vectors = torch.linalg.eigh(square)
    cut = values[-1] * len(values) * torch.finfo(torch.float64).eps
    inverse = torch.where(values > cut, 1 / values, 0.0)
    return vectors @ (inverse * (vectors.T @ right))
