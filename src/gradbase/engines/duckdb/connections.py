"""One database, many connections: which of them may run a statement.

A cursor of DuckDB is a connection of its own. It sees committed tables only: no temporary table, no
uncommitted row, no setting of the session's main connection. So settings are repeated on each
cursor, registered frames are registered on it again, and what touches the rest runs on the main
connection, whose results are materialised (an open result would block it).
"""

from __future__ import annotations

import contextlib
import itertools
import threading
from collections.abc import Generator, Iterable, Mapping
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from gradbase.engines.base import Parameters
from gradbase.engines.duckdb.errors import translated
from gradbase.engines.duckdb.queries import Parsed, Parser
from gradbase.errors import StoreError

_HARMLESS = frozenset({"SELECT", "INSERT", "UPDATE", "DELETE", "EXPLAIN", "COPY", "MERGE_INTO"})
"""Kinds of statements that make no temporary object."""

_MOST_IDLE = 8
"""Cursors kept for the next query; making one and its first query take 40 µs longer."""

_TEMPORARY = """
SELECT table_name FROM duckdb_tables() WHERE temporary
UNION ALL SELECT view_name FROM duckdb_views() WHERE temporary AND NOT internal
UNION ALL SELECT sequence_name FROM duckdb_sequences() WHERE temporary
UNION ALL SELECT type_name FROM duckdb_types() WHERE database_name = 'temp' AND NOT internal
"""

_MACROS = """
SELECT function_name FROM duckdb_functions() WHERE database_name = 'temp' AND NOT internal
"""

_BODIES = """
SELECT view_name, sql FROM duckdb_views() WHERE NOT internal AND NOT temporary
"""


def _file_at(path: Path | None) -> tuple[int, int] | None:
    """Which file there is under a path; None: none."""
    try:
        found = None if path is None else path.stat()
    except OSError:
        return None
    return found and (found.st_dev, found.st_ino)


class Connections:
    """The main connection of a session and the cursors beside it. Thread-safe.

    Parameters
    ----------
    path : Path or None
        None: in memory.
    read_only : bool
    """

    def __init__(self, path: Path | None, *, read_only: bool) -> None:
        # Off: a variable of the calling Python code must never be taken for a table.
        config: dict[str, str | bool | int | float | list[str]]
        config = {"python_enable_replacements": False}
        with translated():
            self.main = duckdb.connect(str(path or ":memory:"), read_only, config)
            self._spare = self.main.cursor()
        self._path, self._file = path, _file_at(path)
        self.main_lock = threading.RLock()
        self._spare_lock = threading.Lock()
        self.frames: dict[str, Any] = {}
        self._cursors: dict[int, duckdb.DuckDBPyConnection] = {}
        self._idle: list[duckdb.DuckDBPyConnection] = []
        self._generation = 0  # of the settings, and of those that a taken cursor has
        self._generations: dict[int, int] = {}
        self._settings: dict[str, None] = {}
        self._variables = False
        self._macros = False
        self._parser = Parser(self._statements)
        self._transaction: bool | None = False  # None: to be asked
        self._stale = False
        self._local: frozenset[str] = frozenset()
        self.writes = 0

    def check_file(self) -> None:
        """StoreError where the file was deleted or replaced: what is written now would be lost."""
        if self._file is not None and _file_at(self._path) != self._file:
            raise StoreError(
                f"the database file {self._path} was deleted or replaced while it was in use",
                hint="put it back and connect again",
            )

    # -- cursors -----------------------------------------------------------------------------------

    @contextlib.contextmanager
    def cursor(self, sql: str = "") -> Generator[duckdb.DuckDBPyConnection]:
        """A cursor with the session's settings and the frames that `sql` mentions."""
        made = self._made(sql)
        self._cursors[id(made)] = made
        try:
            yield made
        finally:
            del self._cursors[id(made)]
            made.close()

    def take(self, sql: str) -> duckdb.DuckDBPyConnection:
        """A cursor for a query that leaves nothing behind: one that served before, if it can.

        `give_back` it, and say whether its statement failed.
        """
        generation, frames = self._generation, bool(self._frames_in(sql))
        try:
            cursor = self._made(sql) if frames else self._idle.pop()
        except IndexError:
            cursor = self._made(sql)
        self._cursors[id(cursor)] = cursor
        self._generations[id(cursor)] = -1 if frames else generation
        return cursor

    def give_back(self, cursor: duckdb.DuckDBPyConnection, *, fine: bool) -> None:
        """The query on a cursor of `take` has ended; one from before a SET is not used again."""
        del self._cursors[id(cursor)]
        generation = self._generations.pop(id(cursor))
        if fine and generation == self._generation and len(self._idle) < _MOST_IDLE:
            self._idle.append(cursor)
        else:
            cursor.close()

    def _made(self, sql: str) -> duckdb.DuckDBPyConnection:
        with self._asking() as spare:
            cursor = spare.cursor()
        try:
            self._furnish(cursor, sql)
        except BaseException:
            cursor.close()
            raise
        return cursor

    def _renew(self) -> None:
        """No cursor that has been used is used again."""
        self._generation += 1
        while self._idle:
            self._idle.pop().close()

    @contextlib.contextmanager
    def _asking(self) -> Generator[duckdb.DuckDBPyConnection]:
        """For questions that take no time: a connection that is busy refuses even those."""
        with self._spare_lock, translated():
            yield self._spare

    def parse(self, sql: str) -> Parsed:
        """What DuckDB's parser says about a text."""
        return self._parser.parse(sql)

    def _statements(self, sql: str) -> list[duckdb.Statement]:
        with self._asking() as spare:
            return spare.extract_statements(sql)

    def _furnish(self, cursor: duckdb.DuckDBPyConnection, sql: str) -> None:
        for setting in list(self._settings):
            # One that cannot be repeated (a detached database) changed nothing that still holds.
            with contextlib.suppress(duckdb.Error):
                cursor.execute(setting)
        for name, frame in self._frames_in(sql):
            with translated():
                cursor.register(name, frame)

    def _frames_in(self, sql: str) -> list[tuple[str, Any]]:
        """The frames that a text mentions, with their names."""
        if not self.frames:
            return []
        folded = sql.casefold()
        return [
            (name, frame)
            for name, frame in list(self.frames.items())
            if name.casefold().replace('"', '""') in folded
        ]

    def interrupt(self) -> None:
        """Stop what runs on any connection."""
        for connection in [self.main, *list(self._cursors.values())]:
            with contextlib.suppress(duckdb.Error):
                connection.interrupt()

    def close(self) -> None:
        """Close all connections; twice is allowed."""
        self.interrupt()
        self.frames.clear()
        self._renew()
        for connection in [*list(self._cursors.values()), self._spare, self.main]:
            connection.close()

    # -- frames ------------------------------------------------------------------------------------

    def register(self, name: str, rows: Any) -> None:
        """Make rows a view of every connection of this session."""
        frame = rows.read_all() if isinstance(rows, pa.RecordBatchReader) else rows
        with self.main_lock, translated():
            self.main.register(name, frame)
            self.frames[name] = frame
            self.writes += 1

    def unregister(self, name: str) -> None:
        """Forget a view made by `register`; an unknown name is ignored."""
        with self.main_lock, translated():
            if self.frames.pop(name, None) is not None:
                self.main.unregister(name)

    # -- routing -----------------------------------------------------------------------------------

    def ran(self, kinds: Iterable[str], sql: str) -> None:
        """Remember what a statement of these kinds did to the main connection."""
        folded = sql.casefold()
        self.writes += 1
        for kind in kinds:
            if kind == "TRANSACTION":
                self._transaction = None
            elif kind == "SET" and "variable" in folded:
                self._variables = True
            elif kind == "SET":
                self._settings.pop(sql, None)
                self._settings[sql] = None
            if kind not in _HARMLESS:
                self._stale = True
                self._parser.forget()
                self._renew()
        self._macros = self._macros or "macro" in folded or "function" in folded

    def has_local_state(self) -> bool:
        """Whether any statement might need the main connection."""
        return self._variables or self._in_transaction() or bool(self._local_names())

    def needs_main(self, sql: str, parameters: Parameters = None) -> bool:
        """Whether only the main connection sees what the statement reads."""
        if self._in_transaction():
            return True
        names = self._local_names()
        if not names and not self._variables:
            return False
        text = "\n".join([sql, *_texts(parameters)]).casefold()
        return (self._variables and "getvariable" in text) or any(name in text for name in names)

    def _in_transaction(self) -> bool:
        if self._transaction is not None:
            return self._transaction
        with self.main_lock:
            try:
                first, second = (self._rows("SELECT txid_current()") for _ in range(2))
            except duckdb.TransactionException:  # aborted, waiting for ROLLBACK
                return True
            # Without a transaction each statement gets an identifier of its own.
            self._transaction = first == second
            return self._transaction

    def _local_names(self) -> frozenset[str]:
        """Folded names of the temporary objects, and of the views that read them."""
        if not self._stale:
            return self._local
        with self.main_lock, translated():
            self._stale = False
            found = self._rows(_TEMPORARY) + (self._rows(_MACROS) if self._macros else [])
            frames = {name.casefold() for name in self.frames}
            names = {str(row[0]).casefold() for row in found} - frames
            if names:
                names |= _readers(names, dict(self._rows(_BODIES)))
            self._local = frozenset(name.replace('"', '""') for name in names)
        return self._local

    def _rows(self, sql: str) -> list[tuple[Any, ...]]:
        return self.main.execute(sql).fetchall()


def _readers(names: set[str], bodies: Mapping[str, str]) -> set[str]:
    """Views that mention one of `names`, or a view that does."""
    found: set[str] = set()
    for _ in bodies:
        wanted = names | found
        more = {
            view.casefold()
            for view, body in bodies.items()
            if any(name in body.casefold() for name in wanted - {view.casefold()})
        }
        if more <= found:
            break
        found |= more
    return found


def _texts(parameters: Parameters) -> list[str]:
    values = parameters.values() if isinstance(parameters, Mapping) else parameters or ()
    return [v for v in itertools.islice(values, 100) if isinstance(v, str)]
