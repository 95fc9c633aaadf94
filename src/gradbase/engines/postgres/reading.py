"""Rows of a query on one connection: as the server describes them, and as Arrow through COPY."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Generator
from typing import Any

import psycopg
import pyarrow as pa
from psycopg import pq

from gradbase.engines.postgres.batches import Batch
from gradbase.engines.postgres.connections import Connection, Connections
from gradbase.engines.postgres.decoding import schema_of
from gradbase.engines.postgres.errors import translated
from gradbase.engines.postgres.types import Catalogue, Described
from gradbase.engines.postgres.wire import Copy, copy_of
from gradbase.engines.results import BATCH_ROWS

_WHOLE = 1 << 16
"""Rows per batch where all of them are kept: few batches are cheaper to go through later."""
_MOST = 1 << 26
"""Bytes of rows after which a batch ends, however few they are."""


class Running:
    """The connections on which one statement runs now, so that it can be stopped and no other."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self._on: list[Connection] = []
        self._lock = threading.Lock()

    def begin(self, connection: Connection) -> None:
        """The statement is about to run on `connection`."""
        self._on.append(connection)

    def end(self, connection: Connection) -> None:
        """It has ended there."""
        with self._lock:  # whoever stops it is done before another statement may come
            self._on.remove(connection)

    def stop(self) -> None:
        """Stop the statement wherever it runs; nothing where it does not."""
        with self._lock:
            for connection in self._on:
                self._connections.cancel(connection)


def describe(connection: Connection, sql: str, known: Catalogue) -> list[Described]:
    """Columns of a query; nothing is executed. A statement without rows has none."""
    wire = connection.pgconn
    encoding = connection.info.encoding
    _checked(wire.prepare(b"", sql.encode(encoding)), encoding)
    found = wire.describe_prepared(b"")
    _checked(found, encoding)
    columns = [
        ((found.fname(i) or b"").decode(encoding), found.ftype(i), found.fmod(i))
        for i in range(found.nfields)
    ]
    missing = known.missing({oid for _, oid, _ in columns})
    if missing:
        known.ask(connection, missing)
    return [known.described(*column) for column in columns]


def _checked(result: Any, encoding: str) -> None:
    if result.status == pq.ExecStatus.FATAL_ERROR:
        raise psycopg.errors.error_from_result(result, encoding=encoding)


def copied(
    connection: Connection, sql: str, columns: list[Described], batch_rows: int
) -> Generator[pa.RecordBatch]:
    """The rows of a query; leaving early stops it.

    The connection is busy until then, and is usable again afterwards.
    """
    copy = copy_of(connection)
    connection.copying = True
    try:
        copy.begin(_copy(sql, columns, connection.info.encoding))
        batch = Batch(columns, batch_rows)
        while (rows := copy.take(batch_rows - batch.rows)) is not None:
            batch.add(rows)
            if batch.rows == batch_rows or batch.held_bytes > _MOST:
                yield batch.made()
                batch = Batch(columns, batch_rows)
        if batch.rows:
            yield batch.made()
    finally:
        if not copy.ended:
            _abandon(connection, copy)
        connection.copying = not copy.ended
        copy.close()


def _copy(sql: str, columns: list[Described], encoding: str) -> bytes:
    if any(c.cast for c in columns):
        names = [f"c{i}" for i in range(len(columns))]
        items = ", ".join(
            f"{n}::text" if c.cast else n for n, c in zip(names, columns, strict=True)
        )
        sql = f"SELECT {items} FROM (\n{sql}\n) AS q({', '.join(names)})"
    # The text may end in a comment: the parenthesis stands on a line of its own.
    return f"COPY (\n{sql}\n) TO STDOUT (FORMAT binary)".encode(encoding)


def _abandon(connection: Connection, copy: Copy) -> None:
    """Stop a copy in the middle; where that fails the connection is given up."""
    try:
        connection.cancel_safe(timeout=10)
        while copy.take(BATCH_ROWS) is not None:
            pass
    except (psycopg.Error, OSError):
        if not copy.ended:
            connection.close()


def table_of(connection: Connection, sql: str, columns: list[Described]) -> pa.Table:
    """All rows of a query."""
    batches = list(copied(connection, sql, columns, _WHOLE))
    return pa.Table.from_batches(batches, schema=schema_of(columns))


@contextlib.contextmanager
def streamed(
    connection: Connection, sql: str, columns: list[Described], batch_rows: int
) -> Generator[pa.RecordBatchReader]:
    """The rows of a query as a reader with translated errors; the query ends with the block."""

    def batches() -> Generator[pa.RecordBatch]:
        with translated():
            yield from copied(connection, sql, columns, batch_rows)

    rows = batches()
    try:
        yield pa.RecordBatchReader.from_batches(schema_of(columns), rows)
    finally:
        with contextlib.suppress(ValueError):  # another thread is reading: its connection is closed
            rows.close()
