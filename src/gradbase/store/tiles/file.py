"""The file of one tensor: a tile in each page, checksums at the end.

Pages of one size come first, so that each begins at a multiple of it; then a checksum of 16 bytes
per page (BLAKE3 of the tile), the head as JSON, and 40 bytes: a checksum of all that is not page,
its length, and `MAGIC`. Files are written once, in full, before they get their name.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from blake3 import blake3

from gradbase.errors import StoreError
from gradbase.ir.shapes import Shape
from gradbase.resources.tiling import Grid
from gradbase.store.files import reported
from gradbase.store.tiles.origin import Origin

MAGIC = b"gbtiles1"
CHECK_BYTES = 16
TRAILER_BYTES = CHECK_BYTES + 16 + len(MAGIC)
NUMPY_TYPES = {
    "float32": "<f4", "float64": "<f8", "int64": "<i8", "int32": "<i4", "bool": "|b1",
    "uint8": "|u1",
}  # fmt: skip
_MOST_HEAD = 1 << 16


def check_of(data: Any) -> bytes:
    """The checksum of a page's content."""
    return blake3(data).digest(length=CHECK_BYTES)


def matrix_dims(dims: Shape) -> tuple[int, int]:
    """A tensor as a matrix: the first dimension by all others; a vector is one row."""
    if len(dims) < 2:
        return 1, math.prod(dims)
    return dims[0], math.prod(dims[1:])


class TileFile:
    """A tensor in a file, read page by page from any thread.

    Parameters
    ----------
    path : Path
    origin : Origin, optional
        Where its bytes are, too.

    Attributes
    ----------
    dims, kind : of the tensor
    grid : Grid
    page_bytes : int

    Raises
    ------
    StoreError
        The file is missing, damaged or no file of tiles.
    """

    def __init__(self, path: Path, origin: Origin | None = None) -> None:
        self.path = path
        self.key = path.name
        self._origin, self._elsewhere = origin, -1
        with reported(f"opening {path}"):
            self._handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            self._read_end()
        except BaseException:
            self.close()
            raise
        if origin is not None and self.grid.across == 1:
            self._elsewhere = origin.opened(self._handle)

    def read(self, page: int, into: memoryview) -> int:
        """Fill the start of `into` with a page's tile, verified; returns its bytes.

        Raises
        ------
        StoreError
            The page cannot be read, or is not what was written; names file and page.
        """
        size = self.tile_bytes(page)
        target = into[:size]
        if self._elsewhere >= 0 and self._from_origin(page, target):
            return size
        with reported(f"reading page {page} of {self.path}"):
            done = 0
            while done < size:
                count = os.preadv(self._handle, [target[done:]], page * self.page_bytes + done)
                if not count:
                    raise self._damaged(f"page {page} of {self.grid.tiles} is cut off")
                done += count
        if check_of(target) != self._checks[page]:
            raise self._damaged(f"page {page} of {self.grid.tiles} has another checksum")
        return size

    def tile_bytes(self, page: int) -> int:
        """Bytes of the tile in a page."""
        top, bottom, left, right = self.grid.place(page)
        return (bottom - top) * (right - left) * self.grid.item

    def tile(self, page: int, data: memoryview) -> npt.NDArray[Any]:
        """The content of a page as a matrix."""
        top, bottom, left, right = self.grid.place(page)
        flat = np.frombuffer(data, NUMPY_TYPES[self.kind], (bottom - top) * (right - left))
        return flat.reshape(bottom - top, right - left)

    def whole(self) -> bytearray:
        """The tensor's little-endian C-order bytes."""
        made = bytearray(self.grid.size_bytes)
        start = 0
        for strip in self.strips():
            made[start : start + strip.nbytes] = strip.data.cast("B")
            start += strip.nbytes
        return made

    def strips(self) -> Iterator[npt.NDArray[Any]]:
        """Rows as matrices in order, as many as a row of tiles has."""
        page = memoryview(bytearray(self.page_bytes))
        grid = self.grid
        for first in range(0, grid.tiles, grid.across):
            top, bottom, _, _ = grid.place(first)
            made = np.empty((bottom - top, grid.cols), NUMPY_TYPES[self.kind])
            for number in range(first, first + grid.across):
                self.read(number, page)
                _, _, left, right = grid.place(number)
                made[:, left:right] = self.tile(number, page)
            yield made

    def verify(self) -> None:
        """Read every page; StoreError where one is damaged."""
        page = memoryview(bytearray(self.page_bytes))
        for number in range(self.grid.tiles):
            self.read(number, page)

    def close(self) -> None:
        """Close the file; twice is allowed."""
        for handle in (self._handle, self._elsewhere):
            if handle >= 0:
                os.close(handle)
        self._handle = self._elsewhere = -1

    def __del__(self) -> None:
        if getattr(self, "_handle", -1) >= 0:
            self.close()

    def _from_origin(self, page: int, target: memoryview) -> bool:
        assert self._origin is not None
        offset = page * self.grid.tile_rows * self.grid.cols * self.grid.item
        found = self._origin.read(self._elsewhere, offset, target)
        return found and check_of(target) == self._checks[page]

    def _read_end(self) -> None:
        size = os.fstat(self._handle).st_size
        if size < TRAILER_BYTES:
            raise self._damaged(f"it has only {size} bytes")
        trailer = os.pread(self._handle, TRAILER_BYTES, size - TRAILER_BYTES)
        lengths = trailer[CHECK_BYTES : CHECK_BYTES + 16]
        checks, head = (int.from_bytes(lengths[i : i + 8], "little") for i in (0, 8))
        if trailer[-len(MAGIC) :] != MAGIC or head > _MOST_HEAD:
            raise self._damaged("its end is not that of a file of tiles")
        start = size - TRAILER_BYTES - checks - head
        found = os.pread(self._handle, checks + head, start) if start >= 0 else b""
        if len(found) != checks + head or check_of(found) != trailer[:CHECK_BYTES]:
            raise self._damaged("its list of checksums is damaged")
        facts = json.loads(found[checks:])
        self.dims: Shape = tuple(facts["dims"])
        self.kind: str = facts["kind"]
        self.page_bytes: int = facts["page_bytes"]
        self.grid = Grid(*matrix_dims(self.dims), facts["item"], *facts["tile"])
        self._checks = [found[i : i + CHECK_BYTES] for i in range(0, checks, CHECK_BYTES)]
        if len(self._checks) != self.grid.tiles or start < self.grid.tiles * self.page_bytes:
            raise self._damaged("it has too few pages")

    def _damaged(self, why: str) -> StoreError:
        return StoreError(
            f"the file of tiles {self.path} is damaged: {why}",
            hint="run `gradbase fsck`; restore the file from a backup or import the model again",
        )
