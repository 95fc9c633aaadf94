"""Models that learn without a label: clusters of rows, principal components of columns."""

from __future__ import annotations

import functools

from gradbase.errors import ShapeError
from gradbase.ir.inspection import Inspection
from gradbase.ir.learning import Evaluate, Learn, Model, Network
from gradbase.ir.node import node
from gradbase.ir.shapes import BATCH, Shape, elements
from gradbase.ir.tensor import Tensor
from gradbase.ir.types import FLOAT64, INT64, TEXT, Schema, list_of, struct_of

CLUSTERS, COMPONENTS, RECONSTRUCTION = "clusters", "components", "reconstruction"
"""The tasks of these models."""


@node
class Clusters(Network):
    """`count` centroids, found by Lloyd's iterations: rows to the nearest one, means of the rows.

    `init`: ``kmeans++``, ``random`` (rows) or ``custom`` (the rows that the split column marks).
    `cosine` distances are 1 - cosine. Numbers are standardised where `standardize`.
    """

    count: int
    init: str
    cosine: bool
    standardize: bool
    epochs: int
    early_stop: bool
    min_rel_progress: float
    seed: int


@node
class Components(Network):
    """The first `count` principal components; 0: as many as explain `share` of the variance.

    Both 0: all. Numbers are standardised where `standardize`, else only centred.
    """

    count: int
    share: float
    standardize: bool


@node
class Solve(Learn):
    """Trial i + 1 solves ``networks[i]`` on `data`; the best by `metric` becomes model `name`."""

    networks: tuple[Network, ...]
    metric: str


@node
class Distances(Tensor):
    """Distance of `x` Tensor[B, d] from each row of `centroids` Tensor[k, d]: Tensor[B, k].

    Euclidean, or ``1 - cosine`` where `cosine` (of a row of zeros: 1).
    """

    x: Tensor
    centroids: Tensor
    cosine: bool = False

    def __post_init__(self) -> None:
        if self.x.shape[-1] != self.centroids.shape[-1]:
            raise ShapeError(
                f"rows of {self.x.shape[-1]} numbers have no distance from centroids of "
                f"{self.centroids.shape[-1]}"
            )

    @functools.cached_property
    def shape(self) -> Shape:  # type: ignore[override]
        return (BATCH, self.centroids.shape[0])

    @property
    def flops(self) -> float:
        return 3.0 * elements(self.centroids.shape)


@node
class ClusterQuality(Evaluate):
    """`Evaluate` of clusters, which needs no label: the Davies-Bouldin index and the mean of the
    squared distances, both from the model's centroids.
    """


@node
class ReconstructionQuality(Evaluate):
    """`Evaluate` of an autoencoder, which needs no label: means over the rows of its errors."""


@node
class Loadings(Inspection):
    """A row per output of a model and column that it reads: centroids in the units of the columns,
    principal components as they stand.

    SQL: ``ML.CENTROIDS(MODEL m)``, ``ML.PRINCIPAL_COMPONENTS(MODEL m)``.
    """

    models: tuple[Model, ...]
    with_trial: bool = False

    @functools.cached_property
    def schema(self) -> Schema:  # type: ignore[override]
        number = "centroid_id" if self.models[0].task == CLUSTERS else "principal_component_id"
        categories = list_of(struct_of(category=TEXT, value=FLOAT64))
        trial = {"trial_id": INT64} if self.with_trial else {}
        return Schema.of(
            **trial, **{number: INT64}, feature=TEXT, numerical_value=FLOAT64,
            categorical_value=categories,
        )  # fmt: skip
