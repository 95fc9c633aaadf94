"""Rows of a query on one connection: as the server describes them, and as Arrow through COPY."""

from __future__ import annotations

import select
import threading
from collections.abc import Generator, Iterator
from typing import Any

import psycopg
import pyarrow as pa
from psycopg import pq

from gradbase.engines.postgres.connections import Connection, Connections
from gradbase.engines.postgres.decoding import batch_of, schema_of, without_head
from gradbase.engines.postgres.errors import translated
from gradbase.engines.postgres.types import Catalogue, Described
from gradbase.engines.results import BATCH_ROWS

_END = b"\xff\xff"
_PATIENCE_S = 1.0


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
    wire = connection.pgconn
    ended = False
    try:
        _start(wire, _copy(sql, columns), connection.info.encoding)
        for rows in _rows(wire, batch_rows):
            yield batch_of(rows, columns)
        ended = True
        _finish(wire, connection.info.encoding)
    finally:
        if not ended:
            _abandon(connection)


def _copy(sql: str, columns: list[Described]) -> bytes:
    if any(c.cast for c in columns):
        names = [f"c{i}" for i in range(len(columns))]
        items = ", ".join(
            f"{n}::text" if c.cast else n for n, c in zip(names, columns, strict=True)
        )
        sql = f"SELECT {items} FROM (\n{sql}\n) AS q({', '.join(names)})"
    # The text may end in a comment: the parenthesis stands on a line of its own.
    return f"COPY (\n{sql}\n) TO STDOUT (FORMAT binary)".encode()


def _start(wire: Any, statement: bytes, encoding: str) -> None:
    wire.send_query(statement)
    _flush(wire)
    result = _result(wire)
    if result is None or result.status != pq.ExecStatus.COPY_OUT:
        _drain(wire)
        if result is not None:
            _checked(result, encoding)
        raise psycopg.OperationalError("the server did not begin to copy")


def _flush(wire: Any) -> None:
    while wire.flush():
        select.select([], [wire.socket], [], _PATIENCE_S)


def _result(wire: Any) -> Any:
    """The next result, waited for without holding up other threads."""
    while wire.is_busy():
        _wait(wire)
        wire.consume_input()
    return wire.get_result()


def _wait(wire: Any) -> None:
    select.select([wire.socket], [], [], _PATIENCE_S)


def _rows(wire: Any, batch_rows: int, *, head: bool = True) -> Iterator[list[memoryview | bytes]]:
    """The messages of a copy, each a row, many at a time; the file's head and end are left out.

    A loop of few steps: it runs once for every row.
    """
    take = wire.get_copy_data
    rows: list[memoryview | bytes] = []
    left = batch_rows
    while True:
        size, message = take(1)
        if size > 2 or (size > 0 and bytes(message) != _END):
            rows.append(message)
            left -= 1
            if head:
                behind, head = without_head(bytes(message)), False
                rows = [] if behind in (b"", _END) else [behind]  # the end of a file without rows
            if not left:
                yield rows
                rows, left = [], batch_rows
        elif size == 0:
            _wait(wire)
            wire.consume_input()
        elif size < 0:
            break
    if rows:
        yield rows


def _finish(wire: Any, encoding: str) -> None:
    result = _result(wire)
    _drain(wire)
    if result is not None:
        _checked(result, encoding)


def _drain(wire: Any) -> None:
    while _result(wire) is not None:
        pass


def _abandon(connection: Connection) -> None:
    """Stop a copy in the middle; where that fails the connection is given up."""
    wire = connection.pgconn
    try:
        if wire.transaction_status == pq.TransactionStatus.ACTIVE:
            connection.cancel_safe(timeout=10)
            for _ in _rows(wire, BATCH_ROWS, head=False):
                pass
            _drain(wire)
    except (psycopg.Error, OSError):
        connection.close()


def table_of(connection: Connection, sql: str, columns: list[Described]) -> pa.Table:
    """All rows of a query."""
    batches = list(copied(connection, sql, columns, BATCH_ROWS))
    return pa.Table.from_batches(batches, schema=schema_of(columns))


def streamed(
    connection: Connection, sql: str, columns: list[Described], batch_rows: int
) -> pa.RecordBatchReader:
    """The rows of a query as a reader with translated errors."""

    def batches() -> Generator[pa.RecordBatch]:
        with translated():
            yield from copied(connection, sql, columns, batch_rows)

    return pa.RecordBatchReader.from_batches(schema_of(columns), batches())
