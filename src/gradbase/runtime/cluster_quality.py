"""How good clusters are. Source: Davies and Bouldin, A cluster separation measure (1979)."""

from __future__ import annotations

import math

import torch
from torch import Tensor


class Quality:
    """Collects what the metrics of clusters need: distances to the nearest centroid.

    Parameters
    ----------
    centroids : Tensor[k, columns] float64
    """

    def __init__(self, centroids: Tensor, *, cosine: bool) -> None:
        self.apart = distances(centroids, centroids, cosine=cosine)
        self.sums = torch.zeros(len(centroids), dtype=torch.float64)
        self.counts = torch.zeros(len(centroids), dtype=torch.float64)
        self.squares = 0.0

    def add(self, distances: Tensor) -> None:
        """Distances Tensor[rows, k] float64 of some rows."""
        nearest, place = distances.min(dim=1)
        self.sums.index_add_(0, place, nearest)
        self.counts.index_add_(0, place, torch.ones_like(nearest))
        self.squares += float((nearest * nearest).sum())

    def metrics(self) -> dict[str, float]:
        """NaN where there are no rows; the index where fewer than two clusters have some."""
        rows = float(self.counts.sum())
        return {
            "davies_bouldin_index": self._index(),
            "mean_squared_distance": self.squares / rows if rows else math.nan,
        }

    def _index(self) -> float:
        """Mean over clusters of the worst (spread_i + spread_j) / distance of the centroids."""
        there = torch.nonzero(self.counts)[:, 0]
        if len(there) < 2:
            return math.nan
        spread = self.sums[there] / self.counts[there]
        apart = self.apart[there][:, there]
        ratios = (spread[:, None] + spread[None]) / apart
        ratios.fill_diagonal_(-math.inf)
        return float(ratios.max(dim=1).values.mean())


def distances(x: Tensor, centroids: Tensor, *, cosine: bool) -> Tensor:
    """As `ir.unlabelled.Distances`, of directions where `cosine`."""
    if cosine:
        return (1 - x @ centroids.T).clamp_(min=0)
    return torch.cdist(x, centroids, compute_mode="donot_use_mm_for_euclid_dist")
