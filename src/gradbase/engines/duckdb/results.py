"""What a statement of DuckDB's own returned."""

from __future__ import annotations

import contextlib
import threading
import uuid
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from gradbase.engines.duckdb.streaming import BATCH_ROWS
from gradbase.ir.types import SqlType

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl

Open = Callable[[int], AbstractContextManager[pa.RecordBatchReader]]

_PYTHON: dict[str, Callable[[Any], Any]] = {"int128": int, "uint128": int, "uuid": uuid.UUID}
"""Types whose Arrow form is not the Python value they stand for."""


class DuckDBResult:
    """Rows of one statement; those of a query are computed when they are first asked for.

    Parameters
    ----------
    types : list of (str, SqlType)
    open_stream : callable
        Starts the query with the given rows per batch.
    table : pa.Table, optional
        The rows, where the statement has run.
    """

    def __init__(
        self, types: list[tuple[str, SqlType]], open_stream: Open, table: pa.Table | None = None
    ) -> None:
        self.types, self._open, self._table = types, open_stream, table
        self._lock = threading.Lock()

    @property
    def columns(self) -> list[str]:
        """Column names."""
        return [name for name, _ in self.types]

    @contextlib.contextmanager
    def stream(self, batch_rows: int = 0) -> Generator[pa.RecordBatchReader]:
        """The rows batch by batch; nothing is kept."""
        if self._table is not None:
            yield self._table.to_reader(batch_rows or BATCH_ROWS)
            return
        with self._open(batch_rows) as reader:
            yield reader

    def arrow(self) -> pa.Table:
        """All rows as an Arrow table; kept."""
        with self._lock:
            if self._table is None:
                with self._open(0) as reader:
                    self._table = reader.read_all()
            return self._table

    def df(self) -> pd.DataFrame:
        """All rows as a pandas DataFrame."""
        return self.arrow().to_pandas()

    def pl(self) -> pl.DataFrame:
        """All rows as a Polars DataFrame."""
        import polars as pl

        return pl.DataFrame(self.arrow())

    def fetchall(self) -> list[tuple[Any, ...]]:
        """All rows as tuples of Python values."""
        columns = [
            _python(column.to_pylist(), kind)
            for column, (_, kind) in zip(self.arrow().columns, self.types, strict=True)
        ]
        return list(zip(*columns, strict=True))


def _python(values: list[Any], kind: SqlType) -> list[Any]:
    make = _PYTHON.get(kind.kind)
    return values if make is None else [None if v is None else make(v) for v in values]
