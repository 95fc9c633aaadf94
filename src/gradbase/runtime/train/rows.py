"""The rows of a training query, read once: in memory, or in a file beside the database."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from gradbase.errors import DataError, StoreError
from gradbase.runtime.train.spill import MappedFile

T = TypeVar("T")
Bools = npt.NDArray[np.bool_]


class Marks(Protocol):
    """Which rows train, asked for some at a time."""

    def __getitem__(self, rows: slice, /) -> Bools: ...


Trains = Bools | Marks
_RELEASED = 8
"""Batches that are read of a file before what was mapped of it leaves memory."""
KNOWN_BYTES = 128
"""Held of each row beside its values while rows are in memory: hashes, identity, order, part."""


@dataclass(frozen=True)
class Block:
    """Consecutive kept rows. `numbers[i]` is the place of row i in the query's result, from 0."""

    rows: pa.RecordBatch
    start: int
    numbers: npt.NDArray[np.int64] | None
    first: int

    def replaced(self, rows: pa.RecordBatch) -> Block:
        """The same places with other columns."""
        return replace(self, rows=rows)

    def part(self, start: int, rows: int) -> Block:
        """Some rows of it, from `start` on."""
        numbers = None if self.numbers is None else self.numbers[start : start + rows]
        first = self.first + (start if numbers is None else 0)
        return Block(self.rows.slice(start, rows), self.start + start, numbers, first)

    def located(self, name: str, call: Callable[[pa.Array, int], T]) -> T:
        """``call(column, place of its first row)``; its DataErrors name the right row."""
        column = self.rows.column(name)
        try:
            return call(column, self.first)
        except DataError:
            if self.numbers is not None:
                for i, place in enumerate(self.numbers):
                    call(column.slice(i, 1), int(place))
            raise


Blocks = Callable[[], Iterator[tuple[Block, Bools]]]
"""All rows and which of them train, again and again."""


class RowStore:
    """Record batches that move to a file once they, and what is known of each row, exceed a budget.

    Parameters
    ----------
    budget_bytes : int, bytes
    folder : function returning Path
        Called at the first spill; where the file is made.
    """

    def __init__(self, budget_bytes: int, folder: Callable[[], Path]) -> None:
        self.budget_bytes, self._folder = budget_bytes, folder
        self.size_bytes = self.rows = 0
        self._batches: list[pa.RecordBatch] = []
        self._places: list[tuple[int, int, npt.NDArray[np.int64] | None]] = []
        self._writer: pa.RecordBatchStreamWriter | None = None
        self.path: Path | None = None

    @property
    def spilled(self) -> bool:
        return self.path is not None

    @property
    def folder(self) -> Path | None:
        """Where the file is, if there is one."""
        return None if self.path is None else self.path.parent

    def append(self, batch: pa.RecordBatch, first: int, keep: Bools | None) -> None:
        """Add the rows of `batch` where `keep`; `first` is the place of its first row."""
        numbers = None
        if keep is not None:
            numbers = first + np.flatnonzero(keep)
            batch = batch.filter(pa.array(keep))
        self.add(Block(batch, self.rows, numbers, first))

    def add(self, block: Block) -> None:
        """Add a block as it is; it starts where the rows before it end."""
        batch = block.rows
        self._places.append((self.rows, block.first, block.numbers))
        self.rows += batch.num_rows
        self.size_bytes += batch.nbytes + KNOWN_BYTES * batch.num_rows
        if self._writer is None and self.size_bytes <= self.budget_bytes:
            self._batches.append(batch)
        else:
            self._spill(batch)

    def _spill(self, batch: pa.RecordBatch) -> None:
        try:
            if self._writer is None:
                self.path = temporary_file(self._folder(), ".arrows")
                self._writer = pa.ipc.new_stream(str(self.path), batch.schema)
                for held in self._batches:
                    self._writer.write_batch(held)
                self._batches = []
            self._writer.write_batch(batch)
        except OSError as error:
            raise spill_error(self.path, error) from error

    def finish(self) -> None:
        """No more rows come."""
        try:
            if self._writer is not None:
                self._writer.close()
        except OSError as error:
            raise spill_error(self.path, error) from error

    def blocks(self) -> Iterator[Block]:
        """All rows, from the first."""
        if self.path is None:
            for batch, (start, first, numbers) in zip(self._batches, self._places, strict=True):
                yield Block(batch, start, numbers, first)
            return
        file = MappedFile(self.path)
        with pa.ipc.open_stream(pa.py_buffer(file.map)) as batches:
            for number, (batch, place) in enumerate(zip(batches, self._places, strict=True), 1):
                start, first, numbers = place
                yield Block(batch, start, numbers, first)
                if number % _RELEASED == 0:
                    file.release()

    def close(self) -> None:
        """Forget the rows and remove the file."""
        with contextlib.suppress(StoreError):  # what is not on disk is not needed any more
            self.finish()
        self._batches = []
        if self.path is not None:
            self.path.unlink(missing_ok=True)


def temporary_file(folder: Path, suffix: str, size_bytes: int = 0) -> Path:
    """A new file in `folder`, with room for `size_bytes` (a mapped file must never lack it)."""
    handle, name = tempfile.mkstemp(suffix, dir=folder)
    try:
        if size_bytes:
            os.posix_fallocate(handle, 0, size_bytes)
    except OSError:
        Path(name).unlink()
        raise
    finally:
        os.close(handle)
    return Path(name)


def spill_error(path: Path | None, error: OSError) -> StoreError:
    """What a user is told when there is no room for rows outside memory."""
    return StoreError(
        f"rows for training do not fit into memory and could not be written to {path}: {error}",
        hint="free space there, or SET gradbase.memory_limit higher",
    )
