"""A file of tiles while it is written: space for it, its end, its name."""

from __future__ import annotations

import errno
import itertools
import json
import os
import shutil
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Self

import numpy as np
from blake3 import blake3

from gradbase.errors import StoreError
from gradbase.ir.shapes import Shape
from gradbase.resources.sizes import readable
from gradbase.resources.tiling import weight_grid
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


def file_name(blob_hash: str, dims: Shape, kind: str) -> str:
    """The same bytes may be tensors of several shapes, cut in different ways."""
    return f"{blob_hash}.{'x'.join(map(str, dims))}.{kind}{SUFFIX}"


class NewFile:
    """A file that gets its name when all pages are in it; used in a ``with``, else deleted there.

    Parameters
    ----------
    temporary : Path
        Folder for the file until `finish`, on the same file system.
    dims, kind : of the tensor
    page_bytes : int

    Attributes
    ----------
    path : Path
        Where it is meanwhile.
    handle : int
    grid : Grid
    checks : list of bytes
        Of the pages; filled by who writes them.

    Raises
    ------
    StoreError
        The disk has not that much free space, said before anything is written.
    """

    def __init__(self, temporary: Path, dims: Shape, kind: str, page_bytes: int) -> None:
        self.dims, self.kind, self.page_bytes = dims, kind, page_bytes
        self.type = np.dtype(NUMPY_TYPES[kind])
        self.grid = weight_grid(*matrix_dims(dims), self.type.itemsize, page_bytes)
        self.path = temporary / f"{os.getpid()}-tiles-{next(_numbers)}"
        self.checks: list[bytes] = [b""] * self.grid.tiles
        self.handle = -1
        self._allocate()

    def finish(self, folder: Path, name: str | None = None) -> str:
        """Make the file durable as `file_name` in `folder`; returns the hash in its name.

        Without a `name` that is the hash of the pages' checksums and of their shape.
        """
        head = {
            "dims": self.dims, "kind": self.kind, "page_bytes": self.page_bytes,
            "item": self.grid.item, "tile": [self.grid.tile_rows, self.grid.tile_cols],
        }  # fmt: skip
        checks, text = b"".join(self.checks), json.dumps(head).encode()
        lengths = len(checks).to_bytes(8, "little") + len(text).to_bytes(8, "little")
        end = checks + text + check_of(checks + text) + lengths + MAGIC
        name = name or blake3(checks + text).hexdigest()
        with self.reported():
            start = self.grid.tiles * self.page_bytes
            os.ftruncate(self.handle, start + len(end))
            os.pwrite(self.handle, end, start)
            os.fsync(self.handle)
            os.replace(self.path, folder / file_name(name, self.dims, self.kind))  # noqa: PTH105
            sync_folder(folder)
        return name

    def reported(self) -> AbstractContextManager[None]:
        """As `gradbase.store.files.reported`."""
        return reported(f"writing {self.kind}{list(self.dims)} as tiles to {self.path.parent}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        if self.handle >= 0:
            os.close(self.handle)
            self.handle = -1
        self.path.unlink(missing_ok=True)

    def _allocate(self) -> None:
        size = self.grid.tiles * (self.page_bytes + CHECK_BYTES) + TRAILER_BYTES
        free = shutil.disk_usage(self.path.parent).free
        if size > free:
            raise StoreError(
                f"weights {self.kind}{list(self.dims)} need {readable(size)} on the disk of "
                f"{self.path.parent}, {readable(free)} are free",
                hint="free some space, or keep the database on another disk; nothing has changed",
            )
        try:
            with self.reported():
                flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
                self.handle = os.open(self.path, flags, 0o644)
                _allocated(self.handle, size)
        except BaseException:
            NewFile.__exit__(self)
            raise


def _allocated(handle: int, size: int) -> None:
    """Take the space: writing is ten times faster where it is there, and cannot run out of it."""
    try:
        os.posix_fallocate(handle, 0, size)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):  # not on this file system
            raise
