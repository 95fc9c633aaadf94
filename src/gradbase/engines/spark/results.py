"""What a statement of Spark's own returned."""

from __future__ import annotations

import threading
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from gradbase.engines.rows import Row, rows_of
from gradbase.engines.spark import reading
from gradbase.engines.spark.types import from_spark
from gradbase.ir.types import SqlType

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl

    from gradbase.engines.spark.engine import SparkEngine


class SparkResult:
    """Rows of a frame: a query's are computed when they are first asked for and then kept.

    Parameters
    ----------
    engine : SparkEngine
    frame : pyspark.sql.DataFrame
    table : pa.Table, optional
        Its rows, where it has run.
    """

    def __init__(self, engine: SparkEngine, frame: Any, table: pa.Table | None = None) -> None:
        self._engine, self._frame, self._table = engine, frame, table
        self._tag = engine.new_tag()
        self._lock = threading.Lock()

    @property
    def types(self) -> list[tuple[str, SqlType]]:
        """Names and types of the columns; nothing runs."""
        return [(f.name, from_spark(f.dataType)) for f in self._frame.schema.fields]

    @property
    def columns(self) -> list[str]:
        """Column names; nothing runs."""
        return list(self._frame.columns)

    @property
    def changed(self) -> int | None:
        """Spark does not count what a statement changed."""
        return None

    def arrow(self) -> pa.Table:
        """All rows as an Arrow table."""
        with self._lock:
            if self._table is None:
                with self._engine.tagged(self._tag):
                    self._table = reading.whole(self._frame)
            return self._table

    def stream(self, batch_rows: int = 0) -> AbstractContextManager[pa.RecordBatchReader]:
        """The rows batch by batch; nothing is kept."""
        return self._engine.streaming(self._frame, batch_rows, self._tag)

    def df(self) -> pd.DataFrame:
        """All rows as a pandas DataFrame."""
        return self.arrow().to_pandas()

    def pl(self) -> pl.DataFrame:
        """All rows as a Polars DataFrame."""
        import polars as pl

        return pl.DataFrame(self.arrow())

    def fetchall(self) -> list[Row]:
        """All rows as tuples of Python values."""
        return rows_of(self.arrow())

    def cancel(self) -> None:
        """Stop this query, from any thread; its reader gets a CancelledError."""
        self._engine.stop(self._tag)
