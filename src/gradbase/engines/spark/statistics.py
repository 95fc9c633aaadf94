"""What Spark knows about its tables without reading them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from gradbase.engines.spark.errors import translated
from gradbase.errors import GradbaseError
from gradbase.ir.facts import Promises, TableStatistics

if TYPE_CHECKING:
    from gradbase.engines.spark.engine import SparkEngine

_ROWS = re.compile(r"rowCount=([\d.E+]+)")
_SIZE = re.compile(r"sizeInBytes=([\d.E+]+) (\w+)")
_UNITS = {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40, "PiB": 2**50}
_UNKNOWN = 2**60
"""Bytes from which on an estimate only says that nothing is known."""


class SparkStatistics:
    """Estimates of Spark's optimiser: counted rows, else from the bytes of files."""

    def __init__(self, engine: SparkEngine) -> None:
        self._engine = engine

    def table(self, table: str) -> TableStatistics | None:
        """Rows now; None where there is no such table."""
        rows = self.query_rows(f"SELECT * FROM {table}")
        return None if rows is None else TableStatistics(rows)

    def promises(self, table: str, columns: tuple[str, ...] = ()) -> Promises | None:  # noqa: ARG002
        """None: Spark checks no keys."""
        return None

    def query_rows(self, sql: str) -> int | None:
        """The optimiser's estimate for the whole query."""
        try:
            frame = self._engine.frame(sql, None, missing_is_null=True)
            rows, size_bytes = estimate(frame)
            if rows is not None:
                return rows
            width = self._engine.schema(sql).row_bytes
        except GradbaseError:
            return None
        return None if size_bytes is None else max(1, size_bytes // max(1, width))


def estimate(frame: Any) -> tuple[int | None, int | None]:
    """(rows, bytes) that Spark's optimiser expects of a frame, None where it does not know."""
    with translated():
        said = frame._jdf.queryExecution().optimizedPlan().stats().simpleString()  # noqa: SLF001
    rows, size = _ROWS.search(said), _SIZE.search(said)
    size_bytes = int(float(size[1]) * _UNITS.get(size[2], _UNKNOWN)) if size else _UNKNOWN
    return (
        int(float(rows[1])) if rows else None,
        size_bytes if size_bytes < _UNKNOWN else None,
    )
