"""Rows that go in: temporary tables for one statement, or for as long as the session likes."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterable, Mapping
from typing import Any

import pyarrow as pa

from gradbase.engines.base import View, quote_identifier
from gradbase.engines.postgres.connections import Connection
from gradbase.engines.postgres.types import column_type, identifiers
from gradbase.engines.postgres.writing import csv_of

ANALYZED_ABOVE = 1000
"""Rows of a temporary table from which on the planner is told about them."""


@contextlib.contextmanager
def furnished(
    connection: Connection, views: Mapping[str, View], *, read_only: bool
) -> Generator[None]:
    """Give `connection` views as temporary tables, and take them away again.

    A view that fails while it is read ends the block with what it raised.
    """
    if not views:
        yield
        return
    with connection.transaction():
        if read_only:  # making a table is a write, even of a temporary one
            connection.execute("SET TRANSACTION READ WRITE")
        for name, view in views.items():
            _make(connection, name, view.schema)
        if read_only:
            connection.execute("SET TRANSACTION READ ONLY")
        for name, view in views.items():
            _take(connection, name, view)
        yield
        if not read_only:  # otherwise they go with the transaction
            for name in views:
                drop_table(connection, name)


def keep_rows(connection: Connection, name: str, rows: Any) -> None:
    """Make Arrow rows or a data frame a temporary table of the connection."""
    table = _table(rows)
    with connection.transaction():
        drop_table(connection, name)
        _make(connection, name, table.schema, kept=True)
        _take(connection, name, table)


def drop_table(connection: Connection, name: str) -> None:
    """Drop a temporary table, if there is one."""
    connection.execute(f"DROP TABLE IF EXISTS pg_temp.{quote_identifier(name)}".encode())


def fill(
    connection: Connection,
    table: str,
    schema: pa.Schema,
    batches: Iterable[pa.RecordBatch],
    *,
    frozen: bool = False,
) -> int:
    """Copy batches into a table, whose name is quoted already; returns the number of rows.

    `frozen`: into a table made by the same transaction, whose rows older snapshots are to see.
    """
    count = 0
    how = "FORMAT csv, FREEZE" if frozen else "FORMAT csv"
    statement = f"COPY {table} ({identifiers(schema.names)}) FROM STDIN ({how})"
    with connection.cursor() as cursor, cursor.copy(statement.encode()) as copy:
        for batch in batches:
            count += batch.num_rows
            copy.write(csv_of(batch))
    return count


def _make(connection: Connection, name: str, schema: pa.Schema, *, kept: bool = False) -> None:
    end = "" if kept else " ON COMMIT DROP"
    quoted = quote_identifier(name)
    connection.execute(f"CREATE TEMPORARY TABLE {quoted} ({made(schema)}){end}".encode())


def made(schema: pa.Schema) -> str:
    """Columns of a table that takes Arrow rows, as they are declared."""
    return ", ".join(f"{quote_identifier(f.name)} {column_type(f.type)}" for f in schema)


def _take(connection: Connection, name: str, view: View) -> None:
    quoted = f"pg_temp.{quote_identifier(name)}"
    try:
        rows = fill(connection, quoted, view.schema, _batches(view))
    finally:
        if not isinstance(view, pa.Table):
            view.close()
    if rows > ANALYZED_ABOVE:
        connection.execute(f"ANALYZE {quoted}".encode())


def _batches(view: View) -> Iterable[pa.RecordBatch]:
    rows: Any = view
    return rows.to_batches() if isinstance(view, pa.Table) else rows


def _table(rows: Any) -> pa.Table:
    if isinstance(rows, pa.Table):
        return rows
    if isinstance(rows, pa.RecordBatchReader):
        return rows.read_all()
    if hasattr(rows, "__arrow_c_stream__"):
        return pa.table(rows)
    return pa.Table.from_pandas(rows, preserve_index=False)
