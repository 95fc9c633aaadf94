"""DuckDB's exceptions as ours."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Generator

import duckdb

from gradbase.engines.base import REFUSED
from gradbase.errors import (
    CancelledError,
    DataError,
    EngineError,
    GradbaseError,
    ResourceError,
    StoreError,
)

_STORAGE = ("IO", "Connection", "Invalid Input", "FATAL", "Out of Memory", "Permission")
"""First words of the messages that may be about the file rather than the statement."""

_STORE = (
    (
        r"could not set lock on file|being used by another process",
        "close the other program, or open the file read-only in both",
    ),
    (
        r"attached in read-only mode|permission denied|read-only file system",
        "connect without read_only=True to a file that may be written",
    ),
    (
        r"no space left|disk (is )?full|disk quota|max_temp_directory_size|file too large",
        "make room on the disk and run the statement again",
    ),
    (
        r"not a valid duckdb database|corrupt|trying to read a database file",
        "restore the file from a backup, or name another one",
    ),
    (
        r"different configuration than existing connections",
        "this process has the file open already: close that session, or open both the same way",
    ),
    (
        r"cannot open (file|database)|database does not exist",
        "check the path: the folder must exist, and read_only=True makes no file",
    ),
    (
        r"already (been )?closed",
        "connect again",
    ),
)
"""What the store cannot do: pattern of the message, way out."""


def translate(error: BaseException) -> GradbaseError:
    """Our exception for one of DuckDB's, also where it came as text through an Arrow stream."""
    text = str(error)
    kind = text.partition(" Error:")[0]
    if kind == "INTERRUPT":
        return CancelledError("the statement was cancelled")
    if REFUSED in text:
        why = text.partition(REFUSED)[2].strip()
        return DataError(why, hint="leave such rows out (WHERE isfinite(…)) or make it NULL")
    if kind in _STORAGE:
        for pattern, hint in _STORE:
            if re.search(pattern, text, re.IGNORECASE):
                return StoreError(text, hint=hint)
    if kind == "Out of Memory":
        return ResourceError(text, hint="SET gradbase.memory_limit to a larger size")
    return EngineError(text)


@contextlib.contextmanager
def translated() -> Generator[None]:
    """Raise DuckDB's exceptions inside the block as ours, the original being the cause."""
    try:
        yield
    except duckdb.Error as error:
        raise translate(error) from error
