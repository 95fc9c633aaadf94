"""From a training query to `TrainingData`: one pass over the relation, then over what was kept."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from torch import Tensor

from gradbase.errors import DataError, ResourceError
from gradbase.ir.conversion import Category, ToTensor
from gradbase.ir.learning import Dataset, Model
from gradbase.runtime.encode import encode_into
from gradbase.runtime.train import labels
from gradbase.runtime.train.continuing import start_of
from gradbase.runtime.train.data import TrainingData
from gradbase.runtime.train.features import Chooser, Inputs, Numbers, columns_of
from gradbase.runtime.train.instance_weights import relative
from gradbase.runtime.train.labels import Target
from gradbase.runtime.train.reading import Progress, ReadRows, read_rows
from gradbase.runtime.train.rows import Block, Blocks, RowStore, spill_error, temporary_file
from gradbase.runtime.train.spill import MappedFile, spill_folder
from gradbase.runtime.train.split import Parts, divide, shards
from gradbase.runtime.train.statistics import Moments
from gradbase.runtime.train.summaries import summary
from gradbase.runtime.train.transforming import learn_transform
from gradbase.store.records import FeatureRecord

if TYPE_CHECKING:
    from gradbase.runtime.context import RunContext

OWNER = "training data"
CHUNK_ROWS = 4_096
"""Rows without a label that are computed with at a time."""
Floats = npt.NDArray[np.float32]
Codes = npt.NDArray[np.int64] | None
Bools = npt.NDArray[np.bool_]


def prepare(
    data: Dataset,
    context: RunContext,
    progress: Progress | None = None,
    *,
    embeddings: bool = True,
    centred: bool = True,
) -> TrainingData:
    """Read the relation once and make it ready for any number of trials.

    Parameters
    ----------
    data : Dataset
    context : RunContext
    progress : function of (what, rows), optional
    embeddings : bool
        Whether every network of the search can learn embeddings; otherwise all categories are
        one-hot (`ONE_HOT_ONLY_CODES` at most).
    centred : bool
        Whether networks have a constant term, so that the label may be moved.

    Raises
    ------
    DataError
        There is nothing to learn from: no row, one row, a label that is missing or constant, more
        than 1,000 classes, ±Inf in a feature or label; a wrong instance weight.
    BindError
        `class_weights` do not fit the classes.
    UnsupportedError
        A column's type cannot be a feature.
    """
    made = Preparation(data, context, progress, embeddings=embeddings, centred=centred)
    with contextlib.closing(made) as rows:
        return rows.deal(data)


class Preparation:
    """The rows of a training query, read once; dealt out any number of times.

    Parameters
    ----------
    data : Dataset
        The first that will be dealt; others differ in their split's fold only.
    at_once : int
        How many `TrainingData` are in memory at a time.
    start : Model, optional
        The model that is continued: its encodings stay as they are.
    numbers : Numbers, optional
        How numbers are encoded.
    """

    def __init__(
        self,
        data: Dataset,
        context: RunContext,
        progress: Progress | None = None,
        *,
        embeddings: bool = True,
        centred: bool = True,
        at_once: int = 1,
        start: Model | None = None,
        numbers: Numbers | None = None,
    ) -> None:
        self.context, self.at_once = context, at_once
        self.numbers = numbers or Numbers()
        self.embeddings, self.centred = embeddings, centred
        self.start = None if start is None else start_of(start, context.blobs)
        self.progress: Progress = progress or (lambda _what, _rows: None)
        store = RowStore(self.free_bytes() // 2, lambda: spill_folder(context))
        try:
            self.rows = read_rows(data, context, store, self.progress)
        except BaseException:
            store.close()
            raise

    def deal(self, data: Dataset) -> TrainingData:
        """The rows divided, encoded and in memory (or in a file), as `data` says."""
        resources = contextlib.ExitStack()
        with contextlib.ExitStack() as guard:
            guard.push(resources)
            made = _Deal(data, self, resources).run()
            guard.pop_all()
        return made

    def encoded(self, data: Dataset) -> Encoded:
        """All rows, for what learns without a label."""
        resources = contextlib.ExitStack()
        with contextlib.ExitStack() as guard:
            guard.push(resources)
            made = _Deal(data, self, resources).encoded()
            guard.pop_all()
        return made

    def close(self) -> None:
        """Forget the rows; what was dealt stays."""
        self.rows.store.close()
        self.rows = self.rows.forgotten()

    def free_bytes(self) -> int:
        """What one `TrainingData` may use: half of what the engine leaves is for all data.

        The other half is for steps of training, which come to an end and give it back.
        """
        broker = self.context.broker
        half = (broker.memory_bytes - broker.held(self.context.engine.name)) // 2
        return max(0, min(broker.free()[1], half - broker.held(OWNER))) // self.at_once


@dataclass(frozen=True)
class Encoded:
    """Rows without a label, as numbers.

    Parameters
    ----------
    x : float32[rows, columns + 1]
        The last column is 1. In memory under a lease, or a mapped file.
    order : int64[rows]
        Rows in the order of their identities.
    """

    inputs: Inputs
    x: Floats
    order: npt.NDArray[np.int64]
    rows: ReadRows
    summaries: tuple[FeatureRecord, ...]
    resources: contextlib.ExitStack

    def chunks(self) -> Iterator[tuple[slice, Tensor]]:
        """Places in `order`, and these rows as Tensor[n, columns] float64.

        Neither depends on memory, so sums over chunks are always the same.
        """
        for start in range(0, len(self.order), CHUNK_ROWS):
            places = slice(start, min(start + CHUNK_ROWS, len(self.order)))
            rows = self.x[self.order[places], :-1]
            yield places, torch.from_numpy(rows).to(torch.float64)

    def close(self) -> None:
        """Give memory or file back."""
        self.resources.close()


class _Deal:
    def __init__(
        self, data: Dataset, preparation: Preparation, resources: contextlib.ExitStack
    ) -> None:
        self.data, self.of, self.resources = data, preparation, resources
        self.rows: ReadRows = preparation.rows
        self.budget_bytes = preparation.free_bytes()
        self.mapped: dict[str, MappedFile] = {}

    def run(self) -> TrainingData:
        data, rows = self.data, self.rows
        parts = divide(data.split, rows.ids, rows.order, data.seed, rows.split)
        weights = rows.weights
        if weights is not None:
            weights = relative(weights, parts.train, data.weight)
        trains = np.zeros(rows.store.rows, np.bool_)
        trains[parts.train] = True
        target = None if data.task == "reconstruction" else self._of_fold(parts)
        inputs, known, x, codes = self._inputs(trains)
        if target is None:
            target = Target(np.empty(0), data.task, inputs.width)
        return TrainingData(
            inputs, target, x, codes, rows.ids, parts,
            shards(rows.ids, parts.train, data.shards, data.seed), data.seed,
            rows.without_label, rows.relation_hash, self.budget_bytes // 2,
            self.resources, self.of.context.cancelled, weights,
            () if data.split.fold else self._summaries(trains, known),
            self.of.start.layers if self.of.start else (), mapped=self.mapped, keyed=rows.keyed,
        )  # fmt: skip

    def encoded(self) -> Encoded:
        rows = self.rows
        everything = np.ones(rows.store.rows, np.bool_)
        inputs, known, x, _ = self._inputs(everything)
        summaries = self._summaries(everything, known)
        return Encoded(inputs, x, rows.order, rows, summaries, self.resources)

    def _of_fold(self, parts: Parts) -> Target:
        """As `_target`; errors say on which fold."""
        split = self.data.split
        try:
            return self._target(parts)
        except DataError as error:
            if not split.fold:
                raise
            raise DataError(
                f"without fold {split.fold} of {split.folds}: {error.message}",
                at=error.at,
                hint=f"lower num_folds; {error.hint}",
            ) from None

    def _target(self, parts: Parts) -> Target:
        column, label, task = self.rows.labels, self.data.label, self.data.task
        if self.of.start is not None:
            found = labels.continued(label, column, parts.train, self.of.start.head)
            return labels.weighted(found, self.data.class_weights, label)
        if task == "regression":
            return labels.regression(label, column, parts.train, centred=self.of.centred)
        of = self.data.relation.schema.type_of(label)
        found = labels.classification(label, of, task, column, parts.train)
        return labels.weighted(found, self.data.class_weights, label)

    def _inputs(self, trains: Bools) -> tuple[Inputs, Mapping[str, Moments], Floats, Codes]:
        """What networks read, moments of features known by the way, and all rows encoded."""
        store, data, context = self.rows.store, self.data, self.of.context
        if not data.prepared:
            inputs, known = self._choose(store, trains)
            return inputs, known, *self._encode(store, inputs)
        made = RowStore(self.budget_bytes // 2, lambda: spill_folder(context))
        with contextlib.closing(made):
            learnt = learn_transform(data, store, trains, context, made)
            inputs, _ = self._choose(made, trains)
            kept = {t.column for t in (*inputs.dense, *inputs.embedded)}
            inputs = replace(
                inputs,
                features=learnt.features(data, kept),
                columns=tuple(d for d in learnt.columns if d.name in kept),
                transform=learnt.transform,
                params={**inputs.params, **learnt.params},
            )
            return inputs, {}, *self._encode(made, inputs)

    def _choose(self, store: RowStore, trains: Bools) -> tuple[Inputs, Mapping[str, Moments]]:
        """Encodings, and moments of columns that are known by the way."""
        if self.of.start is not None:
            return self.of.start.inputs, {}
        embeddings, fits_memory = self.of.embeddings, not store.spilled
        chooser = Chooser(
            blocks_of(store, trains), embeddings=embeddings, fits_memory=fits_memory,
            how=self.of.numbers,
        )  # fmt: skip
        for column in self.data.inputs:
            self.of.progress(f"column {column.name}", store.rows)
            chooser.add(column.name, column.type)
        return chooser.inputs(), chooser.moments

    def _summaries(self, trains: Bools, known: Mapping[str, Moments]) -> tuple[FeatureRecord, ...]:
        schema, blocks = self.data.relation.schema, blocks_of(self.rows.store, trains)
        return tuple(
            summary(name, schema.type_of(name), blocks, known.get(name))
            for name in self.data.features
        )

    def _encode(self, store: RowStore, inputs: Inputs) -> tuple[Floats, Codes]:
        x = self._matrix("x", (store.rows, inputs.width + 1), np.dtype(np.float32))
        codes = None
        if inputs.embedded:
            codes = self._matrix("codes", (store.rows, len(inputs.embedded)), np.dtype(np.int64))
        for block in store.blocks():
            stop = block.start + block.rows.num_rows
            here = slice(block.start, stop)
            encode_block(block, inputs, x[here], None if codes is None else codes[here])
            for file in self.mapped.values():
                file.release()
            self.of.progress("encoding", stop)
        return x, codes

    def _matrix(self, name: str, shape: tuple[int, int], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
        """Memory under a lease, or a mapped file where there is not enough."""
        size_bytes = shape[0] * shape[1] * dtype.itemsize
        broker = self.of.context.broker
        if size_bytes <= self.budget_bytes:
            with contextlib.suppress(ResourceError):
                lease = broker.acquire(OWNER, "encoded rows", size_bytes=size_bytes, timeout_s=0.1)
                self.resources.callback(broker.release, lease)
                return np.empty(shape, dtype)
        folder = spill_folder(self.of.context)
        try:
            path = temporary_file(folder, ".rows", size_bytes)
        except OSError as error:
            raise spill_error(folder, error) from error
        self.resources.callback(path.unlink, missing_ok=True)
        file = MappedFile(path, writable=True)
        self.mapped[name] = file
        return file.array(dtype, shape)


def blocks_of(store: RowStore, trains: Bools) -> Blocks:
    """The rows of a store and which of them train, again and again."""

    def blocks() -> Iterator[tuple[Block, Bools]]:
        for block in store.blocks():
            yield block, trains[block.start : block.start + block.rows.num_rows]

    return blocks


def encode_block(block: Block, inputs: Inputs, x: Floats, codes: Codes) -> None:
    """Write the rows of `block` as numbers into `x` [rows, width + 1] and `codes`."""
    at = 0
    for tensor in inputs.dense:
        width = columns_of(tensor.encoding)
        _fill(x[:, at : at + width], block, tensor, inputs)
        at += width
    for j, tensor in enumerate(inputs.embedded):
        assert codes is not None
        _fill(codes[:, j : j + 1], block, tensor, inputs, is_code=True)
    x[:, at] = 1.0


def _fill(
    out: npt.NDArray[Any], block: Block, tensor: ToTensor, inputs: Inputs, *, is_code: bool = False
) -> None:
    """Encode a column of `block` into `out`; a category as one-hot unless `is_code`."""
    encoding, name = tensor.encoding, tensor.column
    one_hot = isinstance(encoding, Category) and not is_code
    target = np.empty((len(out), 1), np.int64) if one_hot else out

    def call(column: pa.Array, first: int) -> None:
        encode_into(
            target[: len(column)], column, encoding, name=name, first_row=first, blobs=inputs
        )

    block.located(name, call)
    if one_hot:
        out[:] = 0.0
        known = np.flatnonzero(target[:, 0])
        out[known, target[known, 0] - 1] = 1.0
