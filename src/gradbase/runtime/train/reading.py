"""The one pass over a training query: its rows, who they are, and what decides their part."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import blake3
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from gradbase.errors import CancelledError, DataError
from gradbase.ir.learning import Dataset, Evaluate, Predict, Preprocess
from gradbase.ir.node import walk
from gradbase.ir.relational import Project, Relation
from gradbase.ir.scalar import Column, PredictCall
from gradbase.optimizer.cost_reading import PARQUET
from gradbase.runtime import execute
from gradbase.runtime.train import labels
from gradbase.runtime.train.data import Keyed
from gradbase.runtime.train.identity import Words, identities, row_hashes
from gradbase.runtime.train.instance_weights import checked_weights
from gradbase.runtime.train.rows import RowStore
from gradbase.runtime.train.spill import spill_folder
from gradbase.runtime.train.split import Rows
from gradbase.runtime.train.transforming import engine_parts

if TYPE_CHECKING:
    from gradbase.runtime.context import RunContext

Progress = Callable[[str, int], None]
"""Told what is done now and how many rows have been read."""
_Reader = AbstractContextManager[pa.RecordBatchReader]
BATCH_ROWS, LEAST_ROWS = 65_536, 8_192
"""Rows that the engine hands over at a time: fewer where they are wide for the memory there is."""
_SHARE = 64
OURS = (Predict, Evaluate, Preprocess, PredictCall)
"""What the engine cannot run by itself."""


@dataclass(frozen=True)
class ReadRows:
    """The rows of a training query that have a label (all where there is no label column).

    Parameters
    ----------
    store : RowStore
        Their values; closing it is the reader's business.
    labels, split, weights
        Of the label column, the split column and the instance weights; None without such a column.
    ids : uint64[rows, 2]
    order : int64[rows]
        Rows in the order of their identities.
    relation_hash : str
    without_label : int
        Rows left out because their label is NULL.
    hashes : tuple of uint64[rows, 2]
        Of the row key and of the content, from which `ids` are made; of groups only.
    keyed : Keyed, optional
        For engines that workers may ask for rows by a key.
    """

    store: RowStore
    labels: pa.ChunkedArray
    split: pa.Array | None
    weights: npt.NDArray[np.float64] | None
    ids: Words
    order: Rows
    relation_hash: str
    without_label: int
    hashes: tuple[Words, Words]
    keyed: Keyed | None = None

    def forgotten(self) -> ReadRows:
        """Without what only dealing rows out needs: of many small rows more than their values."""
        return replace(
            self, labels=pa.chunked_array([], pa.null()), split=None, weights=None,
            ids=np.empty((0, 2), np.uint64), order=np.empty(0, np.int64),
        )  # fmt: skip


def read_rows(data: Dataset, context: RunContext, store: RowStore, progress: Progress) -> ReadRows:
    """Read the relation of `data` into `store`.

    Raises
    ------
    DataError
        There is no row, one row, no label; an instance weight is missing, negative or infinite.
    """
    return _Reading(data, context, store, progress).run()


class _Reading:
    def __init__(
        self, data: Dataset, context: RunContext, store: RowStore, progress: Progress
    ) -> None:
        self.data, self.context, self.store, self.progress = data, context, store, progress
        self.seen = 0
        self.content: list[Words] = []
        self.groups: list[Words] = []
        self.keys: list[Words] = []
        self.key_values: list[pa.RecordBatch] = []
        engine: Any = context.engine
        able = getattr(engine, "capabilities", None)
        self.targets = able is not None and able.side_tables
        self.labels: list[pa.Array] = []
        self.split: list[pa.Array] = []
        self.weights: list[npt.NDArray[np.float64]] = []

    def run(self) -> ReadRows:
        for batch in self._batches():
            if self.context.cancelled.is_set():
                raise CancelledError("training was cancelled while rows were read")
            if batch.num_rows:
                self._take(batch)
                self.progress("reading", self.seen)
        self.store.finish()
        self._check_rows(self.store.rows)
        content = _joined(self.content)
        key = _joined(self.keys) if self.keys else content
        ids, order = identities(key, content)
        none: Words = np.empty((0, 2), np.uint64)
        return ReadRows(
            store=self.store,
            labels=pa.chunked_array(self.labels, None if self.labels else pa.null()),
            split=pa.chunked_array(self.split).combine_chunks() if self.split else None,
            weights=np.concatenate(self.weights) if self.weights else None,
            ids=ids,
            order=order,
            relation_hash=self._relation_hash(
                np.concatenate([content, np.concatenate(self.groups)]) if self.groups else content
            ),
            without_label=self.seen - self.store.rows,
            hashes=(key, content) if self.data.groups else (none, none),
            keyed=self._keyed(key, content),
        )

    def _keyed(self, key: Words, content: Words) -> Keyed | None:
        """Keys that tell all rows apart, where there are such."""
        if not self.key_values or len(np.unique(key, axis=0)) < len(key):
            return None
        keys = pa.Table.from_batches(self.key_values)
        return None if any(c.null_count for c in keys.columns) else Keyed(keys, content)

    def _take(self, batch: pa.RecordBatch) -> None:
        """Keep the rows of a batch that have a label."""
        data = self.data
        absent = labels.missing(batch.column(data.label)) if data.label else None
        keep = None if absent is None else ~absent
        self.store.append(batch, self.seen, keep)
        if data.weight:
            column = batch.column(data.weight)
            self.weights.append(checked_weights(column, data.weight, self.seen, keep))
        self.seen += batch.num_rows
        kept = batch if keep is None else batch.filter(pa.array(keep))
        self.content.append(row_hashes(kept, data.content))
        if data.groups:
            self.groups.append(row_hashes(kept, data.columns))
        if data.row_key:
            self.keys.append(row_hashes(kept, data.row_key))
            if self.targets:
                self.key_values.append(kept.select(list(data.row_key)))
        if data.label:
            self.labels.append(_own(kept.column(data.label)))
        if data.split.column:
            self.split.append(_own(kept.column(data.split.column)))

    def _batches(self) -> Iterator[pa.RecordBatch]:
        names = self.data.columns
        schema = self.data.relation.schema
        columns = tuple(Column(n, schema.type_of(n)) for n in names)
        parts, _ = engine_parts(self.data)
        hidden = tuple(c.name for c in parts.values())
        relation = Project(self.data.relation, names + hidden, columns + tuple(parts))
        if any(isinstance(n, OURS) for n in walk(relation)):
            with execute.run(relation, self.context) as result:
                yield from result
            return
        fitting = self.context.broker.memory_bytes // _SHARE // max(1, relation.schema.row_bytes)
        with self._opened(relation, max(LEAST_ROWS, min(BATCH_ROWS, fitting))) as reader:
            yield from reader

    def _opened(
        self, relation: Relation, rows: int
    ) -> AbstractContextManager[pa.RecordBatchReader]:
        """The rows from the engine, as the plan says."""
        engine: Any = self.context.engine
        sql, given = engine.compile(relation, {}), self.context.parameters or None
        if self.data.reading == PARQUET:
            folder = spill_folder(self.context) / f"rows-{uuid.uuid4().hex}"
            return engine.copied(sql, given, folder, batch_rows=rows)
        return engine.stream(sql, given, batch_rows=rows)

    def _check_rows(self, rows: int) -> None:
        label = self.data.label
        if not self.seen:
            raise DataError("the training query returns no rows", hint="check its FROM and WHERE")
        if not rows:
            raise DataError(
                f"label `{label}` is NULL in all {self.seen:,} rows", at=f"column {label}",
                hint="train on rows with a known label; input_label_cols names the label",
            )  # fmt: skip
        if rows == 1 and label:
            raise DataError(
                "the training query returns one row with a label, at least two are needed"
            )

    def _relation_hash(self, content: Words) -> str:
        columns = self.data.relation.schema.select(self.data.columns)
        digest = blake3.blake3(str(columns).encode())
        # A sum does not depend on the order of rows.
        total = sum(int(w) << (64 * j) for j, w in enumerate(content.sum(0, dtype=np.uint64)))
        digest.update(f"{len(content)}|{total}".encode())
        return digest.hexdigest()


def _joined(parts: list[Words]) -> Words:
    """One array of many, which are forgotten."""
    found = np.concatenate(parts)
    parts.clear()
    return found


def _own(column: pa.Array) -> pa.Array:
    """A copy: a column that an engine handed over keeps all others of its batch in memory."""
    return column.take(pa.array(np.arange(len(column))))
