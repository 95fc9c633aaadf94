"""What a statement of DuckDB's own returned."""

from __future__ import annotations

import threading
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

import pyarrow as pa

from gradbase.engines.base import Parameters
from gradbase.engines.duckdb.queries import Described, Parsed, Types
from gradbase.engines.duckdb.using import Running
from gradbase.engines.duckdb.values import plain_schema, table_of
from gradbase.engines.results import NativeRows
from gradbase.engines.rows import Row

if TYPE_CHECKING:
    from gradbase.engines.duckdb.engine import DuckDBEngine


class DuckDBQuery(NativeRows):
    """Rows of a query, computed when they are first asked for and then kept.

    Parameters
    ----------
    engine : DuckDBEngine
    sql : str
    parameters : mapping or sequence, optional
    parsed : Parsed
        What is known of the text.
    """

    def __init__(
        self, engine: DuckDBEngine, sql: str, parameters: Parameters, parsed: Parsed
    ) -> None:
        super().__init__([], None)
        self._engine, self._sql, self._parameters = engine, sql, parameters
        self._parsed = parsed
        self._rows: list[Row] | None = None
        self._described: Described = ()
        self._running = Running()
        self._lock = threading.Lock()

    @property
    def types(self) -> Types:
        """Names and types of the columns; nothing runs."""
        return self._engine.types(self._sql, self._parameters)

    @property
    def columns(self) -> list[str]:
        """Column names; nothing runs."""
        if self._table is not None:
            return self._table.column_names
        if self._rows is not None:
            return [column[0] for column in self._described]
        return super().columns

    def arrow(self) -> pa.Table:
        """All rows as an Arrow table."""
        with self._lock:
            if self._table is None:
                self._table = self._from_rows()
            if self._table is None:
                running = self._running
                self._table = self._engine.fetch(self._sql, self._parameters, running=running)
            return self._table

    def _from_rows(self) -> pa.Table | None:
        """The table of rows that are there; None where they say less than Arrow would."""
        if self._rows is None:
            return None
        schema = plain_schema((c[0], c[1]) for c in self._described)
        return None if schema is None else table_of(self._rows, schema)

    def fetchall(self) -> list[Row]:
        """All rows as tuples of Python values, made by DuckDB where they are plain."""
        with self._lock:
            if self._table is None and self._rows is None and self._parsed.plain:
                self._rows, self._described = self._engine.rows(
                    self._sql, self._parameters, self._parsed, self._running
                )
            if self._rows is not None:
                return self._rows.copy()
        return super().fetchall()

    def stream(self, batch_rows: int = 0) -> AbstractContextManager[pa.RecordBatchReader]:
        """The rows batch by batch; nothing is kept."""
        if self._table is not None or self._rows is not None:
            return super().stream(batch_rows)
        return self._engine.stream(
            self._sql, self._parameters, batch_rows=batch_rows, running=self._running
        )

    def cancel(self) -> None:
        """Stop the query, from any thread; its reader gets a CancelledError."""
        self._running.stop()
