"""ML.CENTROIDS and ML.PRINCIPAL_COMPONENTS: what a model without a label has learnt, by column."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from gradbase.ir.learning import Model
from gradbase.ir.tensor import Linear
from gradbase.ir.unlabelled import Distances, Loadings
from gradbase.runtime.arrow_types import arrow_type
from gradbase.runtime.context import RunContext
from gradbase.runtime.encode import constant
from gradbase.runtime.weights import Entry, Floats, InputWeights, parts_of


class _Centroids(InputWeights):
    """Centroids in the units of the columns."""

    def plain(self, weights: Floats, mean: float, scale: float) -> Floats:
        return weights / scale + mean


def loadings_batch(node: Loadings, context: RunContext) -> list[pa.Array]:
    """The columns of ML.CENTROIDS or ML.PRINCIPAL_COMPONENTS."""
    rows = [row[not node.with_trial :] for m in node.models for row in _rows(m, context)]
    types = [arrow_type(f.type) for f in node.schema]
    columns = zip(*rows, strict=True)
    return [pa.array(c, t) for c, t in zip(columns, types, strict=True)]


def _rows(model: Model, context: RunContext) -> Iterator[tuple[Any, ...]]:
    """(trial, number, column, value, values of categories), centroid after centroid."""
    x, entries = _entries(model, context)
    for number in range(x):
        for name, values, categories in entries:
            if categories is None:
                yield model.trial, number + 1, name, float(values[number]), []
                continue
            pairs = zip(categories, values[number], strict=True)
            found = [{"category": c, "value": float(v)} for c, v in pairs]
            yield model.trial, number + 1, name, None, found


def _entries(model: Model, context: RunContext) -> tuple[int, list[Entry]]:
    layer = model.outputs[0].x
    kind = InputWeights
    if isinstance(layer, Distances):
        values, kind = layer.centroids, _Centroids
    else:
        assert isinstance(layer, Linear), layer
        values = layer.weight
    weight = constant(values, context.blobs).astype(np.float64)  # type: ignore[arg-type]
    solved = kind(context, weight, np.zeros(len(weight)), standardize=kind is InputWeights)
    return len(weight), [entry for part in parts_of(layer.x) for entry in solved.of(part)]
