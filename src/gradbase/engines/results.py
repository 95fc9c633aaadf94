"""What a statement of an engine's own returned, once it has run."""

from __future__ import annotations

import contextlib
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

import pyarrow as pa

from gradbase.engines.rows import Row, rows_of
from gradbase.ir.types import SqlType

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl

Types = list[tuple[str, SqlType]]
BATCH_ROWS = 8192
"""Rows per batch where nobody asks for another number; fits the caches (see benchmarks)."""


class NativeRows:
    """Rows of a statement that has run.

    Parameters
    ----------
    types : list of (str, SqlType)
    table : pa.Table
    """

    def __init__(self, types: Types, table: pa.Table | None) -> None:
        self._types, self._table = types, table

    @property
    def types(self) -> Types:
        """Names and types of the columns."""
        return self._types

    @property
    def columns(self) -> list[str]:
        """Column names."""
        return [name for name, _ in self.types]

    @property
    def changed(self) -> int | None:
        """Only a statement without rows counts what it changed."""
        return None

    def arrow(self) -> pa.Table:
        """All rows as an Arrow table."""
        assert self._table is not None
        return self._table

    def stream(self, batch_rows: int = 0) -> AbstractContextManager[pa.RecordBatchReader]:
        """The rows batch by batch."""
        return contextlib.nullcontext(self.arrow().to_reader(batch_rows or BATCH_ROWS))

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
        """Nothing runs any more."""


class NativeCount(NativeRows):
    """What a statement without rows returned.

    Parameters
    ----------
    rows : list of tuple
        The number of rows it changed; none where it does not count.
    """

    def __init__(self, rows: list[Row]) -> None:
        super().__init__([("Count", SqlType("int64"))] if rows else [], None)
        self._rows = rows

    @property
    def changed(self) -> int | None:
        """How many rows the statement changed."""
        return self._rows[0][0] if self._rows else None

    def arrow(self) -> pa.Table:
        """The number as an Arrow table."""
        columns = {name: pa.array([n for (n,) in self._rows], pa.int64()) for name in self.columns}
        return pa.table(columns)

    def fetchall(self) -> list[Row]:
        """The number in a tuple."""
        return self._rows.copy()
