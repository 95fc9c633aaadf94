"""Where a statement runs, for as long as it runs."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Generator
from types import TracebackType
from typing import TYPE_CHECKING

import duckdb

from gradbase.engines.base import Parameters
from gradbase.engines.duckdb.errors import translate

if TYPE_CHECKING:
    from gradbase.engines.duckdb.connections import Connections


class Running:
    """The connections on which one statement runs now, so that it can be stopped and no other."""

    __slots__ = ("_lock", "_on")

    def __init__(self) -> None:
        self._on: list[duckdb.DuckDBPyConnection] = []
        self._lock = threading.Lock()

    def begin(self, connection: duckdb.DuckDBPyConnection) -> None:
        """The statement is about to run on `connection`."""
        self._on.append(connection)

    def end(self, connection: duckdb.DuckDBPyConnection) -> None:
        """It has ended there."""
        with self._lock:  # whoever stops it is done before another statement may come
            self._on.remove(connection)

    def stop(self) -> None:
        """Stop the statement wherever it runs; nothing where it does not."""
        with self._lock:
            for connection in self._on:
                connection.interrupt()


class Using:
    """The connection that sees what a query reads; the main one is locked.

    A class and not a generator, for it is entered for every statement and must cost little.

    Parameters
    ----------
    connections : Connections
    sql : str
    parameters : mapping or sequence, optional
    running : Running, optional
        Is told of it.
    """

    __slots__ = ("_connections", "_is_main", "_running", "_what", "connection")

    def __init__(
        self,
        connections: Connections,
        sql: str,
        parameters: Parameters,
        running: Running | None = None,
    ) -> None:
        self._connections, self._what, self._running = connections, (sql, parameters), running
        self._is_main = False

    def __enter__(self) -> duckdb.DuckDBPyConnection:
        home = self._connections
        self._is_main = home.needs_main(*self._what)
        if self._is_main:
            home.main_lock.acquire()
            self.connection = home.main
        else:
            self.connection = home.take(self._what[0])
        if self._running is not None:
            self._running.begin(self.connection)
        return self.connection

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._running is not None:
            self._running.end(self.connection)
        if self._is_main:
            self._connections.main_lock.release()
        else:
            self._connections.give_back(self.connection, fine=error is None)
        if isinstance(error, duckdb.Error):
            raise translate(error) from error


@contextlib.contextmanager
def told(running: Running | None, connection: duckdb.DuckDBPyConnection) -> Generator[None]:
    """Tell `running` where its statement runs, as long as the block lasts."""
    running = running or Running()
    running.begin(connection)
    try:
        yield
    finally:
        running.end(connection)
