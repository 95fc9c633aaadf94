"""A file without a name for results that do not fit in memory; it disappears with its user."""

from __future__ import annotations

import itertools
import os
import tempfile
import threading
from pathlib import Path

from gradbase.errors import StoreError
from gradbase.store.files import reported
from gradbase.store.tiles.file import check_of

_numbers = itertools.count(1)


class Scratch:
    """Pages of one size that are written, read and written again.

    The file is made when the first page has to leave memory.

    Parameters
    ----------
    page_bytes : int
    folder : Path, optional
        Where the file is; default: the system's folder for temporary files.
    """

    def __init__(self, page_bytes: int, folder: Path | None = None) -> None:
        self.page_bytes, self._folder = page_bytes, folder
        self.key = ("scratch", next(_numbers))
        self.written = 0
        self._file: int | None = None
        self._checks: dict[int, bytes] = {}
        self._free: list[int] = []
        self._count = 0
        self._lock = threading.Lock()

    def take(self) -> int:
        """The number of a page for new content."""
        with self._lock:
            if self._free:
                return self._free.pop()
            self._count += 1
            return self._count - 1

    def give_back(self, page: int) -> None:
        """Let a page's number be used again."""
        with self._lock:
            self._checks.pop(page, None)
            self._free.append(page)

    def write(self, page: int, data: memoryview) -> None:
        """Keep a page's content.

        Raises
        ------
        StoreError
            The disk is full.
        """
        with reported(f"writing intermediate results of {self.page_bytes:,} bytes"):
            with self._lock:
                if self._file is None:
                    self._file = _open_nameless(self._folder)
            done = 0
            while done < self.page_bytes:
                start = page * self.page_bytes + done
                done += os.pwrite(self._file, data[done : self.page_bytes], start)
        self._checks[page] = check_of(data[: self.page_bytes])
        self.written += 1

    def read(self, page: int, into: memoryview) -> int:
        """Fill `into` with a page, verified."""
        assert self._file is not None
        target = into[: self.page_bytes]
        done = 0
        with reported("reading intermediate results"):
            while done < self.page_bytes:
                start = page * self.page_bytes + done
                count = os.preadv(self._file, [target[done:]], start)
                if not count:
                    break
                done += count
        if check_of(target) != self._checks[page]:
            raise StoreError(
                f"page {page} of the file with intermediate results is damaged",
                hint="run the statement again; check the disk if it happens again",
            )
        return self.page_bytes

    def close(self) -> None:
        """Delete the file; twice is allowed."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def __del__(self) -> None:
        if getattr(self, "_file", None) is not None:
            self.close()


def _open_nameless(folder: Path | None) -> int:
    # Without a name from the start: nothing is left over after a crash.
    with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
        return os.dup(file.fileno())
