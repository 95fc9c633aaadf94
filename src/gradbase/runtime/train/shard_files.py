"""A file of training rows: Arrow IPC with one record batch, so that a column is one stretch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from gradbase.runtime.train.rows import temporary_file
from gradbase.runtime.train.spill import MappedFile

_ALIGNED = 64


class Layout(NamedTuple):
    """A column of a shard: its type, and how many values a row has (0: one, no list)."""

    dtype: str
    width: int


class Columns(NamedTuple):
    """A file of rows, its columns, and where they begin."""

    file: MappedFile
    arrays: dict[str, npt.NDArray[Any]]
    offsets: dict[str, int]

    def read(self, name: str, rows: range, out: npt.NDArray[Any]) -> None:
        """Fill `out` with a column of consecutive rows."""
        array = self.arrays[name]
        row_bytes = array.strides[0]
        self.file.read_into(out, self.offsets[name] + rows.start * row_bytes)


def record_of(layout: Mapping[str, Layout]) -> np.dtype[Any]:
    """A row of these columns as one record."""
    return np.dtype([(n, dtype, (width,) if width else ()) for n, (dtype, width) in layout.items()])


def new_file(path: Path, layout: Mapping[str, Layout], rows: int) -> Columns | None:
    """A file of so many rows of zeros, to be filled; None where there is no row."""
    zeros = [_zeros(column, rows) for column in layout.values()]
    batch = pa.RecordBatch.from_arrays(zeros, names=list(layout))
    with pa.ipc.new_file(str(path), batch.schema) as file:
        file.write_batch(batch)
    return mapped(path, layout, rows, writable=True) if rows else None


def plain_file(folder: Path, layout: Mapping[str, Layout], rows: int) -> Columns:
    """The same columns in a file of this process alone, which has no name and is no Arrow file."""
    sizes = {n: rows * np.dtype(c.dtype).itemsize * max(c.width, 1) for n, c in layout.items()}
    path = temporary_file(
        folder, ".rows", sum(-(-size // _ALIGNED) * _ALIGNED for size in sizes.values())
    )
    found = Columns(MappedFile(path, writable=True), {}, {})
    path.unlink()
    at = 0
    for name, (dtype, width) in layout.items():
        found.offsets[name] = at
        found.arrays[name] = found.file.array(dtype, (rows, width) if width else (rows,), at)
        at += -(-sizes[name] // _ALIGNED) * _ALIGNED
    return found


def fill(made: Columns | None, columns: Mapping[str, npt.NDArray[Any]], start: int) -> None:
    """Write rows into a file from its row `start` on; columns that it lacks are left out."""
    if made is not None:
        for name, array in made.arrays.items():
            values = columns[name]
            array[start : start + len(values)] = values
        made.file.release()


def _zeros(column: Layout, rows: int) -> pa.Array:
    flat = pa.array(np.zeros(rows * max(column.width, 1), column.dtype))
    return pa.FixedSizeListArray.from_arrays(flat, column.width) if column.width else flat


def mapped(path: Path, layout: Mapping[str, Layout], rows: int, *, writable: bool) -> Columns:
    """Each column of a shard's file as a map of its bytes."""
    file = MappedFile(path, writable=writable)
    whole = pa.py_buffer(file.map)
    batch = pa.ipc.open_file(whole).get_batch(0)
    found = Columns(file, {}, {})
    for name, (dtype, width) in layout.items():
        values: Any = batch.column(name)
        values = values.values if width else values
        found.offsets[name] = values.buffers()[1].address - whole.address
        shape = (rows, width) if width else (rows,)
        found.arrays[name] = file.array(dtype, shape, found.offsets[name])
    return found
