"""Cutting a tensor into tiles while its bytes come in C order, and naming it by their hash."""

from __future__ import annotations

import errno
import itertools
import json
import os
import shutil
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from blake3 import blake3

from gradbase.errors import InternalError, StoreError
from gradbase.ir.shapes import Shape
from gradbase.resources.sizes import readable
from gradbase.resources.tiling import grid_for
from gradbase.store.files import reported, sync_folder
from gradbase.store.tiles.file import (
    CHECK_BYTES,
    MAGIC,
    NUMPY_TYPES,
    TRAILER_BYTES,
    check_of,
    matrix_dims,
)

SUFFIX = ".tiles"
_numbers = itertools.count()
_THREADS = 3
_SMALL_BYTES = 1 << 16
"""Less is written without handing it to a thread."""
_FLUSHED_BYTES = 256 << 20
"""After so many bytes the disk begins to write, not only at the end."""


def file_name(blob_hash: str, dims: Shape, kind: str) -> str:
    """The same bytes may be tensors of several shapes, cut in different ways."""
    return f"{blob_hash}.{'x'.join(map(str, dims))}.{kind}{SUFFIX}"


class TileWriter:
    """Writes a file of tiles; used in a ``with``: what is not finished is deleted.

    Memory: one copy of what `write` is given.

    Parameters
    ----------
    temporary : Path
        Folder for the file until `finish`, on the same file system.
    dims, kind : of the tensor
    page_bytes : int

    Raises
    ------
    StoreError
        The disk has not that much free space, said before anything is written.
    """

    def __init__(self, temporary: Path, dims: Shape, kind: str, page_bytes: int) -> None:
        self.dims, self.kind, self.page_bytes = dims, kind, page_bytes
        self.type = np.dtype(NUMPY_TYPES[kind])
        self.grid = grid_for(*matrix_dims(dims), self.type.itemsize, page_bytes)
        self._path = temporary / f"{os.getpid()}-tiles-{next(_numbers)}"
        self._whole = blake3(max_threads=2)
        self._hashes: dict[int, Any] = {}
        self._checks: list[bytes] = [b""] * self.grid.tiles
        self._at = 0
        self._handle = -1
        self._running: list[Future[Any]] = []
        self._flushed = 0
        self._pool = ThreadPoolExecutor(_THREADS, "gradbase-tiles")
        self._flusher = ThreadPoolExecutor(1, "gradbase-flush")
        self._allocate()

    def write(self, data: npt.NDArray[Any]) -> None:
        """The next elements in C order, as many as there are in `data` (one dimension)."""
        data = np.ascontiguousarray(data, self.type)
        self._running = [self._pool.submit(self._whole.update, data.view(np.uint8).data)]
        cols, at, taken = self.grid.cols, self._at, 0
        if at + len(data) > self.grid.rows * cols:
            raise InternalError(f"more elements than {self.kind}{list(self.dims)} has")
        while taken < len(data):
            row, col = divmod(at + taken, cols)
            left = len(data) - taken
            if col or left < cols:  # a part of a row
                width = min(cols - col, left)
                self._block(row, col, data[taken : taken + width].reshape(1, width))
                taken += width
            else:
                end = min((row // self.grid.tile_rows + 1) * self.grid.tile_rows, self.grid.rows)
                rows = min(left // cols, end - row)
                self._block(row, 0, data[taken : taken + rows * cols].reshape(rows, cols))
                taken += rows * cols
        self._at += len(data)
        self._wait()
        if (self._at - self._flushed) * self.type.itemsize > _FLUSHED_BYTES:
            self._flushed = self._at
            self._flusher.submit(os.fdatasync, self._handle)

    def finish(self, folder: Path) -> str:
        """Make the file durable as `file_name` in `folder`; returns the tensor's hash."""
        if self._at != self.grid.rows * self.grid.cols:
            raise StoreError(
                f"only {self._at:,} of {self.grid.rows * self.grid.cols:,} elements of a tensor "
                f"{self.kind}{list(self.dims)} came"
            )
        head = {
            "dims": self.dims, "kind": self.kind, "page_bytes": self.page_bytes,
            "item": self.grid.item, "tile": [self.grid.tile_rows, self.grid.tile_cols],
        }  # fmt: skip
        checks, text = b"".join(self._checks), json.dumps(head).encode()
        lengths = len(checks).to_bytes(8, "little") + len(text).to_bytes(8, "little")
        end = checks + text + check_of(checks + text) + lengths + MAGIC
        name = self._whole.hexdigest()
        with self._reported():
            start = self.grid.tiles * self.page_bytes
            os.ftruncate(self._handle, start + len(end))
            os.pwrite(self._handle, end, start)
            os.fsync(self._handle)
            os.replace(self._path, folder / file_name(name, self.dims, self.kind))  # noqa: PTH105
            sync_folder(folder)
        return name

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._pool.shutdown()
        self._flusher.shutdown(cancel_futures=True)
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1
        self._path.unlink(missing_ok=True)

    def _block(self, row: int, col: int, block: npt.NDArray[Any]) -> None:
        """Elements of one row of tiles, to their places in it."""
        self._wait(1)  # what came before may be of the same tiles
        bottom, right = row + block.shape[0], col + block.shape[1]
        for tile in self.grid.touching(row, bottom, col, right):
            top, _, first, last = self.grid.place(tile)
            low, high = max(first, col), min(last, right)
            part = block[:, low - col : high - col]
            offset = ((row - top) * (last - first) + low - first) * self.grid.item
            if part.nbytes < _SMALL_BYTES:
                self._put(tile, offset, part)
            else:
                self._running.append(self._pool.submit(self._put, tile, offset, part))

    def _wait(self, first: int = 0) -> None:
        """Until threads are done with what was handed to them from number `first` on."""
        while len(self._running) > first:
            self._running.pop().result()

    def _put(self, tile: int, offset: int, part: npt.NDArray[Any]) -> None:
        # The parts of a tile come in its own C order, as a tile's rows follow the tensor's.
        data = np.ascontiguousarray(part).reshape(-1).view(np.uint8).data
        if tile not in self._hashes:
            self._hashes[tile] = blake3()
        self._hashes[tile].update(data)
        with self._reported():
            done, start = 0, tile * self.page_bytes + offset
            while done < len(data):
                done += os.pwrite(self._handle, data[done:], start + done)
        top, bottom, left, right = self.grid.place(tile)
        if offset + len(data) == (bottom - top) * (right - left) * self.grid.item:
            self._checks[tile] = self._hashes.pop(tile).digest(length=CHECK_BYTES)

    def _allocate(self) -> None:
        size = self.grid.tiles * (self.page_bytes + CHECK_BYTES) + TRAILER_BYTES
        free = shutil.disk_usage(self._path.parent).free
        if size > free:
            raise StoreError(
                f"weights {self.kind}{list(self.dims)} need {readable(size)} on the disk of "
                f"{self._path.parent}, {readable(free)} are free",
                hint="free some space, or keep the database on another disk; nothing has changed",
            )
        try:
            with self._reported():
                flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
                self._handle = os.open(self._path, flags, 0o644)
                _allocated(self._handle, size)
        except BaseException:
            self.__exit__()
            raise

    def _reported(self) -> Any:
        return reported(f"writing {self.kind}{list(self.dims)} as tiles to {self._path.parent}")


def _allocated(handle: int, size: int) -> None:
    """Take the space: writing is ten times faster where it is there, and cannot run out of it."""
    try:
        os.posix_fallocate(handle, 0, size)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):  # not on this file system
            raise
