"""Confusion matrices, ROC curves and comparisons, from counts and metrics computed below them."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch

from gradbase.errors import InternalError
from gradbase.ir.inspection import (
    CompareModels,
    ConfusionMatrix,
    Inspection,
    Keep,
    RocCurve,
    SchemaDrift,
    Weights,
)
from gradbase.ir.relational import Relation
from gradbase.ir.unlabelled import Loadings
from gradbase.runtime.arrow_types import arrow_type, constants
from gradbase.runtime.columns import category_text, kernels
from gradbase.runtime.context import RunContext
from gradbase.runtime.drift import drift_batch
from gradbase.runtime.loadings import loadings_batch
from gradbase.runtime.metrics import HALF
from gradbase.runtime.streams import Stream, read_table, watched
from gradbase.runtime.weights import weights_batch

Open = Callable[[Relation], Stream]
"""Starts a relation below."""
Ints = npt.NDArray[np.int64]
PERCENTILES = 100


def inspection_stream(node: Inspection, open_: Open, context: RunContext) -> Stream:
    """The rows of `node`; what is below it is opened when they are read."""
    if isinstance(node, Keep):
        return open_(node.child)
    schema = arrow_schema(node)

    def batches() -> Generator[pa.RecordBatch]:
        yield pa.RecordBatch.from_arrays(_columns(node, open_, context), schema=schema)

    return Stream(schema, batches())


def arrow_schema(node: Relation) -> pa.Schema:
    """The schema of a relation in Arrow's types."""
    return pa.schema([(f.name, arrow_type(f.type)) for f in node.schema])


def _columns(node: Inspection, open_: Open, context: RunContext) -> list[pa.Array]:
    match node:
        case RocCurve(child=child, thresholds=thresholds):
            return _roc(_integers_of(open_(child), context), thresholds)
        case ConfusionMatrix(child=child):
            return _matrix(node, open_(child), context)
        case CompareModels():
            return _comparison(node, open_, context)
        case Weights():
            return weights_batch(node, context)
        case Loadings():
            return loadings_batch(node, context)
        case SchemaDrift(child=child):
            return drift_batch(node, open_(child), context)
    raise InternalError(f"{type(node).__name__} cannot be run")


def _integers_of(source: Stream, context: RunContext) -> dict[str, npt.NDArray[Any]]:
    table = read_table(Stream(source.schema, watched(source.batches, context)))
    return {name: table.column(name).to_numpy() for name in table.column_names}


# -- two classes by score ----------------------------------------------------------------------


def _roc(found: dict[str, npt.NDArray[Any]], thresholds: tuple[float, ...]) -> list[pa.Array]:
    order = np.argsort(found["logit"], kind="stable")
    logit = np.asarray(found["logit"], np.float64)[order]
    scores = np.maximum.accumulate(torch.from_numpy(logit).sigmoid().numpy())
    negatives, positives = (np.cumsum(found[n][order]) for n in ("negatives", "positives"))
    cuts = np.array(thresholds) if thresholds else _percentiles(scores, negatives + positives)
    # As `metrics.above` has it: at one half the logit decides.
    below = np.searchsorted(scores, cuts, side="right")
    below[cuts == HALF] = np.searchsorted(logit, 0.0, side="right")
    true_negatives, false_negatives = (_upto(c, below) for c in (negatives, positives))
    false_positives = _total(negatives) - true_negatives
    true_positives = _total(positives) - false_negatives
    counts = (true_positives, false_positives, true_negatives, false_negatives)
    return [
        pa.array(cuts),
        _share(true_positives, _total(positives)),
        _share(false_positives, _total(negatives)),
        *(pa.array(c) for c in counts),
    ]


def _percentiles(scores: npt.NDArray[np.float64], upto: Ints) -> npt.NDArray[np.float64]:
    """0, at which all rows are positive, and the scores that 0 to 100 % of the rows do not exceed.

    The p-th percentile is the smallest score that p % of the rows do not exceed.
    """
    if not len(scores):
        return np.zeros(1)
    ranks = [max(math.ceil(p * int(upto[-1]) / PERCENTILES), 1) for p in range(PERCENTILES + 1)]
    return np.unique(np.append(0.0, scores[np.searchsorted(upto, ranks)]))


def _upto(cumulated: Ints, rows: Ints) -> Ints:
    """Counts of the first so many scores."""
    return np.append(0, cumulated)[rows].astype(np.int64)


def _total(cumulated: Ints) -> int:
    return int(cumulated[-1]) if len(cumulated) else 0


def _share(part: Ints, whole: int) -> pa.Array:
    """NULL where there is nothing to have a share of."""
    return pa.array(part / whole if whole else [None] * len(part), pa.float64())


# -- classes -----------------------------------------------------------------------------------


def _matrix(node: ConfusionMatrix, source: Stream, context: RunContext) -> list[pa.Array]:
    """From (expected, predicted, cases), or from the one row of a `RocCurve`."""
    found = _integers_of(source, context)
    cells = np.zeros((len(node.classes),) * 2, np.int64)
    if "expected" in found:
        np.add.at(cells, (found["expected"], found["predicted"]), found["cases"])
    else:
        names = ("true_negatives", "false_positives", "false_negatives", "true_positives")
        cells[:] = np.array([found[n][0] for n in names]).reshape(2, 2)
    labels = constants(node.classes, node.classes[0].of)
    return [labels, *(pa.array(column) for column in cells.T)]


# -- two models --------------------------------------------------------------------------------

DIFFERENT = "different_predictions"
"""Share of the rows for which two models predict differently."""
DISTANCE = "mean_absolute_difference"
"""Of two regressions."""


def _comparison(node: CompareModels, open_: Open, context: RunContext) -> list[pa.Array]:
    rows: list[tuple[str, float | None, float | None, float | None]] = []
    if node.metrics:
        first, second = (read_table(open_(m)).to_pylist()[0] for m in node.metrics)
        for name, a in first.items():
            b = second[name]
            rows.append((name, a, b, None if a is None or b is None else b - a))
    rows += [(name, None, None, value) for name, value in _differences(open_(node.pairs), context)]
    types = [arrow_type(f.type) for f in node.schema]
    columns = zip(*rows, strict=True)
    return [pa.array(c, t) for c, t in zip(columns, types, strict=True)]


def _differences(source: Stream, context: RunContext) -> list[tuple[str, float | None]]:
    rows = differing = 0
    distance = 0.0
    numeric = all(pa.types.is_floating(f.type) for f in source.schema)
    for batch in watched(source.batches, context):
        a, b = (c if numeric else category_text(c) for c in batch.columns)
        same = kernels.fill_null(kernels.equal(a, b), False)
        neither = kernels.and_(a.is_null(), b.is_null())
        rows += batch.num_rows
        differing += batch.num_rows - kernels.sum(kernels.or_(same, neither)).as_py()
        if numeric:
            gap = kernels.sum(kernels.abs(kernels.subtract(a, b))).as_py()
            distance += gap or 0.0
    found = [(DIFFERENT, differing / rows if rows else None)]
    return [*found, (DISTANCE, distance / rows if rows else None)] if numeric else found
