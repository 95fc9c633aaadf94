"""Statements of DuckDB's that happen together or not at all."""

from __future__ import annotations

from typing import Any

import duckdb
import pyarrow as pa

from gradbase.engines.base import Parameters, quote_identifier
from gradbase.engines.duckdb import queries
from gradbase.engines.duckdb.errors import translated
from gradbase.engines.duckdb.queries import given
from gradbase.engines.duckdb.streaming import furnished

_ROWS = "__gradbase_rows"


class DuckDBTransaction:
    """Statements that happen together or not at all."""

    def __init__(self, cursor: duckdb.DuckDBPyConnection) -> None:
        self._cursor = cursor
        self._rows: list[tuple[Any, ...]] = []

    def execute(self, sql: str, parameters: Parameters = None) -> DuckDBTransaction:
        """Run a statement; its rows wait for `fetchall`."""
        with translated():
            self._cursor.execute(sql, given(parameters))
            self._rows = self._cursor.fetchall()
        return self

    def insert(self, table: str, rows: pa.Table) -> None:
        """Add rows to a table; `table` is quoted already, columns go by name."""
        names = ", ".join(quote_identifier(n) for n in rows.column_names)
        with furnished(self._cursor, {_ROWS: rows}, ()), translated():
            self._cursor.execute(f"INSERT INTO {table} ({names}) SELECT * FROM {_ROWS}")

    def create(self, table: str, rows: pa.Table) -> None:
        """Make a table of rows; `table` is quoted already."""
        with furnished(self._cursor, {_ROWS: rows}, ()), translated():
            self._cursor.execute(f"CREATE TABLE {table} AS SELECT * FROM {_ROWS}")

    def table(self, table: str) -> pa.Table:
        """All rows of a table, whose name is quoted already."""
        with translated():
            return queries.table(self._cursor, f"SELECT * FROM {table}", None)

    def fetchall(self) -> list[tuple[Any, ...]]:
        """Rows of the last statement, once."""
        rows, self._rows = self._rows, []
        return rows
