"""What a statement of PostgreSQL's own returned."""

from __future__ import annotations

import datetime as dt
import json
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from gradbase.engines.base import Parameters
from gradbase.engines.postgres.connections import Connection
from gradbase.engines.postgres.decoding import schema_of
from gradbase.engines.postgres.reading import Running
from gradbase.engines.postgres.transactions import execute
from gradbase.engines.postgres.types import Catalogue, Described
from gradbase.engines.results import NativeCount, NativeRows, Types
from gradbase.engines.rows import Row

if TYPE_CHECKING:
    from gradbase.engines.postgres.engine import PostgresEngine


class PostgresRows(NativeRows):
    """Rows of a statement that has run on the main connection, as the driver makes them."""

    def __init__(self, columns: list[Described], rows: list[Row]) -> None:
        super().__init__([(c.name, c.type) for c in columns], None)
        self._described, self._rows = columns, rows

    def arrow(self) -> pa.Table:
        """All rows as an Arrow table."""
        if self._table is None:
            self._table = arrow_of_rows(self._described, self._rows)
        return self._table

    def fetchall(self) -> list[Row]:
        """All rows as the driver's Python values."""
        return self._rows.copy()


class PostgresQuery(NativeRows):
    """Rows of a query, computed when they are first asked for and then kept."""

    def __init__(
        self, engine: PostgresEngine, sql: str, parameters: Parameters, types: Types
    ) -> None:
        super().__init__(types, None)
        self._engine, self._sql, self._parameters = engine, sql, parameters
        self._rows: list[Row] | None = None
        self._running = engine.running()
        self._lock = threading.Lock()

    def arrow(self) -> pa.Table:
        """All rows as an Arrow table."""
        with self._lock:
            if self._table is None:
                running: Running = self._running
                self._table = self._engine.fetch(self._sql, self._parameters, running=running)
            return self._table

    def fetchall(self) -> list[Row]:
        """All rows as the driver's Python values."""
        with self._lock:
            if self._rows is None:
                self._rows = self._engine.rows(self._sql, self._parameters, self._running)
            return self._rows.copy()

    def stream(self, batch_rows: int = 0) -> AbstractContextManager[pa.RecordBatchReader]:
        """The rows batch by batch; nothing is kept."""
        if self._table is not None:
            return super().stream(batch_rows)
        return self._engine.stream(
            self._sql, self._parameters, batch_rows=batch_rows, running=self._running
        )

    def cancel(self) -> None:
        """Stop the query, from any thread; its reader gets a CancelledError."""
        self._running.stop()


def run_now(
    connection: Connection, sql: str, parameters: Parameters, types: Catalogue
) -> PostgresRows | NativeCount:
    """Run a statement of any kind; `types` learns what it does not know."""
    cursor = execute(connection, sql, parameters)
    if cursor.description is None:
        counted = (cursor.statusmessage or "").rpartition(" ")[2].isdigit()
        return NativeCount([(cursor.rowcount,)] if counted else [])
    described = [(c.name, c.type_code, -1) for c in cursor.description]
    rows = cursor.fetchall()
    result = cursor.pgresult
    assert result is not None
    modifiers = [result.fmod(i) for i in range(result.nfields)]
    missing = types.missing({oid for _, oid, _ in described})
    if missing:
        types.ask(connection, missing)
    columns = [
        types.described(n, oid, modifier)
        for (n, oid, _), modifier in zip(described, modifiers, strict=True)
    ]
    return PostgresRows(columns, rows)


def arrow_of_rows(columns: list[Described], rows: list[Row]) -> pa.Table:
    """The driver's rows as an Arrow table."""
    schema = schema_of(columns)
    values = list(zip(*rows, strict=True)) if rows else [() for _ in columns]
    arrays = [
        pa.array([None if v is None else _maker(field.type)(v) for v in column], field.type)
        for column, field in zip(values, schema, strict=True)
    ]
    return pa.Table.from_arrays(arrays, schema=schema)


def _maker(of: pa.DataType) -> Callable[[Any], Any]:
    if pa.types.is_string(of):
        return _text
    if pa.types.is_floating(of):
        return float
    if pa.types.is_interval(of):
        return _interval
    if pa.types.is_list(of) or pa.types.is_fixed_size_list(of):
        inner = _maker(of.value_type)
        return lambda items: [None if v is None else inner(v) for v in _items(items)]
    return _plain


def _plain(value: Any) -> Any:
    return value


def _items(found: Any) -> Any:
    """Elements of an array; pgvector comes as text."""
    return json.loads(found) if isinstance(found, str) else found


def _text(value: Any) -> str:
    if isinstance(value, dict | list):
        return json.dumps(value, ensure_ascii=False)
    return f"{value:f}" if isinstance(value, Decimal) else str(value)


def _interval(value: dt.timedelta) -> pa.MonthDayNano:
    nanoseconds = (value.seconds * 1_000_000 + value.microseconds) * 1000
    return pa.MonthDayNano([0, value.days, nanoseconds])
