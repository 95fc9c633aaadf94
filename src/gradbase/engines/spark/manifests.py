"""Numbered manifests in a folder or below a URL: each holds a whole catalog, and never changes.

The newest number counts. A new one is put only if it is not there, so that of two sessions that
change the catalog at the same time one is told.
"""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import unquote, urlsplit

import pyarrow as pa
from blake3 import blake3

from gradbase.engines.objects import Objects
from gradbase.errors import BindError, StoreError

KEPT = 16
KEPT_S = 3600.0
"""The newest so many stay, and those so many seconds older than the newest: a number is never free
again while a session may still take it for the next one."""
_NAME = re.compile(r"(\d{12})\.manifest\Z")
FOLDER = "catalog"


class Manifests(Protocol):
    """Immutable numbered files."""

    @property
    def where(self) -> str:
        """What messages call the place."""
        ...

    def numbers(self) -> list[int]:
        """Those that are there, in order."""
        ...

    def has(self, number: int) -> bool:
        """Whether one is there."""
        ...

    def read(self, number: int) -> bytes:
        """Its content; FileNotFoundError."""
        ...

    def put(self, number: int, content: bytes) -> bool:
        """Put a new one, durably and whole; False where it is there already."""
        ...

    def sweep(self) -> None:
        """Delete what is old."""
        ...


class FolderManifests:
    """Files of a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @property
    def where(self) -> str:
        """The path."""
        return str(self._folder)

    def numbers(self) -> list[int]:
        """Those that are there, in order."""
        names = os.listdir(self._folder) if self._folder.is_dir() else []  # noqa: PTH208
        return sorted(int(found[1]) for found in map(_NAME.match, names) if found)

    def has(self, number: int) -> bool:
        """Whether one is there."""
        return self._path(number).exists()

    def read(self, number: int) -> bytes:
        """Its content."""
        return self._path(number).read_bytes()

    def put(self, number: int, content: bytes) -> bool:
        """A hard link is made, or refused, at once."""
        self._folder.mkdir(parents=True, exist_ok=True)
        handle, half = tempfile.mkstemp(dir=self._folder, prefix="half-")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            try:
                os.link(half, self._path(number))
            except FileExistsError:
                return False
        finally:
            Path(half).unlink(missing_ok=True)
        folder = os.open(self._folder, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        return True

    def sweep(self) -> None:
        """Delete what is old, the oldest first."""
        paths = [self._path(n) for n in self.numbers()]
        with contextlib.suppress(FileNotFoundError):  # another session sweeps too
            now = paths[-1].stat().st_mtime
            for path in paths[:-KEPT]:
                if now - path.stat().st_mtime <= KEPT_S:
                    return
                path.unlink()

    def _path(self, number: int) -> Path:
        return self._folder / f"{number:012d}.manifest"


class ObjectManifests:
    """Objects below a URL."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects

    @property
    def where(self) -> str:
        """The URL."""
        return f"{self._objects.url}/{FOLDER}"

    def numbers(self) -> list[int]:
        """Those that are there, in order."""
        names = self._objects.names(FOLDER)
        return sorted(int(found[1]) for found in map(_NAME.match, names) if found)

    def has(self, number: int) -> bool:
        """Whether one is there."""
        return self._objects.size(_object(number)) is not None

    def read(self, number: int) -> bytes:
        """Its content."""
        return self._objects.read(_object(number))

    def put(self, number: int, content: bytes) -> bool:
        """The store refuses a second object of the name."""
        return self._objects.create(_object(number), content)

    def sweep(self) -> None:
        """Delete what is old, the oldest first."""
        names = [_object(n) for n in self.numbers()]
        with contextlib.suppress(FileNotFoundError):  # another session sweeps too
            for name in names[:-KEPT]:
                if self._objects.age_s(name) - self._objects.age_s(names[-1]) <= KEPT_S:
                    return
                self._objects.delete([name])


def _object(number: int) -> str:
    return f"{FOLDER}/{number:012d}.manifest"


def local_folder(store: str | Path) -> Path:
    """The folder that a store's path or ``file://`` URL names.

    Raises
    ------
    BindError
        The URL names another machine.

    Examples
    --------
    >>> print(local_folder("file:///data/my%20models"))
    /data/my models
    """
    text = str(store)
    if text.lower().startswith("file:"):
        parts = urlsplit(text)
        if parts.netloc not in ("", "localhost"):
            raise BindError(
                f"store `{text}` names the machine `{parts.netloc}`, not a folder",
                hint=f"a folder has three slashes: file:///{parts.netloc}{parts.path}",
            )
        text = unquote(parts.path)
    return Path(text).expanduser().absolute()


def packed(tables: dict[str, pa.Table]) -> bytes:
    """Tables as the bytes of a manifest."""
    names, datas = list(tables), [_written(t) for t in tables.values()]
    whole = pa.table(
        {
            "table": pa.array(names, pa.string()),
            "rows": pa.array(datas, pa.binary()),
            "hash": pa.array([blake3(d).hexdigest() for d in datas], pa.string()),
        }
    )
    return _written(whole)


def unpacked(content: bytes, name: str) -> dict[str, pa.Table]:
    """The tables of a manifest.

    Raises
    ------
    StoreError
        It is damaged.
    """
    problem: Any = "a checksum differs"
    with contextlib.suppress(pa.ArrowException, KeyError, OSError):
        rows = pa.ipc.open_stream(content).read_all().to_pylist()
        if all(blake3(r["rows"]).hexdigest() == r["hash"] for r in rows):
            return {r["table"]: pa.ipc.open_stream(r["rows"]).read_all() for r in rows}
    raise StoreError(
        f"the catalog is damaged: {name}: {problem}",
        hint="delete this manifest: the one before it then counts",
    )


def _written(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()
