"""Where rows go that do not fit into memory."""

from __future__ import annotations

import mmap
import os
import tempfile
import weakref
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
