"""The file that a tensor came from: as long as it is unchanged, its bytes are there, too."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

_NOWAIT: int | None = getattr(os, "RWF_NOWAIT", None)
"""Linux reads what is in its memory, and nothing from the disk."""


@dataclass(frozen=True)
class Origin:
    """Where a tensor's bytes lie in C order, in a file of somebody else.

    Only what the system has in its memory is read there, which costs less than reading the same
    from the disk: pages are not written to be in memory twice. Who reads compares checksums.

    Parameters
    ----------
    path : Path
    start : int, bytes
    state : tuple of int
        What told the file apart when the tensor was copied.
    copy : tuple of int
        What tells the copy apart: of one that was changed later, damage is to be found.
    """

    path: Path
    start: int
    state: tuple[int, ...]
    copy: tuple[int, ...] = ()

    @classmethod
    def of(cls, handle: int, path: Path, start: int) -> Self:
        """Of an open file."""
        return cls(path, start, _state(handle))

    def copied(self, handle: int) -> Self:
        """The same for a copy that is complete and open."""
        return replace(self, copy=_state(handle))

    def opened(self, copy: int) -> int:
        """A handle of the file; -1 where it, or the copy, has changed, or it cannot be read so."""
        if _NOWAIT is None or _state(copy) != self.copy:
            return -1
        try:
            handle = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError:
            return -1
        if _state(handle) == self.state:
            return handle
        os.close(handle)
        return -1

    def read(self, handle: int, offset: int, into: memoryview) -> bool:
        """Fill `into` from byte `offset` of the tensor; False where not all of it is in memory."""
        assert _NOWAIT is not None
        try:
            return os.preadv(handle, [into], self.start + offset, _NOWAIT) == len(into)
        except OSError:
            return False


def _state(handle: int) -> tuple[int, ...]:
    found = os.fstat(handle)
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
