"""Many connections to one database: which of them may run a statement.

A temporary table, an open transaction and a setting belong to the connection that made them, the
session's main one. Settings are repeated on the others; what touches the rest runs on the main
connection, whose results are materialised.
"""

from __future__ import annotations

import contextlib
import select
import threading
import time
from collections.abc import Generator
from typing import Any

import psycopg
from psycopg import pq

from gradbase.engines.postgres.errors import translate, translated
from gradbase.engines.postgres.statements import first_word
from gradbase.errors import ResourceError, StoreError


class Connection(psycopg.Connection[tuple[Any, ...]]):
    """A connection that knows more about itself.

    `generation`: which settings of the session it has. `plain`: nothing on its socket is encrypted.
    `copying`: rows are on their way, whether libpq knows of them or not.
    """

    generation = -1
    plain = copying = False


_HARMLESS = ("insert", "update", "delete", "merge", "copy", "explain", "analyze", "vacuum")
"""First words of statements that leave neither a setting nor a temporary object."""

MOST_IDLE = 8
"""Connections kept for the next query."""
WAIT_S = 30.0
"""How long a statement waits for a connection where the server has no more."""

_SETTINGS = """
SELECT name, setting FROM pg_catalog.pg_settings
WHERE source = 'session' AND context IN ('user', 'superuser') AND name <> 'application_name'
  AND name NOT LIKE 'transaction%' AND name NOT IN ('role', 'client_encoding')
UNION ALL SELECT 'role', current_setting('role') WHERE current_setting('role') <> 'none'
"""
_TEMPORARY = """
SELECT relname FROM pg_catalog.pg_class WHERE relnamespace = pg_catalog.pg_my_temp_schema()
 AND relkind IN ('r', 'v', 'S', 'p')
"""


class Connections:
    """The main connection of a session and the others beside it. Thread-safe.

    Parameters
    ----------
    url : str
    read_only : bool
    """

    def __init__(self, url: str, *, read_only: bool) -> None:
        self.url, self.read_only = url, read_only
        self.main_lock = threading.RLock()
        self._changed = threading.Condition()
        self._idle: list[Connection] = []
        self._busy: dict[int, Connection] = {}
        self._closed = False
        self._settings: list[tuple[str, str]] = []
        self._generation = 0
        self._transaction = False
        self._local: frozenset[str] = frozenset()
        self._main = self._connected()
        self.writes = 0

    # -- the main connection -----------------------------------------------------------------------

    def _alive(self) -> Connection:
        """The main connection, made anew where the server has dropped it; the lock is held."""
        if self._closed:
            raise StoreError("the connection is closed", hint="connect again")
        if not _usable(self._main):
            with contextlib.suppress(psycopg.Error):
                self._main.close()
            made = self._connected()
            _set(made, self._settings)  # a role that was given up must not come back silently
            self._main, self._local, self._transaction = made, frozenset(), False
            self._generation += 1
        return self._main

    @contextlib.contextmanager
    def on_main(self) -> Generator[Connection]:
        """The main connection, alone; `interrupt` reaches it."""
        with self.main_lock, translated():
            connection = self._alive()
            self._busy[id(connection)] = connection
            try:
                yield connection
            finally:
                self._busy.pop(id(connection), None)

    def ran(self, sql: str = "") -> None:
        """A statement of the user's has run on the main connection: what does it leave there?

        Everybody else reads the answer without waiting for the main connection, which may be busy.
        """
        self.writes += 1
        with self.main_lock:
            if not _usable(self._main):
                return
            status = self._main.pgconn.transaction_status
            ended = self._transaction and status == pq.TransactionStatus.IDLE
            self._transaction = status != pq.TransactionStatus.IDLE
            if not self._transaction and (ended or first_word(sql) not in _HARMLESS):
                self._look()

    def _look(self) -> None:
        """Ask the main connection for its settings and temporary objects."""
        with translated():
            found = self._main.execute(_SETTINGS, prepare=False).fetchall()
            names = self._main.execute(_TEMPORARY, prepare=False).fetchall()
        settings = [(str(n), str(v)) for n, v in found]
        self._local = frozenset(str(n).casefold().replace('"', '""') for (n,) in names)
        if settings != self._settings:
            self._settings = settings
            self._generation += 1

    @property
    def settings(self) -> list[tuple[str, str]]:
        """What the session has set, names and values."""
        return list(self._settings)

    @property
    def in_transaction(self) -> bool:
        """Whether the user's own transaction is open."""
        return self._transaction

    def needs_main(self, sql: str) -> bool:
        """Whether only the main connection sees what the statement reads."""
        if self._transaction:
            return True
        folded = sql.casefold() if self._local else ""
        return any(name in folded for name in self._local)

    # -- the others --------------------------------------------------------------------------------

    @contextlib.contextmanager
    def other(self) -> Generator[Connection]:
        """A connection with the session's settings that sees what is committed."""
        connection = self.take()
        fine = False
        try:
            with translated():
                yield connection
            fine = True
        finally:
            self.give_back(connection, fine=fine)

    def take(self) -> Connection:
        """A connection for one statement or transaction; `give_back` it."""
        if self._closed:
            raise StoreError("the connection is closed", hint="connect again")
        settings, generation = self._settings, self._generation
        connection = self._reused(generation) or self._made()
        if settings and connection.generation != generation:
            with translated():
                _set(connection, settings)
        connection.generation = generation
        with self._changed:
            self._busy[id(connection)] = connection
        return connection

    def give_back(self, connection: Connection, *, fine: bool) -> None:
        """The statement has ended."""
        with self._changed:
            self._busy.pop(id(connection), None)
            idle = connection.pgconn.transaction_status == pq.TransactionStatus.IDLE
            idle = idle and not connection.copying
            keep = fine and idle and connection.generation == self._generation
            if keep and not self._closed and len(self._idle) < MOST_IDLE:
                self._idle.append(connection)
            else:
                connection.close()
            self._changed.notify()

    def _reused(self, generation: int) -> Connection | None:
        with self._changed:
            while self._idle:
                connection = self._idle.pop()
                if connection.generation == generation and _usable(connection):
                    return connection
                connection.close()
        return None

    def _made(self) -> Connection:
        """A new connection; where the server has no more, one that is given back is waited for."""
        end = time.monotonic() + WAIT_S
        while True:
            try:
                return self._connected()
            except ResourceError:
                with self._changed:
                    if not self._busy or time.monotonic() > end:
                        raise
                    self._changed.wait(0.2)
                    connection = self._idle.pop() if self._idle else None
                if connection is not None and _usable(connection):
                    return connection

    def _connected(self) -> Connection:
        try:
            made = Connection.connect(
                self.url,
                autocommit=True,
                application_name="gradbase",
                client_encoding="UTF8",
                prepare_threshold=None,
            )
        except psycopg.Error as error:
            text = str(error)
            if "too many clients" in text or "remaining connection slots" in text:
                raise ResourceError(
                    f"the server takes no more connections: {text}",
                    hint="close other sessions, or raise max_connections",
                ) from error
            raise translate(error) from error
        made.plain = _plain(made)
        if self.read_only:
            made.execute("SET default_transaction_read_only = on")
        return made

    # -- stopping ----------------------------------------------------------------------------------

    def cancel(self, connection: Connection) -> None:
        """Ask the server to stop what runs on a connection."""
        with contextlib.suppress(psycopg.Error):
            connection.cancel_safe(timeout=10)

    def interrupt(self) -> None:
        """Stop what runs on any connection."""
        for connection in list(self._busy.values()):
            self.cancel(connection)

    def close(self) -> None:
        """Close all connections; twice is allowed."""
        if self._closed:
            return
        self._closed = True
        self.interrupt()
        with self._changed:
            while self._idle:
                self._idle.pop().close()
        self._main.close()


def _set(connection: Connection, settings: list[tuple[str, str]]) -> None:
    """Repeat what the session has set."""
    for name, value in settings:
        connection.execute("SELECT set_config(%s, %s, false)", [name, value])


def _plain(connection: Connection) -> bool:
    """Whether nothing between us and the server is encrypted."""
    wire = connection.pgconn
    if wire.ssl_in_use or wire.used_gssapi:
        return False
    if wire.host.startswith(b"/"):
        return True
    query = "SELECT encrypted FROM pg_catalog.pg_stat_gssapi WHERE pid = pg_backend_pid()"
    return connection.execute(query, prepare=False).fetchall() == [(False,)]


def _usable(connection: Connection) -> bool:
    """Whether the server is still there, as far as the socket tells without asking it."""
    if connection.closed or connection.broken or connection.copying:
        return False
    status = connection.pgconn.transaction_status
    if status != pq.TransactionStatus.IDLE:
        return status != pq.TransactionStatus.UNKNOWN
    try:  # what a server says when it ends comes before the end itself
        for _ in range(3):
            if not select.select([connection.pgconn.socket], [], [], 0)[0]:
                break
            connection.pgconn.consume_input()
    except (OSError, ValueError, psycopg.Error):
        return False
    return connection.pgconn.status == pq.ConnStatus.OK
