"""Rows that a statement sees as views, for engines that must have them whole."""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa

from gradbase.engines.base import RowStream, View


def drained(views: Mapping[str, View]) -> Mapping[str, View]:
    """Views as tables, for the main connection.

    Whoever makes a stream may itself wait for that connection, which is locked while a statement
    runs on it.
    """
    return {n: v if isinstance(v, pa.Table) else _table(v) for n, v in views.items()}


def _table(rows: pa.RecordBatchReader | RowStream) -> pa.Table:
    try:
        return pa.Table.from_batches(list(rows), schema=rows.schema)
    finally:
        rows.close()
