"""From a training query to `TrainingData`: one pass over the relation, then over what was kept."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from gradbase.errors import DataError, ResourceError
from gradbase.ir.learning import Dataset, Model
from gradbase.runtime.train import labels, on_disk
from gradbase.runtime.train.continuing import start_of
from gradbase.runtime.train.data import TrainingData
from gradbase.runtime.train.encode_rows import Codes, Floats, encode_block
from gradbase.runtime.train.features import Chooser, Inputs, Numbers
from gradbase.runtime.train.instance_weights import checked_weights, mean_weight
from gradbase.runtime.train.labels import Labels, Scheme, Target
from gradbase.runtime.train.laying import Laying
from gradbase.runtime.train.reading import Progress, ReadRows, read_rows
from gradbase.runtime.train.rows import (
    Block,
    Blocks,
    Bools,
    RowStore,
    Trains,
    spill_error,
    temporary_file,
)
from gradbase.runtime.train.spill import MappedFile, spill_folder
from gradbase.runtime.train.split import divide, shards
from gradbase.runtime.train.statistics import Moments
from gradbase.runtime.train.summaries import summary
from gradbase.runtime.train.transforming import learn_transform
from gradbase.store.records import FeatureRecord

if TYPE_CHECKING:
    from gradbase.runtime.context import RunContext

OWNER = "training data"
CHUNK_ROWS = 4_096
"""Rows without a label that are computed with at a time."""
LEAST_PART = 1 << 20
"""Bytes of rows that are sorted in memory at a time, at least."""


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

    def run(self) -> TrainingData:
        found = None if self.rows.store.spilled else self._in_memory()
        return found or self._in_files()

    def _in_memory(self) -> TrainingData | None:
        """None where encoded rows do not fit."""
        data, rows = self.data, self.rows
        ids, order = rows.identified
        parts = divide(data.split, ids, order, data.seed, rows.split)
        weights = rows.weights
        if weights is not None:
            weights = weights / mean_weight(lambda w=weights: iter([w[parts.train]]), data.weight)
        trains = np.zeros(rows.store.rows, np.bool_)
        trains[parts.train] = True
        column = rows.labels
        scheme = self._target(labels.of_column(column, trains))
        with self._inputs(trains) as (inputs, known, store):
            x, codes = self._held(inputs, rows.store.rows)
            if x is None:
                return None
            self._encode(store, inputs, x, codes)
        target = self._reconstructed(inputs) if scheme is None else scheme.of(column)
        return TrainingData(
            inputs, target, x, codes, ids, parts, shards(ids, parts.train, data.shards, data.seed),
            weights=weights, keyed=rows.keyed, **self._common(trains, known),
        )  # fmt: skip

    def _in_files(self) -> TrainingData:
        """Rows are dealt out and encoded on disk; in memory there is some at a time."""
        data, rows, context = self.data, self.rows, self.of.context
        part_bytes = max(LEAST_PART, self.budget_bytes // 4)
        folder = Path(tempfile.mkdtemp(prefix="rows-", dir=spill_folder(context)))
        self.resources.callback(shutil.rmtree, folder, ignore_errors=True)
        try:
            ids = on_disk.identified(rows.hashes, folder, part_bytes)
            trains = on_disk.dealt(data, rows, ids, folder)
            mean = mean_weight(lambda: self._weights(trains), data.weight) if data.weight else 0.0
            blocks = blocks_of(rows.store, trains)
            scheme = self._target(
                lambda: ((b.rows.column(data.label), here) for b, here in blocks())
            )
            with self._inputs(trains) as (inputs, known, store):
                target = self._reconstructed(inputs) if scheme is None else scheme.target
                common = self._common(trains, known)
                made = Laying(data, inputs, target, scheme, mean, common, folder, part_bytes)
                return made.lay(rows.store, store, trains, self.of.progress)
        except OSError as error:
            raise spill_error(folder, error) from error

    def _weights(self, trains: Trains) -> Iterator[npt.NDArray[np.float64]]:
        name = self.data.weight
        for block, here in blocks_of(self.rows.store, trains)():
            yield checked_weights(block.rows.column(name), name, 0, None)[here]

    def _common(self, trains: Trains, known: Mapping[str, Moments]) -> dict[str, Any]:
        """What training data have wherever their rows are."""
        return {
            "seed": self.data.seed, "without_label": self.rows.without_label,
            "relation_hash": self.rows.relation_hash, "cache_bytes": self.budget_bytes // 2,
            "resources": self.resources, "cancelled": self.of.context.cancelled,
            "summaries": () if self.data.split.fold else self._summaries(trains, known),
            "start": self.of.start.layers if self.of.start else (),
        }  # fmt: skip

    def _reconstructed(self, inputs: Inputs) -> Target:
        return Target(np.empty(0), self.data.task, inputs.width)

    def encoded(self) -> Encoded:
        rows = self.rows
        everything = np.ones(rows.store.rows, np.bool_)
        with self._inputs(everything) as (inputs, known, store):
            x, _ = self._held(inputs, rows.store.rows)
            file = None
            if x is None:
                x, file = self._mapped(rows.store.rows, inputs.width + 1)
            self._encode(store, inputs, x, None, file)
        summaries = self._summaries(everything, known)
        return Encoded(inputs, x, rows.identified[1], rows, summaries, self.resources)

    def _target(self, found: Labels) -> Scheme | None:
        """How labels become targets; None where rows themselves are. Errors say on which fold."""
        if self.data.task == "reconstruction":
            return None
        split = self.data.split
        try:
            scheme = self._scheme(found)
        except DataError as error:
            if not split.fold:
                raise
            raise DataError(
                f"without fold {split.fold} of {split.folds}: {error.message}",
                at=error.at,
                hint=f"lower num_folds; {error.hint}",
            ) from None
        target = labels.weighted(scheme.target, self.data.class_weights, self.data.label)
        return replace(scheme, target=target)

    def _scheme(self, found: Labels) -> Scheme:
        label, task = self.data.label, self.data.task
        if self.of.start is not None:
            return labels.continued(label, found, self.of.start.head)
        if task == "regression":
            return labels.regression(label, found, centred=self.of.centred)
        of = self.data.relation.schema.type_of(label)
        return labels.classification(label, of, task, found)

    @contextlib.contextmanager
    def _inputs(self, trains: Trains) -> Generator[tuple[Inputs, Mapping[str, Moments], RowStore]]:
        """What networks read, moments of features known by the way, and the rows to be encoded."""
        store, data, context = self.rows.store, self.data, self.of.context
        if not data.prepared:
            yield *self._choose(store, trains), store
            return
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
            yield inputs, {}, made

    def _choose(self, store: RowStore, trains: Trains) -> tuple[Inputs, Mapping[str, Moments]]:
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

    def _summaries(self, trains: Trains, known: Mapping[str, Moments]) -> tuple[FeatureRecord, ...]:
        schema, blocks = self.data.relation.schema, blocks_of(self.rows.store, trains)
        return tuple(
            summary(name, schema.type_of(name), blocks, known.get(name))
            for name in self.data.features
        )

    def _encode(
        self, store: RowStore, inputs: Inputs, x: Floats, codes: Codes,
        file: MappedFile | None = None,
    ) -> None:  # fmt: skip
        for block in store.blocks():
            stop = block.start + block.rows.num_rows
            here = slice(block.start, stop)
            encode_block(block, inputs, x[here], None if codes is None else codes[here])
            if file is not None:
                file.release()
            self.of.progress("encoding", stop)

    def _held(self, inputs: Inputs, rows: int) -> tuple[Floats | None, Codes]:
        """Memory for the encoded rows, under a lease; None where there is not enough."""
        width, embedded = inputs.width + 1, len(inputs.embedded)
        size_bytes = rows * (width * 4 + embedded * 8)
        broker = self.of.context.broker
        if size_bytes <= self.budget_bytes:
            with contextlib.suppress(ResourceError):
                lease = broker.acquire(OWNER, "encoded rows", size_bytes=size_bytes, timeout_s=0.1)
                self.resources.callback(broker.release, lease)
                codes = np.empty((rows, embedded), np.int64) if embedded else None
                return np.empty((rows, width), np.float32), codes
        return None, None

    def _mapped(self, rows: int, width: int) -> tuple[Floats, MappedFile]:
        folder = spill_folder(self.of.context)
        try:
            path = temporary_file(folder, ".rows", rows * width * 4)
        except OSError as error:
            raise spill_error(folder, error) from error
        self.resources.callback(path.unlink, missing_ok=True)
        file = MappedFile(path, writable=True)
        return file.array(np.dtype(np.float32), (rows, width)), file


def blocks_of(store: RowStore, trains: Trains) -> Blocks:
    """The rows of a store and which of them train, again and again."""

    def blocks() -> Iterator[tuple[Block, Bools]]:
        for block in store.blocks():
            yield block, trains[block.start : block.start + block.rows.num_rows]

    return blocks
