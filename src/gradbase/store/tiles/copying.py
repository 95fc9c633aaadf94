"""Weights whose pages are ranges of the file that they come from."""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import threading
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from gradbase.errors import DataError
from gradbase.store.tiles.file import check_of
from gradbase.store.tiles.new_file import NewFile
from gradbase.store.tiles.origin import Origin

_THREADS = 3
"""The disk has something to write while two read and hash."""
_BLOCK = 4096
"""What goes to the disk past the system's memory is at multiples of it."""
_WRITE_BYTES = 1 << 20


def copy_pages(new: NewFile, path: Path, start: int) -> Origin:
    """Fill a new file, whose tiles are whole rows, with the bytes of `path` from `start` on.

    They go to the disk past the system's memory: it has them already, as those of `path`, and
    finding memory for gigabytes may take longer than writing them.

    Raises
    ------
    DataError
        `path` has changed meanwhile.
    StoreError
        The disk is full.
    """
    row, own = new.grid.cols * new.grid.item, threading.local()

    def copy(tile: int) -> None:
        if not hasattr(own, "page"):
            own.page = mmap.mmap(-1, -(-new.page_bytes // _BLOCK) * _BLOCK)
        top, bottom, _, _ = new.grid.place(tile)
        page = memoryview(own.page)
        data = page[: (bottom - top) * row]
        _fill(source, data, start + top * row, path)
        new.checks[tile] = check_of(data)
        size = min(-(-len(data) // _BLOCK) * _BLOCK, new.page_bytes)
        with new.reported():
            _put(new, target, page[:size], tile * new.page_bytes)

    with path.open("rb", buffering=0) as file, _past_memory(new) as target:
        source = file.fileno()
        origin = Origin.of(source, path, start)
        with ThreadPoolExecutor(_THREADS, "gradbase-copy") as threads:
            for _ in threads.map(copy, range(new.grid.tiles)):
                pass
    return origin


@contextlib.contextmanager
def _past_memory(new: NewFile) -> Generator[int]:
    """A handle that writes to the disk directly; the plain one where that is not possible."""
    direct = getattr(os, "O_DIRECT", None)
    if direct is None or new.page_bytes % _BLOCK:
        yield new.handle
        return
    try:
        handle = os.open(new.path, os.O_WRONLY | os.O_CLOEXEC | direct)
    except OSError:  # not on this file system
        yield new.handle
        return
    try:
        yield handle
    finally:
        os.close(handle)


def _fill(handle: int, target: memoryview, start: int, path: Path) -> None:
    done = 0
    while done < len(target):
        count = os.preadv(handle, [target[done:]], start + done)
        if not count:
            raise DataError(f"`{path}` has changed while it was imported")
        done += count


def _put(new: NewFile, direct: int, data: memoryview, start: int) -> None:
    try:
        _write(direct, data, start)
    except OSError as error:
        if error.errno != errno.EINVAL or direct == new.handle:
            raise
        _write(new.handle, data, start)  # opened, but not written past the memory


def _write(handle: int, data: memoryview, start: int) -> None:
    done = 0
    while done < len(data):
        done += os.pwrite(handle, data[done : done + _WRITE_BYTES], start + done)
