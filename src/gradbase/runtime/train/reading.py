"""The one pass over a training query: its rows, who they are, and what decides their part."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

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
from gradbase.runtime.train.rows import RowStore, spill_error
from gradbase.runtime.train.spill import Spool, spill_folder
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


class Hashes(NamedTuple):
    """Of the row key (the content where there is none) and of the content: uint64[rows, 2] each."""

    key: Spool
    content: Spool


@dataclass(frozen=True)
class ReadRows:
    """The rows of a training query that have a label (all where there is no label column).

    Parameters
    ----------
    data : Dataset
    store : RowStore
        Their values; closing it is the reader's business.
    hashes : Hashes
        In files, where the rows are.
    relation_hash : str
    without_label : int
        Rows left out because their label is NULL.
    keyed : Keyed, optional
        For engines that workers may ask for rows by a key.
    """

    data: Dataset
    store: RowStore
    hashes: Hashes
    relation_hash: str
    without_label: int
    keyed: Keyed | None = None

    @cached_property
    def identified(self) -> tuple[Words, Rows]:
        """Identities uint64[rows, 2], and rows in the order of these."""
        return identities(*self.words())

    def words(self) -> tuple[Words, Words]:
        """`hashes` in memory."""
        key, content = self.hashes
        words = key.whole()
        return words, words if key is content else content.whole()

    @property
    def labels(self) -> pa.ChunkedArray:
        """The label column."""
        found = self._column(self.data.label) if self.data.label else []
        return pa.chunked_array(found, None if found else pa.null())

    @property
    def split(self) -> pa.Array | None:
        """The split column, where there is one."""
        name = self.data.split.column
        return pa.chunked_array(self._column(name)).combine_chunks() if name else None

    @property
    def weights(self) -> npt.NDArray[np.float64] | None:
        """Instance weights float64[rows], where there are."""
        name = self.data.weight
        if not name:
            return None
        return np.concatenate([checked_weights(c, name, 0, None) for c in self._column(name)])

    def _column(self, name: str) -> list[pa.Array]:
        return [_own(block.rows.column(name)) for block in self.store.blocks()]


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
        content = Spool(np.uint64, 2)
        self.hashes = Hashes(Spool(np.uint64, 2) if data.row_key else content, content)
        self.sums = np.zeros(2, np.uint64)
        self.key_values: list[pa.RecordBatch] = []
        engine: Any = context.engine
        able = getattr(engine, "capabilities", None)
        self.targets = able is not None and able.side_tables

    def run(self) -> ReadRows:
        for batch in self._batches():
            if self.context.cancelled.is_set():
                raise CancelledError("training was cancelled while rows were read")
            if batch.num_rows:
                self._take(batch)
                self.progress("reading", self.seen)
        self.store.finish()
        rows = self.store.rows
        self._check_rows(rows)
        without = self.seen - rows
        found = ReadRows(self.data, self.store, self.hashes, self._relation_hash(), without)
        return replace(found, keyed=self._keyed(found))

    def _keyed(self, read: ReadRows) -> Keyed | None:
        """Keys that tell all rows apart, where there are such."""
        if not self.key_values:
            return None
        key, content = read.words()
        if len(np.unique(key, axis=0)) < len(key):
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
            checked_weights(batch.column(data.weight), data.weight, self.seen, keep)
        self.seen += batch.num_rows
        kept = batch if keep is None else batch.filter(pa.array(keep))
        try:
            self._hash(kept)
        except OSError as error:
            raise spill_error(self.store.folder, error) from error
        if data.row_key and self.targets and not self.store.spilled:
            self.key_values.append(kept.select(list(data.row_key)))

    def _hash(self, kept: pa.RecordBatch) -> None:
        data, folder = self.data, self.store.folder
        if folder is not None:  # what is known of each row goes where the rows went
            self.key_values = []
            for spool in self.hashes:
                spool.spill(folder)
        self.hashes.content.append(self._summed(row_hashes(kept, data.content)))
        if data.groups:
            self._summed(row_hashes(kept, data.columns))
        if data.row_key:
            self.hashes.key.append(row_hashes(kept, data.row_key))

    def _summed(self, words: Words) -> Words:
        """A sum does not depend on the order of rows."""
        self.sums += words.sum(0, dtype=np.uint64)
        return words

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

    def _relation_hash(self) -> str:
        columns = self.data.relation.schema.select(self.data.columns)
        digest = blake3.blake3(str(columns).encode())
        total = sum(int(w) << (64 * j) for j, w in enumerate(self.sums))
        rows = self.store.rows * (2 if self.data.groups else 1)
        digest.update(f"{rows}|{total}".encode())
        return digest.hexdigest()


def _own(column: pa.Array) -> pa.Array:
    """A copy: a column that an engine handed over keeps all others of its batch in memory."""
    return column.take(pa.array(np.arange(len(column))))
