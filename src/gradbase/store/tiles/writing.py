"""Cutting a tensor into tiles while its bytes come in C order, and naming it by their hash."""

from __future__ import annotations

import errno
import itertools
import json
import os
import shutil
import threading
from collections import deque
from collections.abc import Iterator, Sequence
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
IN_USE = 4
"""An array given to `TileWriter.write` through `ahead` is read until so many more are asked for."""
_numbers = itertools.count()
_THREADS = 2
_WRITE_BYTES = 1 << 18
"""Written at once: of more, Linux looks for larger pieces of free memory (8 times slower)."""
_FLUSHED_BYTES = 128 << 20
"""After so many bytes the disk begins to write, not only at the end."""
_Part = tuple[int, int, npt.NDArray[Any]]
"""A tile, the byte in it where a part of it begins, and the part."""


def file_name(blob_hash: str, dims: Shape, kind: str) -> str:
    """The same bytes may be tensors of several shapes, cut in different ways."""
    return f"{blob_hash}.{'x'.join(map(str, dims))}.{kind}{SUFFIX}"


class TileWriter:
    """Writes a file of tiles; used in a ``with``: what is not finished is deleted.

    Memory: what `IN_USE` calls of `write` are given, and a copy of one of them.

    Parameters
    ----------
    temporary : Path
        Folder for the file until `finish`, on the same file system.
    dims, kind : of the tensor
    page_bytes : int
    by_content : bool
        Whether its name is the hash of its bytes in C order. Else it is that of the pages'
        checksums, which saves one of two passes over the bytes.

    Raises
    ------
    StoreError
        The disk has not that much free space, said before anything is written.
    """

    def __init__(
        self, temporary: Path, dims: Shape, kind: str, page_bytes: int, *, by_content: bool = True
    ) -> None:
        self.dims, self.kind, self.page_bytes = dims, kind, page_bytes
        self.type = np.dtype(NUMPY_TYPES[kind])
        self.grid = grid_for(*matrix_dims(dims), self.type.itemsize, page_bytes)
        self._path = temporary / f"{os.getpid()}-tiles-{next(_numbers)}"
        self._whole = blake3() if by_content else None
        self._hashes: dict[int, Any] = {}
        self._checks: list[bytes] = [b""] * self.grid.tiles
        self._at = self._flushed = 0
        self._handle = -1
        self._running: deque[list[Future[Any]]] = deque()
        self._hasher = ThreadPoolExecutor(1, "gradbase-hash")
        self._threads = [ThreadPoolExecutor(1, "gradbase-tiles") for _ in range(_THREADS)]
        self._flusher = ThreadPoolExecutor(1, "gradbase-flush")
        self._own = threading.local()
        self._allocate()

    def write(self, data: npt.NDArray[Any]) -> None:
        """The next elements in C order, as many as there are in `data` (one dimension).

        They are still read during the calls that follow, see `IN_USE`.
        """
        data = np.ascontiguousarray(data, self.type)
        if self._at + len(data) > self.grid.rows * self.grid.cols:
            raise InternalError(f"more elements than {self.kind}{list(self.dims)} has")
        shares: list[list[_Part]] = [[] for _ in self._threads]
        for part in self._parts(data):
            # One thread has all of a tile, whose parts come in its own C order.
            shares[part[0] % _THREADS].append(part)
        running: list[Future[Any]] = []
        if self._whole is not None:
            running.append(self._hasher.submit(self._whole.update, data.view(np.uint8).data))
        for thread, share in zip(self._threads, shares, strict=True):
            if share:
                running.append(thread.submit(self._put, share))
        self._running.append(running)
        self._at += len(data)
        while len(self._running) > IN_USE - 2:
            _await(self._running.popleft())
        if (self._at - self._flushed) * self.type.itemsize > _FLUSHED_BYTES:
            self._flushed = self._at
            self._flusher.submit(os.fdatasync, self._handle)

    def finish(self, folder: Path) -> str:
        """Make the file durable as `file_name` in `folder`; returns the hash in its name."""
        while self._running:
            _await(self._running.popleft())
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
        name = (self._whole or blake3(checks + text)).hexdigest()
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
        for thread in (*self._threads, self._hasher):
            thread.shutdown()
        self._flusher.shutdown(cancel_futures=True)
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1
        self._path.unlink(missing_ok=True)

    def _parts(self, data: npt.NDArray[Any]) -> Iterator[_Part]:
        """What of each tile is in the next elements."""
        cols, taken = self.grid.cols, 0
        while taken < len(data):
            row, col = divmod(self._at + taken, cols)
            left = len(data) - taken
            if col or left < cols:  # a part of a row
                rows, width = 1, min(cols - col, left)
            else:
                end = min((row // self.grid.tile_rows + 1) * self.grid.tile_rows, self.grid.rows)
                rows, width = min(left // cols, end - row), cols
            block = data[taken : taken + rows * width].reshape(rows, width)
            taken += rows * width
            right = col + width
            for tile in self.grid.touching(row, row + rows, col, right):
                top, _, first, last = self.grid.place(tile)
                low, high = max(first, col), min(last, right)
                offset = ((row - top) * (last - first) + low - first) * self.grid.item
                yield tile, offset, block[:, low - col : high - col]

    def _put(self, parts: Sequence[_Part]) -> None:
        """Write parts of tiles to their places."""
        for tile, offset, part in parts:
            found = self._hashes.get(tile)
            if found is None:
                found = self._hashes[tile] = blake3()
            data = self._flat(part)
            found.update(data)
            start = self._written(data, tile * self.page_bytes + offset)
            top, bottom, left, right = self.grid.place(tile)
            if start == tile * self.page_bytes + (bottom - top) * (right - left) * self.grid.item:
                self._checks[tile] = self._hashes.pop(tile).digest(length=CHECK_BYTES)

    def _written(self, data: memoryview, start: int) -> int:
        """Where the file goes on after `data`."""
        with self._reported():
            while data:
                done = os.pwrite(self._handle, data[:_WRITE_BYTES], start)
                data, start = data[done:], start + done
        return start

    def _flat(self, part: npt.NDArray[Any]) -> memoryview:
        """A part's bytes in C order; a copy is in memory of this thread, used again and again."""
        if not part.flags.c_contiguous:
            own: npt.NDArray[Any] | None = getattr(self._own, "memory", None)
            if own is None or own.size < part.size:
                own = self._own.memory = np.empty(part.size, self.type)
            copy = own[: part.size].reshape(part.shape)
            np.copyto(copy, part)
            part = copy
        return memoryview(part.reshape(-1).view(np.uint8).data)

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


def _await(futures: Sequence[Future[Any]]) -> None:
    for future in futures:
        future.result()
