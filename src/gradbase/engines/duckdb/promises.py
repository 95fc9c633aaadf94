"""What DuckDB guarantees of the rows of a table: declared constraints, and bounds of its storage.

Constraints are checked at every statement. Minima, maxima and whether a column holds NULL are kept
with every write, those of a transaction that is not committed included; after a delete they may be
too wide, never too narrow. Of a table with a collation nothing is said: texts that differ may be
equal there.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from gradbase.engines.base import quote_identifier
from gradbase.errors import EngineError
from gradbase.ir.facts import Promises, Reference

if TYPE_CHECKING:
    from gradbase.engines.duckdb.engine import DuckDBEngine

_PART = r'"(?:[^"]|"")+"|\w+'
_NAME = re.compile(rf"(?:({_PART})\.)?(?:({_PART})\.)?({_PART})")
_ENTRIES = """
SELECT database_name, schema_name, table_name, coalesce(
  sql NOT ILIKE '%collate%' AND current_setting('default_collation') = '', false
) AS plain FROM duckdb_tables() WHERE lower(table_name) = lower($name)
UNION ALL SELECT database_name, schema_name, view_name, false FROM duckdb_views()
WHERE lower(view_name) = lower($name)
"""
_CONSTRAINTS = """
SELECT constraint_type, constraint_column_names, referenced_table, referenced_column_names
FROM duckdb_constraints()
WHERE database_name = $database AND schema_name = $schema AND table_name = $name
"""
_UNIQUE = ("PRIMARY KEY", "UNIQUE")
_STEPS, _LARGEST = 4, 1000
"""Digits that bounds are rounded to; exponent beyond which that may overflow."""

Entry = tuple[str, str, str]


def promises(engine: DuckDBEngine, table: str, columns: tuple[str, ...]) -> Promises | None:
    """What is sure of the table called `table`; None for what is none, or may be another one."""
    entry = _entry(engine, table)
    if entry is None:
        return None
    names: dict[str, str] = dict(zip(("database", "schema", "name"), entry, strict=True))
    unique: set[frozenset[str]] = set()
    references: set[Reference] = set()
    filled: set[str] = set()
    for kind, own, other, others in _rows(engine, _CONSTRAINTS, names):
        if kind in _UNIQUE:
            unique.add(frozenset(own))
        if kind in ("PRIMARY KEY", "NOT NULL"):
            filled.update(own)
        if kind == "FOREIGN KEY" and other:
            found = _entry(engine, quote_identifier(other), entry[0])
            if found is not None:
                references.add(Reference(tuple(own), ".".join(found), tuple(others)))
    never_null, ranges = _stored(engine, table, columns)
    kept = frozenset(filled.intersection(columns) | never_null)
    return Promises(".".join(entry), frozenset(unique), frozenset(references), kept, ranges)


def _entry(engine: DuckDBEngine, table: str, database: str = "") -> Entry | None:
    """Database, schema and name of a table; None where several things have the name.

    None too of a table whose texts have a collation.
    """
    parsed = _NAME.fullmatch(table)
    if parsed is None:
        return None
    parts = [p[1:-1].replace('""', '"') if p and p[0] == '"' else p for p in parsed.groups()]
    before = {p.lower() for p in (*parts[:2], database) if p}
    rows = _rows(engine, _ENTRIES, {"name": parts[2]})
    found = [r for r in rows if before <= {r[0].lower(), r[1].lower()}]
    if len(found) != 1 or not found[0][3]:
        return None
    return found[0][:3]


def _stored(
    engine: DuckDBEngine, table: str, columns: tuple[str, ...]
) -> tuple[frozenset[str], dict[str, tuple[float, float]]]:
    """Columns that hold no NULL, and the ranges of finite numbers, as the storage's bounds say."""
    if not columns:
        return frozenset(), {}
    calls = ", ".join(
        f"CAST(TRY_CAST(stats({quote_identifier(c)}) AS JSON) AS TEXT)" for c in columns
    )
    rows = _rows(engine, f"SELECT {calls} FROM {table} LIMIT 1")
    known = {c: json.loads(t) for c, t in zip(columns, rows[0] if rows else (), strict=False) if t}
    full = frozenset(c for c, s in known.items() if s.get("has_null") is False)
    ranges = {c: _range(s.get("min"), s.get("max")) for c, s in known.items()}
    return full, {c: r for c, r in ranges.items() if r is not None}


def _range(low: object, high: object) -> tuple[float, float] | None:
    """From `low` to `high`, a little more; None: these are no finite numbers.

    A plan is made anew where a promise changes, which not every row that is added should do.
    """
    numbers = [
        float(e) for e in (low, high) if isinstance(e, int | float) and not isinstance(e, bool)
    ]
    if len(numbers) < 2 or not all(math.isfinite(e) for e in numbers):
        return None
    return -_above(-numbers[0]), _above(numbers[1])


def _above(number: float) -> float:
    """The next number of `_STEPS` significant binary digits, towards positive infinity."""
    mantissa, exponent = math.frexp(number)
    if exponent > _LARGEST:
        return number
    return math.ldexp(math.ceil(math.ldexp(mantissa, _STEPS)), exponent - _STEPS)


def _rows(
    engine: DuckDBEngine, sql: str, parameters: Mapping[str, str] | None = None
) -> list[tuple[Any, ...]]:
    try:
        found = engine.fetch(sql, parameters)
    except EngineError:
        return []
    return [tuple(row.values()) for row in found.to_pylist()]
