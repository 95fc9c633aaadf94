"""What DuckDB knows about its tables without reading them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from gradbase.engines.base import quote_identifier
from gradbase.engines.duckdb.promises import promises
from gradbase.errors import GradbaseError
from gradbase.ir.facts import ColumnStatistics, Promises, TableStatistics

if TYPE_CHECKING:
    from gradbase.engines.duckdb.engine import DuckDBEngine

_LONGEST = 64
"""Longer minima and maxima are not worth keeping."""


class DuckDBStatistics:
    """Estimates from EXPLAIN (tables, views, Parquet files alike) and the storage's own."""

    def __init__(self, engine: DuckDBEngine) -> None:
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
            self._columns[key] = _Columns(self._engine, table)
        return TableStatistics(rows, self._columns[key])

    def query_rows(self, sql: str) -> int | None:
        """The optimiser's estimate for the topmost operator that has one."""
        engine = self._engine
        try:
            unknown = dict.fromkeys(engine.parameter_names(sql))
            explained = engine.fetch(f"EXPLAIN (FORMAT json) {sql}", unknown)
        except GradbaseError:
            return None
        return _cardinality(json.loads(explained.column(1)[0].as_py()))

    def promises(self, table: str, columns: tuple[str, ...] = ()) -> Promises | None:
        """Declared constraints and the storage's bounds; None for views and files."""
        return promises(self._engine, table, columns)


class _Columns(Mapping[str, ColumnStatistics]):
    """Statistics per column, looked up at the first use."""

    def __init__(self, engine: DuckDBEngine, table: str) -> None:
        self._engine, self._table = engine, table
        self._found: dict[str, ColumnStatistics] | None = None

    def _all(self) -> dict[str, ColumnStatistics]:
        if self._found is None:
            self._found = _stored(self._engine, self._table)
        return self._found

    def __getitem__(self, name: str) -> ColumnStatistics:
        return self._all()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._all())

    def __len__(self) -> int:
        return len(self._all())


def _stored(engine: DuckDBEngine, table: str) -> dict[str, ColumnStatistics]:
    try:
        names = [name for name, _ in engine.types(f"SELECT * FROM {table}")]
        calls = ", ".join(f"TRY_CAST(stats({quote_identifier(n)}) AS JSON)" for n in names)
        # One row is enough: `stats` answers for the whole column, and only on a stored table.
        found = engine.fetch(f"SELECT {calls} FROM {table} LIMIT 1")
    except GradbaseError:
        return {}
    texts = (column[0].as_py() for column in found.columns) if found.num_rows else ()
    return {name: _column(json.loads(t)) for name, t in zip(names, texts, strict=False) if t}


def _column(stats: Mapping[str, Any]) -> ColumnStatistics:
    low, high = (_short(stats.get(end)) for end in ("min", "max"))
    return ColumnStatistics(stats.get("approx_unique"), minimum=low, maximum=high)


def _short(value: object) -> object:
    return None if isinstance(value, str) and len(value) > _LONGEST else value


def _cardinality(plan: list[dict[str, Any]]) -> int | None:
    level = plan
    while level:
        for operator in level:
            estimate = operator.get("extra_info", {}).get("Estimated Cardinality")
            if estimate is not None:
                return int(estimate)
        level = [child for operator in level for child in operator.get("children", [])]
    return None
