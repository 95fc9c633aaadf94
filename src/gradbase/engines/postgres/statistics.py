"""What PostgreSQL knows about its tables without reading them."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from gradbase.engines.postgres.promises import promises
from gradbase.errors import GradbaseError
from gradbase.ir.facts import ColumnStatistics, Promises, TableStatistics

if TYPE_CHECKING:
    from gradbase.engines.postgres.engine import PostgresEngine

_COLUMNS = """
SELECT s.attname, s.null_frac, s.n_distinct,
 (s.histogram_bounds::text::text[])[1] AS low,
 (s.histogram_bounds::text::text[])[array_length(s.histogram_bounds::text::text[], 1)] AS high
FROM pg_catalog.pg_stats s
JOIN pg_catalog.pg_namespace n ON n.nspname = s.schemaname
JOIN pg_catalog.pg_class c ON c.relname = s.tablename AND c.relnamespace = n.oid
WHERE c.oid = to_regclass($table)
"""


class PostgresStatistics:
    """Estimates of the planner (tables, views, queries alike), and of ANALYZE for columns."""

    def __init__(self, engine: PostgresEngine) -> None:
        self._engine = engine
        self._columns: dict[tuple[str, int], Mapping[str, ColumnStatistics]] = {}

    def table(self, table: str) -> TableStatistics | None:
        """Rows now; columns are looked up when they are first asked for, and kept per table."""
        rows = self.query_rows(f"SELECT * FROM {table}")
        if rows is None:
            return None
        # The number of rows tells most changes of a table from its earlier state.
        key = (table, rows)
        if key not in self._columns:
            self._columns[key] = _Columns(self._engine, table, rows)
        return TableStatistics(rows, self._columns[key])

    def query_rows(self, sql: str) -> int | None:
        """The planner's estimate."""
        try:
            found = self._engine.explained(sql)
        except GradbaseError:
            return None
        return int(found[0]["Plan"]["Plan Rows"])

    def promises(self, table: str, columns: tuple[str, ...] = ()) -> Promises | None:
        """Declared constraints; None for views."""
        return promises(self._engine, table, columns)


class _Columns(Mapping[str, ColumnStatistics]):
    """Statistics per column, looked up at the first use."""

    def __init__(self, engine: PostgresEngine, table: str, rows: int) -> None:
        self._engine, self._table, self._rows = engine, table, rows
        self._found: dict[str, ColumnStatistics] | None = None

    def _all(self) -> dict[str, ColumnStatistics]:
        if self._found is None:
            self._found = {}
            with contextlib.suppress(GradbaseError):
                rows = self._engine.rows(_COLUMNS, {"table": self._table}, None)
                self._found = {row[0]: _column(row, self._rows) for row in rows}
        return self._found

    def __getitem__(self, name: str) -> ColumnStatistics:
        return self._all()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._all())

    def __len__(self) -> int:
        return len(self._all())


def _column(row: tuple[Any, ...], rows: int) -> ColumnStatistics:
    """A negative number of distinct values is a share of the rows."""
    _, nulls, distinct, low, high = row
    known = None if not distinct else int(distinct if distinct > 0 else -distinct * rows)
    return ColumnStatistics(known, float(nulls or 0.0), _number(low), _number(high))


def _number(text: str | None) -> object:
    """Bounds are kept of numbers only."""
    with contextlib.suppress(TypeError, ValueError):
        return float(json.loads(text or "null"))
    return None
