"""Cutting a tensor into tiles while its bytes come in C order, and naming it by their hash."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from blake3 import blake3

from gradbase.errors import InternalError, StoreError
from gradbase.ir.shapes import Shape
from gradbase.store.tiles.file import CHECK_BYTES
from gradbase.store.tiles.new_file import NewFile

IN_USE = 4
"""An array given to `TileWriter.write` through `ahead` is read until so many more are asked for."""
_THREADS = 2
_WRITE_BYTES = 1 << 18
"""Written at once: of more, Linux looks for larger pieces of free memory (8 times slower)."""
_FLUSHED_BYTES = 128 << 20
"""After so many bytes the disk begins to write, not only at the end."""
_Part = tuple[int, int, npt.NDArray[Any]]
"""A tile, the byte in it where a part of it begins, and the part."""


class TileWriter(NewFile):
    """Cuts what comes; used in a ``with``: what is not finished is deleted.

    Memory: what `IN_USE` calls of `write` are given, and a copy of one of them.

    Parameters
    ----------
    temporary, dims, kind, page_bytes : as `NewFile`
    by_content : bool
        Whether its name is the hash of its bytes in C order. Else it is that of the pages'
        checksums, which saves one of two passes over the bytes.
    """

    def __init__(
        self, temporary: Path, dims: Shape, kind: str, page_bytes: int, *, by_content: bool = True
    ) -> None:
        self._whole = blake3() if by_content else None
        self._hashes: dict[int, Any] = {}
        self._at = self._flushed = 0
        self._running: deque[list[Future[Any]]] = deque()
        self._hasher = ThreadPoolExecutor(1, "gradbase-hash")
        self._threads = [ThreadPoolExecutor(1, "gradbase-tiles") for _ in range(_THREADS)]
        self._flusher = ThreadPoolExecutor(1, "gradbase-flush")
        self._own = threading.local()
        super().__init__(temporary, dims, kind, page_bytes)

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
            self._flusher.submit(os.fdatasync, self.handle)

    def finish(self, folder: Path, name: str | None = None) -> str:
        """As `NewFile.finish`, once all elements have come."""
        while self._running:
            _await(self._running.popleft())
        if self._at != self.grid.rows * self.grid.cols:
            raise StoreError(
                f"only {self._at:,} of {self.grid.rows * self.grid.cols:,} elements of a tensor "
                f"{self.kind}{list(self.dims)} came"
            )
        return super().finish(folder, name or (self._whole and self._whole.hexdigest()))

    def __exit__(self, *exception: object) -> None:
        for thread in (*self._threads, self._hasher):
            thread.shutdown()
        self._flusher.shutdown(cancel_futures=True)
        super().__exit__()

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
                self.checks[tile] = self._hashes.pop(tile).digest(length=CHECK_BYTES)

    def _written(self, data: memoryview, start: int) -> int:
        """Where the file goes on after `data`."""
        with self.reported():
            while data:
                done = os.pwrite(self.handle, data[:_WRITE_BYTES], start)
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


def _await(futures: Sequence[Future[Any]]) -> None:
    for future in futures:
        future.result()
