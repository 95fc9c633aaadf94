"""Where the bytes of blobs lie: files of a folder, or rows of a table for an engine that is shared.

A piece has a name and bytes that never change. What a piece means is for `Blobs` to say.
"""

from __future__ import annotations

import os
import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import pyarrow as pa

from gradbase.engines.base import Engine
from gradbase.store.files import read_into, reported, sync_folder, write_files
from gradbase.store.folder import Folder

ROW_BYTES = 1 << 20
"""A row of a table holds so many bytes at most."""
TABLE = "pieces"


_CREATE = (
    "CREATE TABLE {table} (name VARCHAR, part INTEGER, data BYTEA, put DOUBLE PRECISION, "
    "PRIMARY KEY (name, part))"
)


class Piece(NamedTuple):
    """A piece as it lies there; `age_s` since it was last put."""

    name: str
    size_bytes: int
    age_s: float


class Pieces(Protocol):
    """Immutable bytes by name."""

    @property
    def where(self) -> str:
        """What messages call the place."""
        ...

    @property
    def missing(self) -> str | None:
        """What is wrong with the place as a whole, None where nothing is."""
        ...

    def size(self, name: str) -> int | None:
        """Bytes of a piece, None where there is none."""
        ...

    def read(self, name: str, target: memoryview) -> bool:
        """Fill `target`; False where the piece has another size. FileNotFoundError, OSError."""
        ...

    def keep(self, name: str, data: memoryview) -> bool:
        """Whether the piece holds `data` already; it then counts as put now."""
        ...

    def write(self, pieces: Sequence[tuple[str, memoryview]]) -> None:
        """Store durably, each whole or not at all."""
        ...

    def listing(self) -> Iterator[Piece]:
        """All pieces."""
        ...

    def delete(self, names: Iterable[str]) -> None:
        """Delete durably."""
        ...

    def halves(self) -> list[Piece]:
        """What a crash left of a `write`."""
        ...

    def delete_halves(self, names: Iterable[str]) -> None:
        """Delete such leavings."""
        ...

    def alone(self) -> AbstractContextManager[bool]:
        """whether no other process creates blobs here; it stays so inside."""
        ...


class FilePieces:
    """Files below a folder."""

    def __init__(self, folder: Folder) -> None:
        self._folder, self.path = folder, folder.blobs

    @property
    def where(self) -> str:
        """The path."""
        return str(self.path)

    @property
    def missing(self) -> str | None:
        """A database can be copied without its folder."""
        if self.path.is_dir():
            return None
        return (
            f"the folder {self._folder.root} with the models' weights is missing; the database "
            "was probably copied without it"
        )

    def size(self, name: str) -> int | None:
        """Bytes of a file, None where there is none."""
        path = self.path / name
        return path.stat().st_size if path.is_file() else None

    def read(self, name: str, target: memoryview) -> bool:
        """Fill `target` from a file."""
        return read_into(self.path / name, target)

    def keep(self, name: str, data: memoryview) -> bool:
        """A damaged file does not hold `data`, and is written again."""
        path, found = self.path / name, bytearray(len(data))
        try:
            if not read_into(path, memoryview(found)) or memoryview(found) != data:
                return False
            os.utime(path)
        except OSError:
            return False
        return True

    def write(self, pieces: Sequence[tuple[str, memoryview]]) -> None:
        """Write files."""
        write_files([(self.path / name, data) for name, data in pieces], self._folder.halves)

    def listing(self) -> Iterator[Piece]:
        """The files."""
        return map(_piece, self.path.iterdir() if self.path.is_dir() else ())

    def delete(self, names: Iterable[str]) -> None:
        """Delete files."""
        _unlink(self.path / name for name in names)

    def halves(self) -> list[Piece]:
        """Files that never got their name."""
        return [_piece(path) for path in self._folder.halves.glob("*")]

    def delete_halves(self, names: Iterable[str]) -> None:
        """Delete such files."""
        _unlink(self._folder.halves / name for name in names)

    @contextmanager
    def alone(self) -> Generator[bool]:
        """Other processes hold a lock of the folder."""
        with self._folder.alone() as alone:
            yield alone


class TablePieces:
    """Rows of ``gradbase.pieces``, `ROW_BYTES` each: roles, backups and dumps hold for them too."""

    def __init__(self, engine: Engine, database: str, schema: str) -> None:
        self._engine, self._database = engine, database
        self._schema, self.table = schema, f"{schema}.{TABLE}"

    @property
    def where(self) -> str:
        """The table."""
        return f"table gradbase.{TABLE}"

    @property
    def missing(self) -> str | None:
        """The first blob makes the table."""
        if self._engine.has_table(self._database, "gradbase", TABLE):
            return None
        return f"the database has no {self.where}, which holds the models' weights"

    def size(self, name: str) -> int | None:
        """Bytes of a piece, None where there is none."""
        query = f"SELECT sum(octet_length(data)) FROM {self.table} WHERE name = ?"
        if self.missing:
            return None
        found = self._rows(query, [name])[0][0]
        return None if found is None else int(found)

    def read(self, name: str, target: memoryview) -> bool:
        """Fill `target` from the rows of a piece."""
        rows = self._rows(f"SELECT data FROM {self.table} WHERE name = ? ORDER BY part", [name])
        if not rows:
            raise FileNotFoundError(name)
        if sum(len(data) for (data,) in rows) != len(target):
            return False
        start = 0
        for (data,) in rows:
            target[start : start + len(data)] = data
            start += len(data)
        return True

    def keep(self, name: str, data: memoryview) -> bool:
        """A damaged piece does not hold `data`, and is written again."""
        found = bytearray(len(data))
        if self.size(name) != len(data) or not self.read(name, memoryview(found)):
            return False
        if memoryview(found) != data:
            return False
        with self._engine.transaction() as handle:
            handle.execute(f"UPDATE {self.table} SET put = ? WHERE name = ?", [time.time(), name])
        return True

    def write(self, pieces: Sequence[tuple[str, memoryview]]) -> None:
        """Write rows in one transaction."""
        rows = [
            (name, part, bytes(data[start : start + ROW_BYTES]), time.time())
            for name, data in pieces
            for part, start in enumerate(range(0, max(1, len(data)), ROW_BYTES))
        ]
        schema = pa.schema(
            [("name", pa.string()), ("part", pa.int32()), ("data", pa.binary()),
             ("put", pa.float64())]
        )  # fmt: skip
        columns = [
            pa.array(v, f.type) for v, f in zip(zip(*rows, strict=True), schema, strict=True)
        ]
        with self._engine.transaction(writes=True) as handle:
            if self.missing:  # asked first: even IF NOT EXISTS needs the right to create
                handle.execute(f"CREATE SCHEMA IF NOT EXISTS {self._schema}")
                handle.execute(_CREATE.format(table=self.table))
            for name, _ in pieces:  # damaged ones, or what another session wrote meanwhile
                handle.execute(f"DELETE FROM {self.table} WHERE name = ?", [name])
            handle.insert(self.table, pa.Table.from_arrays(columns, schema=schema))

    def listing(self) -> Iterator[Piece]:
        """The pieces."""
        query = (
            f"SELECT name, sum(octet_length(data)), max(put) FROM {self.table} GROUP BY name "
            "ORDER BY name"
        )
        for name, size_bytes, put in self._rows(query):
            yield Piece(name, int(size_bytes), time.time() - put)

    def delete(self, names: Iterable[str]) -> None:
        """Delete rows."""
        with self._engine.transaction(writes=True) as handle:
            for name in names:
                handle.execute(f"DELETE FROM {self.table} WHERE name = ?", [name])

    def halves(self) -> list[Piece]:
        """A transaction leaves none."""
        return []

    def delete_halves(self, names: Iterable[str]) -> None:
        """A transaction leaves none."""

    @contextmanager
    def alone(self) -> Generator[bool]:
        """Other sessions may create blobs at any time."""
        yield False

    def _rows(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        with self._engine.transaction() as handle:
            return handle.execute(sql, list(parameters)).fetchall()


def _piece(path: Path) -> Piece:
    found = path.stat()
    return Piece(path.name, found.st_size, time.time() - found.st_mtime)


def _unlink(paths: Iterable[Path]) -> None:
    folders = set[Path]()
    with reported("deleting blobs"):
        for path in paths:
            path.unlink()
            folders.add(path.parent)
        for folder in folders:
            sync_folder(folder)
