"""Access to the catalog: reading without changing anything, writing in one transaction."""

from __future__ import annotations

import contextlib
import datetime as dt
import re
from collections.abc import Generator, Sequence
from typing import Any

import pyarrow as pa
from numpy.typing import NDArray

from gradbase.engines.base import Engine, Transaction, quote_identifier
from gradbase.engines.objects import Objects
from gradbase.errors import EngineError, StoreError
from gradbase.store import tables, upgrade
from gradbase.store.folder import Folder
from gradbase.store.object_pieces import ObjectPieces
from gradbase.store.pieces import FilePieces, Pieces, TablePieces
from gradbase.store.tables import TABLES, columns, create, types

Row = dict[str, Any]
ARROW = {
    "BIGINT": pa.int64(),
    "DOUBLE": pa.float64(),
    "INTEGER": pa.int32(),
    "TIMESTAMP": pa.timestamp("us"),
    "VARCHAR": pa.string(),
}
"""Arrow's type for each type of the catalog's columns."""


class Catalog:
    """The tables of schema `gradbase` in one database.

    They are made by the first write, in its transaction; until then every table reads as empty.
    """

    def __init__(self, engine: Engine, folder: Folder, *, read_only: bool) -> None:
        self.engine, self.folder, self.read_only = engine, folder, read_only
        # With its database's name: the session may USE another one.
        database = engine.fetch("SELECT current_database() AS name").column("name")[0].as_py()
        # A server's connection knows one database only.
        shared = engine.capabilities.shared
        self.schema = "gradbase" if shared else f"{quote_identifier(database)}.gradbase"
        self._database: str = database
        self._known: tuple[int, int | None] = (-1, None)

    def pieces(self) -> Pieces:
        """Where blobs lie: in the folder, in the database itself, or at a URL."""
        capabilities = self.engine.capabilities
        if capabilities.holds_blobs:
            return TablePieces(self.engine, self._database, self.schema)
        if capabilities.objects:
            return ObjectPieces(Objects(capabilities.objects))
        return FilePieces(self.folder)

    def changes_of_others(self) -> int:
        """Grows with every change, where other processes may write at any time; else 0."""
        if not self.engine.capabilities.shared or self.format_version() is None:
            return 0
        found = self._committed(f"SELECT next_id FROM {self.schema}.format")
        return found[0][0] + 1 if found else 0

    def format_version(self) -> int | None:
        """Version of the tables that are there, None where there are none."""
        others = self._known[1] is None and self.engine.capabilities.shared
        if others or self._known[0] != self.folder.changes:
            changes = self.folder.changes
            self._known = (changes, self._read_format())
        return self._known[1]

    def ready(self) -> bool:
        """Whether there is a catalog; one of an older format is upgraded first.

        Raises
        ------
        StoreError
            Its format is newer than this gradbase, or older and the database is read-only.
        """
        version = self.format_version()
        if version is None:
            return False
        if version != tables.FORMAT:
            upgrade.check(version, read_only=self.read_only)
            with self.write():
                pass
        return True

    def rows(self, columns: Sequence[str], rest: str, params: Sequence[Any] = ()) -> list[Row]:
        """Rows of ``SELECT columns rest``, by column name; none where there is no catalog.

        `rest` has ``{g}.<table>`` for tables. A column is ``name``, ``t.name`` or ``x AS name``.
        """
        if not self.ready():
            return []
        names = [c.rpartition(" AS ")[2].rpartition(".")[2] for c in columns]
        found = self._committed(f"SELECT {', '.join(columns)} {rest}".format(g=self.schema), params)
        return [dict(zip(names, row, strict=True)) for row in found]

    @contextlib.contextmanager
    def write(self) -> Generator[Transaction]:
        """One transaction under the catalog lock; an exception inside leaves no trace."""
        self.check_writable()
        with self.folder.lock:
            try:
                with (
                    self._reported("writing the catalog"),
                    self.engine.transaction(writes=True) as handle,
                ):
                    self._prepare(handle)
                    yield handle
            finally:
                self.folder.changes += 1

    def check_writable(self) -> None:
        """StoreError where the database is open read-only."""
        if self.read_only:
            raise StoreError(
                "the database is open read-only: models cannot be made, changed or dropped",
                hint="connect without read_only=True",
            )

    def next_id(self, handle: Transaction) -> int:
        """A number never given before; taking it makes concurrent writers conflict."""
        handle.execute(f"UPDATE {self.schema}.format SET next_id = next_id + 1")
        return self.select(handle, "SELECT next_id FROM {g}.format")[0][0]

    def select(
        self, handle: Transaction, sql: str, params: Sequence[Any] = ()
    ) -> list[tuple[Any, ...]]:
        """Rows of a query over ``{g}.<table>`` inside a transaction."""
        handle.execute(sql.format(g=self.schema), list(params))
        return handle.fetchall()

    def insert(self, handle: Transaction, table: str, rows: Sequence[Sequence[Any]]) -> None:
        """Insert rows, values in the order of the table's columns, in one statement."""
        if rows:
            self.insert_columns(handle, table, list(zip(*rows, strict=True)))

    def insert_columns(
        self, handle: Transaction, table: str, values: Sequence[Sequence[Any] | NDArray[Any]]
    ) -> None:
        """As `insert`, column by column."""
        names = columns(table)
        arrays = [pa.array(v, ARROW[t]) for v, t in zip(values, types(table), strict=True)]
        handle.insert(f"{self.schema}.{table}", pa.Table.from_arrays(arrays, names))

    def _prepare(self, handle: Transaction) -> None:
        version = self._read_format()
        if version is None:
            handle.execute(f"CREATE SCHEMA IF NOT EXISTS {self.schema}")
            for table in TABLES:
                handle.execute(create(table, self.schema))
            self.insert(handle, "format", [(tables.FORMAT, 0, now())])
        elif version != tables.FORMAT:
            upgrade.run(version, handle, self.schema)

    def _read_format(self) -> int | None:
        with self._reported("reading the catalog"):
            if not self.engine.has_table(self._database, "gradbase", "format"):
                return None
        found = self._committed(f"SELECT version FROM {self.schema}.format")
        if len(found) != 1 or not isinstance(found[0][0], int):
            raise StoreError(
                f"the catalog is damaged: table gradbase.format has {len(found)} rows instead "
                "of one with the version of the format",
                hint="restore the database from a backup",
            )
        return found[0][0]

    def _committed(self, sql: str, params: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Rows as committed now: a transaction of the session's user may see older ones."""
        with self._reported("reading the catalog"), self.engine.transaction() as handle:
            handle.execute(sql, list(params))
            return handle.fetchall()

    @contextlib.contextmanager
    def _reported(self, doing: str) -> Generator[None]:
        try:
            yield
        except EngineError as error:
            raise _explain(error, doing) from error


_CAUSES = (
    (
        r"no space left|file too large|disk quota|could not write (all|file)",
        "the disk is full",
        "free some space and run the statement again; nothing has changed",
    ),
    (
        r"permission denied",
        "the role may not use the models so",
        "GRANT USAGE ON SCHEMA gradbase, SELECT ON its tables (to write INSERT, UPDATE, DELETE)",
    ),
    (r"read-only|read only", "the database is open read-only", "connect without read_only=True"),
    (
        r"conflict|serializ",
        "another session changed the catalog at the same time",
        "run the statement again",
    ),
    (
        r"could not set lock|being used by another process|conflicting lock",
        "the database is locked by another process",
        "close the other process, or let both open it with read_only=True",
    ),
)


def _explain(error: EngineError, doing: str) -> StoreError:
    text = f"{error} {error.__cause__ or ''}"
    for pattern, meaning, hint in _CAUSES:
        if re.search(pattern, text, re.IGNORECASE):
            return StoreError(f"{meaning}: {doing} failed ({error.message})", hint=hint)
    return StoreError(f"{doing} failed ({error.message})", hint="run `gradbase fsck`")


def now() -> dt.datetime:
    """The time as the catalog keeps it: UTC, without a zone."""
    return dt.datetime.now(dt.UTC).replace(tzinfo=None)


def quote_text(value: str) -> str:
    """`value` as a string literal in SQL text, whatever is in it."""
    return "'" + value.replace("'", "''") + "'"
