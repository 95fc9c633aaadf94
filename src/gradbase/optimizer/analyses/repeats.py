"""How many rows of a prediction's input differ."""

from __future__ import annotations

from gradbase.ir.learning import Predict
from gradbase.ir.types import SqlType
from gradbase.optimizer.analyses.proofs import Source, source
from gradbase.optimizer.context import Context
from gradbase.optimizer.selectivity import column_statistics

SEEN_ROWS = 32_768
"""Rows that are looked at together."""
_VALUE_S, _ROW_S = 1.2e-8, 2e-8
"""Finding out which rows are equal: a value, a row (32,768 rows of 4 to 16 floats on an EPYC)."""


def distinct_share(n: Predict, context: Context) -> float:
    """The expected part of a batch's rows that differ from all others before them; 1: unknown."""
    rows = max(context.estimates[n.child].rows, 1.0)
    kinds = min(_combinations(n, context), rows)
    seen = min(rows, SEEN_ROWS)
    return min(1.0, kinds * (1.0 - (1.0 - 1.0 / kinds) ** seen) / seen) if kinds > 1 else 1 / seen


def finding_seconds(n: Predict) -> float:
    """Comparing one row with those of its batch."""
    return len(n.features) * _VALUE_S + _ROW_S


def is_comparable(of: SqlType) -> bool:
    """Whether values are told apart quickly."""
    return of.is_numeric or of.is_text or of.kind in ("bool", "date", "timestamp", "timestamptz")


def once_text(n: Predict, context: Context) -> str:
    """For EXPLAIN."""
    return f"rows equal in all features once: about {distinct_share(n, context):.1%} of a batch"


def _combinations(n: Predict, context: Context) -> float:
    """At most as many as there are combinations of values, and rows of the tables they are in."""
    tables: dict[object, float] = {}
    limits: dict[object, float] = {}
    for name in n.features:
        known = column_statistics(n.child, name, context)
        found = source(n.child, name)
        if known is None or not known.distinct or found is None:
            return context.estimates[n.child].rows
        values = known.distinct + (known.null_fraction > 0 or found.filled_up)
        tables[found.scan] = tables.get(found.scan, 1.0) * values
        limits[found.scan] = _rows(found, context)
    product = 1.0
    for scan, combinations in tables.items():
        product *= min(combinations, limits[scan])
    return product


def _rows(found: Source, context: Context) -> float:
    known = context.statistics.table(found.scan.table)
    return float(known.rows) + 1 if known is not None else float("inf")
