"""Metrics of a model on the rows of a relation."""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Generator, Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch

from gradbase.errors import DataError
from gradbase.ir.conversion import RECONSTRUCTION_ERRORS, Category, ToTable
from gradbase.ir.grouping import EvaluateGroups
from gradbase.ir.inspection import ClassCounts, ScoreCounts
from gradbase.ir.learning import Evaluate
from gradbase.ir.unlabelled import ClusterQuality, Distances, ReconstructionQuality
from gradbase.optimizer.cost_predict import ONNX
from gradbase.runtime.arrow_types import arrow_type, constants
from gradbase.runtime.cluster_quality import Quality
from gradbase.runtime.columns import category_text, numbers
from gradbase.runtime.confusion import class_counts, score_counts
from gradbase.runtime.context import RunContext
from gradbase.runtime.encode import category_codes, constant, null_rows
from gradbase.runtime.groups.keys import keys_of
from gradbase.runtime.groups.metrics import metrics_by_group
from gradbase.runtime.metrics import metrics
from gradbase.runtime.predict import (
    RELATIONAL,
    Computing,
    Runners,
    Sizes,
    computing,
    leased,
)
from gradbase.runtime.preprocess.operator import Reads
from gradbase.runtime.program import Program
from gradbase.runtime.programs import compile_program
from gradbase.runtime.streams import Stream, grouped, recut, watched
from gradbase.runtime.tiled.sizes import TiledSizes
from gradbase.runtime.timing import Timing

_METHOD = {"binary": "proba", "multiclass": "proba", "regression": "value"}


def evaluate_sizes(node: Evaluate, context: RunContext) -> Sizes | TiledSizes:
    """The sizes of an evaluation."""
    if node.representation == RELATIONAL:
        row_bytes, methods = node.child.schema.row_bytes, (_METHOD[node.model.task],)
        return TiledSizes(node.model, methods, row_bytes, node.batch_rows, context)
    onnx = node.representation == ONNX
    return Sizes(node.model, node.batch_rows, node.child.schema.row_bytes, context, onnx=onnx)


def evaluate_stream(
    node: Evaluate, source: Stream, sizes: Sizes | TiledSizes, context: RunContext
) -> Stream:
    """One row of metrics, NULLs where no row has a label; or counts of the rows.

    Memory: 4 bytes per row and output, 8 per target.

    Raises
    ------
    DataError
        A label is none of the model's classes, or a feature is ±Inf.
    """
    schema = pa.schema([(f.name, arrow_type(f.type)) for f in node.schema])

    def batches() -> Generator[pa.RecordBatch]:
        if isinstance(node, ClusterQuality):
            found = _quality(node, source, sizes, context)
            columns = [pa.array([found[n]], pa.float64()) for n in schema.names]
            yield pa.RecordBatch.from_arrays(columns, schema=schema)
            return
        if isinstance(node, ReconstructionQuality):
            means = _reconstruction(node, source, sizes, context)
            columns = [pa.array([v], pa.float64()) for v in means]
            yield pa.RecordBatch.from_arrays(columns, schema=schema)
            return
        output, target, keys = _collect(node, source, sizes, context)
        if isinstance(node, EvaluateGroups):
            yield _by_group(node, output, target, keys, schema)
            return
        told = zip(_told(node, output, target), schema, strict=True)
        columns = [pa.array(c, f.type) for c, f in told]
        yield pa.RecordBatch.from_arrays(columns, schema=schema)

    return Stream(schema, batches())


def _told(node: Evaluate, output: torch.Tensor, target: torch.Tensor) -> Iterable[Any]:
    """The columns: counts, or one row of metrics."""
    match node:
        case ScoreCounts():
            return score_counts(output, target)
        case ClassCounts():
            return class_counts(output, target, node.threshold).T
        case _ if not len(target):
            return [[None]] * len(node.schema)
    found = metrics(node.model.task, output, target, threshold=node.threshold)
    return [[found[name]] for name in node.schema.names]


def _by_group(
    node: EvaluateGroups,
    output: torch.Tensor,
    target: torch.Tensor,
    keys: list[pa.Array],
    schema: pa.Schema,
) -> pa.RecordBatch:
    """A row of metrics for each group."""
    groups = keys_of(node.keys, keys)
    group = groups.find(keys)
    order = np.argsort(group, kind="stable")
    starts = np.searchsorted(group[order], np.arange(len(groups) + 1))
    rows = [order[a:b] for a, b in itertools.pairwise(starts)]
    values, true = output.double().numpy(), target.numpy()
    found = metrics_by_group(node.model.task, [values[r] for r in rows], [true[r] for r in rows])
    first = pa.array(np.array([r[0] for r in rows], np.int64))
    columns = [k.take(first).cast(f.type) for k, f in zip(keys, schema, strict=False)]
    columns.append(pa.array([len(r) for r in rows], pa.int64()))
    names = schema.names[len(columns) :]
    columns += [pa.array([f[n] for f in found], pa.float64()) for n in names]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _quality(
    node: ClusterQuality, source: Stream, sizes: Sizes | TiledSizes, context: RunContext
) -> dict[str, float | None]:
    """Metrics of clusters over all rows; NULL where there is nothing to measure."""
    program = compile_program(node.model, ("centroid",), context)
    layer = program.outputs[0].node.x
    assert isinstance(layer, Distances)
    centroids = torch.from_numpy(np.array(constant(layer.centroids, context.blobs), np.float64))  # type: ignore[arg-type]
    quality = Quality(centroids, cosine=layer.cosine)
    for _, found in _outputs(node, program, source, sizes, context):
        quality.add(found[0].to(torch.float64))
    return {n: None if math.isnan(v) else v for n, v in quality.metrics().items()}


def _reconstruction(
    node: ReconstructionQuality, source: Stream, sizes: Sizes | TiledSizes, context: RunContext
) -> list[float | None]:
    """The mean over all rows of each error; NULL without rows."""
    program = compile_program(node.model, RECONSTRUCTION_ERRORS, context)
    totals = torch.zeros(len(RECONSTRUCTION_ERRORS), dtype=torch.float64)
    rows = 0
    for _, found in _outputs(node, program, source, sizes, context):
        totals += torch.stack([errors[:, 0].double().sum() for errors in found])
        rows += len(found[0])
    return [None if math.isnan(v) else v for v in (totals / rows).tolist()] if rows else [None] * 3


def _outputs(
    node: Evaluate, program: Program, source: Stream, sizes: Sizes | TiledSizes, context: RunContext
) -> Iterator[tuple[pa.RecordBatch, list[torch.Tensor]]]:
    """Batches of the rows with what the network gives for them, overwritten by the next."""
    features = [source.schema.get_field_index(f) for f in node.features]
    runners, reads = Runners(program, sizes.tile_rows, context), Reads(node.model, context)
    first_row = 0
    for batch in grouped(watched(source.batches, context), sizes.batch_rows):
        inputs = reads(batch.select(features))
        lease = leased(context, f"evaluate {node.model.name}", threads=1)
        with lease, runners.one(inputs) as runner:
            yield batch, runner.run(inputs, first_row)
        first_row += batch.num_rows


def _collect(
    node: Evaluate, source: Stream, sizes: Sizes | TiledSizes, context: RunContext
) -> tuple[torch.Tensor, torch.Tensor, list[pa.Array]]:
    """Outputs Tensor[rows, width] and targets Tensor[rows] of the rows that have a label, and
    the columns with the keys of `EvaluateGroups`.
    """
    methods = (_METHOD[node.model.task],)
    with contextlib.closing(computing(node.model, methods, sizes, context)) as runners:
        return _collected(node, source, runners, sizes, context)


def _collected(
    node: Evaluate, source: Stream, runners: Computing, sizes: Sizes | TiledSizes,
    context: RunContext,
) -> tuple[torch.Tensor, torch.Tensor, list[pa.Array]]:  # fmt: skip
    head, reads = runners.outputs[0].node, Reads(node.model, context)
    features = [source.schema.get_field_index(f) for f in node.features]
    label = source.schema.get_field_index(node.label)
    outputs: list[npt.NDArray[np.float32]] = []
    targets: list[npt.NDArray[np.float64]] = []
    wanted = node.keys if isinstance(node, EvaluateGroups) else ()
    keys: list[list[pa.Array]] = [[] for _ in wanted]
    first_row = 0
    cut = recut if isinstance(sizes, TiledSizes) else grouped
    timing = Timing(node, node.representation if isinstance(sizes, Sizes) else "", context)
    for batch in cut(watched(source.batches, context), sizes.batch_rows):
        target, known = true_values(head, batch.column(label), node.label, first_row)
        inputs = reads(batch.select(features))
        lease = leased(context, f"evaluate {node.model.name}", threads=runners.threads)
        with lease as threads, runners.one(inputs, threads) as runner:
            with timing.of(batch.num_rows):
                output = runner.run(inputs, first_row)[0].numpy()
            if runners.imported:
                known &= _predicted(inputs, output)
            elif runners.grouped:  # not every group has a model
                known &= ~np.isnan(output).any(axis=1)
            outputs.append(output[known])  # a copy
        targets.append(target[known])
        for column, name in zip(keys, wanted, strict=True):
            column.append(batch.column(name).filter(pa.array(known)))
        first_row += batch.num_rows
    timing.tell()
    return *_joined(head, outputs, targets), [_whole(c) for c in keys]


def _whole(parts: list[pa.Array]) -> pa.Array:
    return pa.concat_arrays(parts) if parts else pa.array([], pa.null())


def _predicted(inputs: pa.RecordBatch, output: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Rows that an imported network predicts: others have NULL in a column, or give NaN."""
    nulls = null_rows(inputs.columns)
    numbers = np.logical_not(np.isnan(output).any(axis=1))
    return numbers if nulls is None else numbers & ~nulls


def _joined(
    head: ToTable, outputs: list[npt.NDArray[np.float32]], targets: list[npt.NDArray[np.float64]]
) -> tuple[torch.Tensor, torch.Tensor]:
    if not outputs:
        return torch.empty((0, head.x.shape[-1])), torch.empty(0)
    output = torch.from_numpy(np.concatenate(outputs))
    if head.method == "value":
        output = output.double() * head.scale + head.shift
    return output, torch.from_numpy(np.concatenate(targets))


def true_values(
    head: ToTable, column: pa.Array, name: str, first_row: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    """Class numbers or values of a label column, and which rows have one.

    Parameters
    ----------
    head : ToTable
        The output whose classes they are.
    name : str
        Of the column; `first_row` is the place of its first row, from 0.
    """
    if head.method == "value":
        values = numbers(column, "value", name, first_row).astype(np.float64)
        return values, ~np.isnan(values) & column.is_valid().to_numpy(zero_copy_only=False)
    of_class = category_text(constants(head.classes, head.classes[0].of)).to_pylist()
    missing = len(of_class) + 1
    codes = category_codes(column, Category(tuple(of_class), missing))
    unseen = np.flatnonzero(codes == 0)
    if len(unseen):
        row = int(unseen[0])
        raise DataError(
            f"label `{column[row].as_py()}` in row {first_row + row + 1} is none of the model's "
            f"classes {', '.join(of_class[:8])}",
            at=f"column {name}, row {first_row + row + 1}",
            hint="leave such rows out, or train again with them",
        )
    return (codes - 1).astype(np.float64), codes != missing
