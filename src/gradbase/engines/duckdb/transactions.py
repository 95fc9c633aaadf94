"""Statements of DuckDB's that happen together or not at all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import duckdb
import pyarrow as pa

from gradbase.engines.base import Parameters
from gradbase.engines.duckdb.errors import translated
from gradbase.engines.duckdb.queries import given
from gradbase.engines.duckdb.streaming import furnished


class DuckDBTransaction:
    """Statements that happen together or not at all."""

    def __init__(self, cursor: duckdb.DuckDBPyConnection) -> None:
        self._cursor = cursor
        self._rows: list[tuple[Any, ...]] = []

    def execute(
        self,
        sql: str,
        parameters: Parameters = None,
        *,
        views: Mapping[str, pa.Table] | None = None,
    ) -> DuckDBTransaction:
        """Run a statement, which may read `views`; its rows wait for `fetchall`."""
        with furnished(self._cursor, views or {}, ()), translated():
            self._cursor.execute(sql, given(parameters))
            self._rows = self._cursor.fetchall()
        return self

    def fetchall(self) -> list[tuple[Any, ...]]:
        """Rows of the last statement, once."""
        rows, self._rows = self._rows, []
        return rows
