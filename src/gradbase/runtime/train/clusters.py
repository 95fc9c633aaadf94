"""K-means: Lloyd's iterations over encoded rows, in float64 and in the order of identities.

Sources: Lloyd, Least squares quantization in PCM (1982); Arthur and Vassilvitskii, k-means++
(2007).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from gradbase.errors import DataError
from gradbase.ir.unlabelled import Clusters
from gradbase.runtime.cluster_quality import Quality, distances
from gradbase.runtime.train.keys import generator
from gradbase.runtime.train.prepare import Encoded
from gradbase.store.records import EpochRecord

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Found:
    """Centroids Tensor[k, columns] float64, the iterations, and the metrics over all rows."""

    centroids: Tensor
    epochs: tuple[EpochRecord, ...]
    metrics: dict[str, float]


def find_clusters(
    clusters: Clusters,
    rows: Encoded,
    marked: npt.NDArray[np.bool_] | None,
    check_cancelled: Callable[[], None],
) -> Found:
    """Cluster `rows`; `marked` are those that start as centroids, where a column says so.

    Memory: 16 bytes a row beside the rows.

    Raises
    ------
    DataError
        There are fewer different rows than clusters, or not as many marked ones.
    """
    return _Lloyd(clusters, rows, marked, check_cancelled).run()


class _Lloyd:
    def __init__(
        self,
        clusters: Clusters,
        rows: Encoded,
        marked: npt.NDArray[np.bool_] | None,
        check_cancelled: Callable[[], None],
    ) -> None:
        self.clusters, self.rows, self.marked = clusters, rows, marked
        self.check_cancelled = check_cancelled
        self.count = len(rows.order)
        self.nearest = np.zeros(self.count)  # distance of each row, in the order of identities
        self.place = np.zeros(self.count, np.int64)  # and its centroid
        self.draws = generator(clusters.seed, "clusters")

    def run(self) -> Found:
        centroids = self._first()
        epochs: list[EpochRecord] = []
        loss = math.inf
        for epoch in range(self.clusters.epochs):
            start = time.perf_counter()
            before = self.place.copy()
            centroids = self._moved(centroids)
            now = float(self.nearest @ self.nearest) / self.count
            seconds = time.perf_counter() - start
            epochs.append(EpochRecord(epoch, now, None, seconds=seconds))
            settled = epoch > 0 and bool((before == self.place).all())
            little = loss - now < self.clusters.min_rel_progress * loss
            if settled or (self.clusters.early_stop and epoch > 0 and little):
                break
            loss = now
        quality = Quality(centroids, cosine=self.clusters.cosine)
        for _, x in self._chunks():
            quality.add(self._distances(x, centroids))
        return Found(centroids, tuple(epochs), quality.metrics())

    # -- one iteration ---------------------------------------------------------------------------

    def _moved(self, centroids: Tensor) -> Tensor:
        """The means of the rows that are nearest to each of `centroids`."""
        sums, counts = torch.zeros_like(centroids), torch.zeros(len(centroids), dtype=torch.float64)
        for places, x in self._chunks():
            nearest, place = self._distances(x, centroids).min(dim=1)
            self.nearest[places], self.place[places] = nearest.numpy(), place.numpy()
            sums.index_add_(0, place, x)
            counts.index_add_(0, place, torch.ones_like(nearest))
        for empty in torch.nonzero(counts == 0)[:, 0].tolist():
            self._fill(empty, sums, counts)
        return self._directed(sums / counts[:, None])

    def _fill(self, empty: int, sums: Tensor, counts: Tensor) -> None:
        """An empty cluster takes the row that is farthest from its centroid."""
        shared = counts[self.place].numpy() > 1
        row = int(np.where(shared, self.nearest, -1.0).argmax())
        if not shared[row] or self.nearest[row] <= 0:
            raise self._too_few(int((counts > 0).sum()))
        x = self._row(row)
        left = int(self.place[row])
        sums[left] -= x
        counts[left] -= 1
        sums[empty], counts[empty] = x, 1
        self.nearest[row], self.place[row] = 0.0, empty

    # -- where centroids start -------------------------------------------------------------------

    def _first(self) -> Tensor:
        match self.clusters.init:
            case "custom":
                return self._marked()
            case "random":
                if self.count < self.clusters.count:
                    raise self._too_few(self.count)
                chosen = torch.randperm(self.count, generator=self.draws)[: self.clusters.count]
                return torch.stack([self._row(i) for i in chosen.tolist()])
        return self._spread()

    def _spread(self) -> Tensor:
        """k-means++: each next one a row with probability by its squared distance so far."""
        chosen = [self._row(int(torch.randint(self.count, (1,), generator=self.draws)))]
        self.nearest[:] = math.inf
        while len(chosen) < self.clusters.count:
            for places, x in self._chunks():
                distance = self._distances(x, chosen[-1][None])[:, 0].numpy()
                self.nearest[places] = np.minimum(self.nearest[places], distance)
            reached = np.cumsum(self.nearest * self.nearest)
            if reached[-1] <= 0:
                raise self._too_few(len(chosen))
            draw = float(torch.rand((), dtype=torch.float64, generator=self.draws)) * reached[-1]
            chosen.append(self._row(int(np.searchsorted(reached, draw, side="right"))))
        return torch.stack(chosen)

    def _marked(self) -> Tensor:
        assert self.marked is not None
        chosen = np.flatnonzero(self.marked[self.rows.order])
        if len(chosen) != self.clusters.count:
            raise DataError(
                f"kmeans_init_col is TRUE in {len(chosen):,} rows, num_clusters is "
                f"{self.clusters.count:,}",
                hint="mark one row for each cluster",
            )
        return torch.stack([self._row(int(i)) for i in chosen])

    def _too_few(self, found: int) -> DataError:
        return DataError(
            f"{self.clusters.count:,} clusters need as many different rows, found {found:,}",
            hint=f"num_clusters = {max(found, 2)}, or more columns",
        )

    # -- rows ------------------------------------------------------------------------------------

    def _distances(self, x: Tensor, centroids: Tensor) -> Tensor:
        return distances(x, centroids, cosine=self.clusters.cosine)

    def _directed(self, x: Tensor) -> Tensor:
        """Directions, where these are compared; a row of zeros has none and stays."""
        return torch.nn.functional.normalize(x, dim=1) if self.clusters.cosine else x

    def _chunks(self) -> Iterator[tuple[slice, Tensor]]:
        for places, x in self.rows.chunks():
            self.check_cancelled()
            yield places, self._directed(x)

    def _row(self, place: int) -> Tensor:
        row = torch.from_numpy(self.rows.x[self.rows.order[place], :-1].astype(np.float64))
        return self._directed(row[None])[0]
