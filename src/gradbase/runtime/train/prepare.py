"""From a training query to `TrainingData`: one pass over the relation, then over what was kept."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import blake3
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from gradbase.errors import CancelledError, DataError, ResourceError
from gradbase.ir.conversion import Category, ToTensor
from gradbase.ir.learning import Dataset, Evaluate, Predict
from gradbase.ir.node import walk
from gradbase.ir.relational import Project
from gradbase.ir.scalar import Column, PredictCall
from gradbase.runtime import execute
from gradbase.runtime.encode import encode_into
from gradbase.runtime.train import labels
from gradbase.runtime.train.data import TrainingData
from gradbase.runtime.train.features import Chooser, Inputs, columns_of
from gradbase.runtime.train.identity import Words, identities, row_hashes
from gradbase.runtime.train.labels import Target
from gradbase.runtime.train.rows import Block, RowStore, spill_error, temporary_file
from gradbase.runtime.train.split import Parts, divide, shards

if TYPE_CHECKING:
    from gradbase.runtime.context import RunContext

Progress = Callable[[str, int], None]
"""Told what is done now and how many rows have been read."""
BATCH_ROWS = 65_536
OWNER = "training data"
_OURS = (Predict, Evaluate, PredictCall)
"""What the engine cannot run by itself."""


def prepare(
    data: Dataset,
    context: RunContext,
    progress: Progress | None = None,
    *,
    embeddings: bool = True,
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

    Raises
    ------
    DataError
        There is nothing to learn from: no row, one row, a label that is missing or constant, more
        than 1,000 classes, ±Inf in a feature or label.
    UnsupportedError
        A column's type cannot be a feature.
    """
    resources = contextlib.ExitStack()
    with contextlib.ExitStack() as guard:
        guard.push(resources)
        reading = _Reading(data, context, resources, progress or (lambda _what, _rows: None))
        made = reading.run(embeddings=embeddings)
        guard.pop_all()
    return made


@dataclass
class _Reading:
    data: Dataset
    context: RunContext
    resources: contextlib.ExitStack
    progress: Progress
    seen: int = 0
    content: list[Words] = field(default_factory=list)
    keys: list[Words] = field(default_factory=list)
    kept_labels: list[pa.Array] = field(default_factory=list)
    kept_split: list[pa.Array] = field(default_factory=list)

    def run(self, *, embeddings: bool) -> TrainingData:
        self.budget_bytes = self.context.broker.free()[1] // 2
        store = RowStore(self.budget_bytes // 2, lambda: spill_folder(self.context))
        self.resources.callback(store.close)
        self._read(store)
        self._check_rows(store.rows)
        content = np.concatenate(self.content)
        key = np.concatenate(self.keys) if self.keys else content
        ids, order = identities(key, content)
        column = pa.chunked_array(self.kept_split).combine_chunks() if self.kept_split else None
        parts = divide(self.data.split, ids, order, self.data.seed, column)
        target = self._target(parts)
        inputs = self._choose(store, parts, embeddings=embeddings)
        x, codes = self._encode(store, inputs)
        store.close()
        return TrainingData(
            inputs, target, x, codes, ids, parts,
            shards(ids, parts.train, self.data.shards, self.data.seed), self.data.seed,
            self.seen - store.rows, self._relation_hash(content), self.budget_bytes // 2,
            self.resources, self.context.cancelled,
        )  # fmt: skip

    # -- the one pass over the relation ------------------------------------------------------------

    @property
    def _columns(self) -> tuple[str, ...]:
        data = self.data
        special = (data.label, *data.row_key, *((data.split.column,) * bool(data.split.column)))
        return tuple(dict.fromkeys((*data.features, *special)))

    def _read(self, store: RowStore) -> None:
        label = self.data.label
        for batch in self._batches():
            if self.context.cancelled.is_set():
                raise CancelledError("training was cancelled while rows were read")
            if not batch.num_rows:
                continue
            absent = labels.missing(batch.column(label))
            keep = None if absent is None else ~absent
            store.append(batch, self.seen, keep)
            kept = batch if keep is None else batch.filter(pa.array(keep))
            self._remember(kept)
            self.seen += batch.num_rows
            self.progress("reading", self.seen)
        store.finish()

    def _remember(self, kept: pa.RecordBatch) -> None:
        self.content.append(row_hashes(kept, self._columns))
        if self.data.row_key:
            self.keys.append(row_hashes(kept, self.data.row_key))
        self.kept_labels.append(kept.column(self.data.label))
        if self.data.split.column:
            self.kept_split.append(kept.column(self.data.split.column))

    def _batches(self) -> Iterator[pa.RecordBatch]:
        names = self._columns
        schema = self.data.relation.schema
        columns = tuple(Column(n, schema.type_of(n)) for n in names)
        relation = Project(self.data.relation, names, columns)
        if any(isinstance(n, _OURS) for n in walk(relation)):
            with execute.run(relation, self.context) as result:
                yield from result
            return
        engine: Any = self.context.engine
        sql = engine.compile(relation, {})
        with engine.stream(sql, self.context.parameters or None, batch_rows=BATCH_ROWS) as reader:
            yield from reader

    def _check_rows(self, rows: int) -> None:
        label = self.data.label
        if not self.seen:
            raise DataError("the training query returns no rows", hint="check its FROM and WHERE")
        if not rows:
            raise DataError(
                f"label `{label}` is NULL in all {self.seen:,} rows", at=f"column {label}",
                hint="train on rows with a known label; input_label_cols names the label",
            )  # fmt: skip
        if rows == 1:
            raise DataError(
                "the training query returns one row with a label, at least two are needed"
            )

    # -- what was kept -----------------------------------------------------------------------------

    def _target(self, parts: Parts) -> Target:
        column = pa.chunked_array(self.kept_labels)
        label, task = self.data.label, self.data.task
        if task == "regression":
            return labels.regression(label, column, parts.train)
        of = self.data.relation.schema.type_of(label)
        return labels.classification(label, of, task, column, parts.train)

    def _choose(self, store: RowStore, parts: Parts, *, embeddings: bool) -> Inputs:
        trains = np.zeros(store.rows, np.bool_)
        trains[parts.train] = True

        def blocks() -> Iterator[tuple[Block, npt.NDArray[np.bool_]]]:
            for block in store.blocks():
                yield block, trains[block.start : block.start + block.rows.num_rows]

        chooser = Chooser(blocks, embeddings=embeddings, fits_memory=not store.spilled)
        for name in self.data.features:
            self.progress(f"column {name}", store.rows)
            chooser.add(name, self.data.relation.schema.type_of(name))
        return chooser.inputs()

    def _encode(
        self, store: RowStore, inputs: Inputs
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64] | None]:
        x = self._matrix((store.rows, inputs.width + 1), np.dtype(np.float32))
        codes = None
        if inputs.embedded:
            codes = self._matrix((store.rows, len(inputs.embedded)), np.dtype(np.int64))
        for block in store.blocks():
            stop = block.start + block.rows.num_rows
            at = 0
            for tensor in inputs.dense:
                width = columns_of(tensor.encoding)
                _fill(x[block.start : stop, at : at + width], block, tensor, inputs)
                at += width
            for j, tensor in enumerate(inputs.embedded):
                assert codes is not None
                _fill(codes[block.start : stop, j : j + 1], block, tensor, inputs, is_code=True)
            x[block.start : stop, at] = 1.0
            self.progress("encoding", stop)
        return x, codes

    def _matrix(self, shape: tuple[int, int], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
        """Memory under a lease, or a mapped file where there is not enough."""
        size_bytes = shape[0] * shape[1] * dtype.itemsize
        broker = self.context.broker
        if size_bytes <= self.budget_bytes:
            with contextlib.suppress(ResourceError):
                lease = broker.acquire(OWNER, "encoded rows", size_bytes=size_bytes, timeout_s=0.1)
                self.resources.callback(broker.release, lease)
                return np.empty(shape, dtype)
        folder = spill_folder(self.context)
        try:
            path = temporary_file(folder, ".rows", size_bytes)
        except OSError as error:
            raise spill_error(folder, error) from error
        self.resources.callback(path.unlink, missing_ok=True)
        return np.memmap(path, dtype, "r+", shape=shape)

    def _relation_hash(self, content: Words) -> str:
        digest = blake3.blake3(str(self.data.relation.schema.select(self._columns)).encode())
        # A sum does not depend on the order of rows.
        total = sum(int(w) << (64 * j) for j, w in enumerate(content.sum(0, dtype=np.uint64)))
        digest.update(f"{len(content)}|{total}".encode())
        return digest.hexdigest()


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


def spill_folder(context: RunContext) -> Path:
    """Where rows that do not fit go: beside the database, or the system's temporary folder."""
    engine: Any = context.engine
    path: Path | None = engine.path
    if path is None or engine.read_only:
        return Path(tempfile.gettempdir())
    folder = path.with_name(path.name + ".gradbase") / "spill"
    folder.mkdir(parents=True, exist_ok=True)
    return folder
