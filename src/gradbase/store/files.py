"""Files that survive a crash: whole or not there, and on disk before anyone names them."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from gradbase.errors import StoreError

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)
PARALLEL = 8
"""Files flushed at once: the file system commits them together."""

_numbers = itertools.count()


@contextlib.contextmanager
def reported(doing: str) -> Generator[None]:
    """Turn an OSError inside into a StoreError that says what failed and what to do."""
    try:
        yield
    except StoreError:
        raise
    except OSError as error:
        raise store_error(error, doing) from error


def store_error(error: OSError, doing: str) -> StoreError:
    """The StoreError for a failed file operation."""
    if error.errno in FULL:
        hint = "free some space or raise the quota and run the statement again; nothing has changed"
        return StoreError(f"the disk is full: {doing} failed ({error.strerror})", hint=hint)
    if error.errno in FORBIDDEN:
        hint = "make the database's folder writable, or connect with read_only=True"
        return StoreError(f"no permission: {doing} failed ({error.strerror})", hint=hint)
    return StoreError(f"{doing} failed: {error}", hint="run `gradbase fsck`")


def sync_folder(folder: Path) -> None:
    """Make renames and deletions in `folder` durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def make_folder(folder: Path) -> None:
    """Create `folder` and its parents durably."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    sync_folder(folder.parent)


def write_files(files: Sequence[tuple[Path, memoryview]], temporary: Path) -> None:
    """Write all `files` durably; each appears under its name whole or not at all.

    Parameters
    ----------
    files : sequence of (path, bytes)
        Any folder of a path must exist.
    temporary : Path
        Folder on the same file system for halves.
    """
    halves = [temporary / f"{os.getpid()}-{next(_numbers)}" for _ in files]
    try:
        if len(files) > 1:
            with ThreadPoolExecutor(min(PARALLEL, len(files))) as pool:
                list(pool.map(_write, halves, (data for _, data in files)))
        else:
            _write(halves[0], files[0][1])
        for half, (path, _) in zip(halves, files, strict=True):
            os.replace(half, path)  # noqa: PTH105
        for folder in {path.parent for path, _ in files}:
            sync_folder(folder)
    except BaseException:
        for half in halves:
            half.unlink(missing_ok=True)
        raise


def _write(path: Path, data: memoryview) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    try:
        write_all(handle, data)
        os.fsync(handle)
    finally:
        os.close(handle)


def write_all(handle: int, data: memoryview) -> None:
    """Write every byte of `data`; one call may write only a part."""
    done = 0
    while done < len(data):
        done += os.write(handle, data[done:])


def read_into(path: Path, target: memoryview) -> bool:
    """Fill `target` from the file; False where the file has another size."""
    with path.open("rb", buffering=0) as file:
        if os.fstat(file.fileno()).st_size != len(target):
            return False
        done = 0
        while done < len(target):
            count = file.readinto(target[done:])
            if not count:
                return False
            done += count
    return True
