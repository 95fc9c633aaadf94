"""A batch of rows, put together from pieces as they come from the wire.

Numbers that stand side by side are written where they end up, so that a batch is copied once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from gradbase.engines.postgres.decoding import pieces_of, schema_of
from gradbase.engines.postgres.types import Described
from gradbase.engines.postgres.wire import Rows

_ROOM = 1 << 16
"""Rows that are made room for at once."""


@dataclass
class _Block:
    """Memory of some columns: those of one kind that stand side by side.

    `columns` are one view each; `first` is the row of the batch that stands first in them.
    """

    columns: list[NDArray[Any]]
    first: int


@dataclass
class _Span:
    """Rows `start` to `end` of a block's column."""

    values: NDArray[Any]
    start: int
    end: int

    def array(self, of: pa.DataType) -> pa.Array:
        """As Arrow has it, without a copy."""
        values = self.values[self.start : self.end]
        return pa.Array.from_buffers(of, len(values), [None, pa.py_buffer(values)])


class Batch:
    """The rows of one batch.

    Parameters
    ----------
    columns : sequence of Described
    most : int
        Rows that it may come to have.
    """

    def __init__(self, columns: Sequence[Described], most: int) -> None:
        self._columns, self._room = columns, min(most, _ROOM)
        self._blocks: dict[tuple[int, int], _Block] = {}
        self._parts: list[list[pa.Array | _Span]] = [[] for _ in columns]
        self.rows = self.held_bytes = 0

    def add(self, rows: Rows) -> None:
        """More rows; what they are made from is not needed afterwards."""
        at, count = 0, len(rows.sizes)
        for found in pieces_of(rows, self._columns):
            if isinstance(found, np.ndarray):
                self._write(at, found)
                at += len(found)
            else:
                self._parts[at].append(found)
                at += 1
        self.rows += count
        self.held_bytes += int(rows.sizes.sum())

    def _write(self, at: int, found: NDArray[Any]) -> None:
        """Values of columns from `at` on: [columns, rows], of any byte order."""
        width, count = found.shape
        block = self._blocks.get((at, width))
        if block is None or self.rows + count - block.first > len(block.columns[0]):
            kind = found.dtype.newbyteorder("=")
            memory = np.empty((width, max(count, self._room)), kind)
            block = self._blocks[at, width] = _Block(list(memory), self.rows)
        start = self.rows - block.first
        for values, column, parts in zip(found, block.columns, self._parts[at:], strict=False):
            column[start : start + count] = values
            last = parts[-1] if parts else None
            if isinstance(last, _Span) and last.values is column and last.end == start:
                last.end += count
            else:
                parts.append(_Span(column, start, start + count))

    def made(self) -> pa.RecordBatch:
        """All rows so far."""
        schema = schema_of(self._columns)
        arrays: list[pa.Array] = []
        for field, parts in zip(schema, self._parts, strict=True):
            found = [p.array(field.type) if isinstance(p, _Span) else p for p in parts]
            arrays.append(found[0] if len(found) == 1 else pa.concat_arrays(found))
        return pa.RecordBatch.from_arrays(arrays, schema=schema)
