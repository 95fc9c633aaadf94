"""Where rows go that do not fit into memory, and how they are put in order there."""

from __future__ import annotations

import mmap
import os
import tempfile
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from gradbase.runtime.context import RunContext


def spill_folder(context: RunContext) -> Path:
    """Where rows that do not fit go: beside the database, or the system's temporary folder."""
    engine: Any = context.engine
    root: Path | None = engine.folder
    if root is None or engine.read_only:
        return Path(tempfile.gettempdir())
    folder = root / "spill"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


class MappedFile:
    """A file as arrays, which count as memory of the process only while they are in use.

    Parameters
    ----------
    path : Path
        Not empty.
    writable : bool
        What is written to an array is then written to the file.
    """

    def __init__(self, path: Path, *, writable: bool = False) -> None:
        self._handle = os.open(path, os.O_RDWR if writable else os.O_RDONLY)
        weakref.finalize(self, os.close, self._handle)
        access = mmap.ACCESS_WRITE if writable else mmap.ACCESS_READ
        self.map = mmap.mmap(self._handle, 0, access=access)

    def array(
        self, dtype: npt.DTypeLike, shape: tuple[int, ...], offset: int = 0
    ) -> npt.NDArray[Any]:
        """The array that begins `offset` bytes into the file."""
        count = int(np.prod(shape))
        return np.frombuffer(self.map, dtype, count, offset).reshape(shape)

    def read_into(self, out: npt.NDArray[Any], offset: int) -> None:
        """Fill `out` (contiguous) with what begins at `offset`, without the map."""
        if out.nbytes:
            os.preadv(self._handle, [out.data.cast("B")], offset)

    def read_rows(self, out: npt.NDArray[Any], rows: npt.NDArray[np.int64], offset: int) -> None:
        """Fill `out` with rows of the array at `offset`, without the map.

        A row of that would bring the pages around it into memory too: 160 kB, measured.
        """
        size, view = out[:1].nbytes, out.data.cast("B") if len(out) else memoryview(b"")
        for place, row in enumerate(rows.tolist()):
            os.preadv(self._handle, [view[place * size : (place + 1) * size]], offset + row * size)

    def release(self) -> None:
        """What was read or written stays in the file, and leaves the process's memory."""
        self.map.madvise(mmap.MADV_DONTNEED)


class Spool:
    """Rows of numbers, one after the other: in memory, or in a file once told to `spill`.

    Parameters
    ----------
    dtype : numpy dtype
    width : int
        Numbers of a row; 0: one, no list.
    """

    def __init__(self, dtype: npt.DTypeLike, width: int = 0) -> None:
        self.dtype, self._inner = np.dtype(dtype), (width,) if width else ()
        self._row_bytes = self.dtype.itemsize * max(width, 1)
        self._parts: list[npt.NDArray[Any]] = []
        self._handle: int | None = None
        self.rows = 0

    def __len__(self) -> int:
        return self.rows

    def append(self, values: npt.NDArray[Any]) -> None:
        """Add rows behind the others."""
        self.rows += len(values)
        if self._handle is None:
            self._parts.append(values)
        else:
            write_all(self._handle, values)

    def spill(self, folder: Path) -> None:
        """From now on rows are in a file without a name in `folder`."""
        if self._handle is None:
            self._handle = unnamed_file(folder)
            weakref.finalize(self, os.close, self._handle)
            for part in self._parts:
                write_all(self._handle, part)
            self._parts = []

    def whole(self) -> npt.NDArray[Any]:
        """All rows, in memory."""
        if self._handle is not None:
            return self.read(0, self.rows)
        if len(self._parts) != 1:
            empty = np.empty((0, *self._inner), self.dtype)
            self._parts = [np.concatenate(self._parts) if self._parts else empty]
        return self._parts[0]

    def read(self, start: int, stop: int) -> npt.NDArray[Any]:
        """Rows from `start` to before `stop`."""
        if self._handle is None:
            return self.whole()[start:stop]
        found = np.empty((stop - start, *self._inner), self.dtype)
        if found.nbytes:
            os.preadv(self._handle, [found.data.cast("B")], start * self._row_bytes)
        return found

    def take(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
        """Some rows, of which there are few."""
        found = [self.read(row, row + 1) for row in rows.tolist()]
        return np.concatenate(found) if found else self.read(0, 0)


class Buckets:
    """Records dealt into numbered buckets of a file; a bucket gives them back in their order.

    Rows that do not fit are sorted by a hash so: its first bits name the bucket, and one bucket
    after the other is sorted in memory.

    Parameters
    ----------
    dtype : numpy dtype
        Of a record.
    count : int
        Of buckets, at most 65,536.
    folder : Path
        Of the file, which has no name.
    """

    def __init__(self, dtype: np.dtype[Any], count: int, folder: Path) -> None:
        self.dtype, self.count = dtype, count
        self._handle = unnamed_file(folder)
        weakref.finalize(self, os.close, self._handle)
        self.rows = 0
        self._stretches: list[tuple[int, npt.NDArray[np.int64]]] = []

    def add(self, numbers: npt.NDArray[np.integer[Any]], records: npt.NDArray[Any]) -> None:
        """Records, and the bucket of each."""
        small = numbers.astype(np.uint16)
        order = np.argsort(small, kind="stable")  # a radix sort
        starts = np.searchsorted(small[order], np.arange(self.count + 1))
        write_all(self._handle, records[order])
        self._stretches.append((self.rows, starts))
        self.rows += len(records)

    def size(self, number: int) -> int:
        """Records in a bucket."""
        return sum(int(s[number + 1] - s[number]) for _, s in self._stretches)

    def take(self, number: int) -> npt.NDArray[Any]:
        """All records of a bucket."""
        found = np.empty(self.size(number), self.dtype)
        at = 0
        for part in self.parts(number):
            found[at : at + len(part)] = part
            at += len(part)
        return found

    def parts(self, number: int) -> Iterator[npt.NDArray[Any]]:
        """The records of a bucket as they were added, some at a time."""
        for begin, starts in self._stretches:
            start, stop = int(starts[number]), int(starts[number + 1])
            part = np.empty(stop - start, self.dtype)
            if len(part):
                os.preadv(
                    self._handle, [part.view(np.uint8).data], (begin + start) * self.dtype.itemsize
                )
                yield part


def unnamed_file(folder: Path) -> int:
    """A new file of this process, which ends with it; its handle."""
    handle, name = tempfile.mkstemp(".rows", dir=folder)
    Path(name).unlink()
    return handle


def write_all(handle: int, values: npt.NDArray[Any]) -> None:
    """Write an array behind what was written before."""
    if values.size:
        left = np.ascontiguousarray(values).reshape(-1).view(np.uint8).data
        while len(left):
            left = left[os.write(handle, left) :]


def bits_for(size_bytes: int, part_bytes: int) -> int:
    """Leading bits of a hash that cut `size_bytes` into parts of about `part_bytes`, at most 12."""
    return min(12, max(0, (size_bytes // max(part_bytes, 1)).bit_length()))
