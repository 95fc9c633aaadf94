"""What a statement returns: rows, as Arrow, a data frame, tuples or text."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any, Protocol

import pyarrow as pa

from gradbase.engines.rows import rows_of
from gradbase.errors import UnsupportedError
from gradbase.selection.html import html_note
from gradbase.session.display import (
    PREVIEW_BYTES,
    SHOWN_ROWS,
    Preview,
    as_html,
    note,
    plan_text,
    render,
)

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl

    from gradbase.engines import NativeResult


class Stream(Protocol):
    """Rows on their way: an Arrow schema and batches."""

    @property
    def schema(self) -> pa.Schema: ...

    def __iter__(self) -> Any: ...


Open = Callable[[], AbstractContextManager[Stream]]


class Result:
    """Rows of one statement, computed when they are asked for.

    The first of `arrow`, `df`, `pl`, `fetchall`, `fetchone` or `show` runs the statement; its rows
    are kept, so asking again costs nothing. `batches` streams and keeps nothing.

    Parameters
    ----------
    open_stream : callable
        Starts the statement: a context manager giving its Arrow stream.
    cancel : callable
        Stops it, from any thread.
    native : NativeResult, optional
        What the engine returned for a statement of its own.
    """

    def __init__(
        self,
        open_stream: Open,
        cancel: Callable[[], None] = lambda: None,
        *,
        native: NativeResult | None = None,
    ) -> None:
        self._open, self._cancel, self._native = open_stream, cancel, native
        self._table: pa.Table | None = None
        self._preview: Preview | None = None
        self._next_row = 0
        self.source: object = None
        self._lock = threading.RLock()

    @classmethod
    def of(cls, table: pa.Table) -> Result:
        """A result that is there already."""
        made = cls(lambda: _held(table))
        made._table = table
        return made

    def arrow(self) -> pa.Table:
        """All rows as an Arrow table."""
        with self._lock:
            if self._table is None and self._native is not None:
                self._table = self._native.arrow()
            elif self._table is None:
                with self._open() as stream:
                    self._table = pa.Table.from_batches(list(stream), schema=stream.schema)
            return self._table

    def stream(self) -> AbstractContextManager[Stream]:
        """The rows as they come, once, for whoever reads them inside the block."""
        return self._open() if self._table is None else _held(self._table)

    def batches(self) -> Generator[pa.RecordBatch]:
        """The rows batch by batch, in bounded memory; stopping early stops the statement."""
        with self.stream() as rows:
            yield from rows

    def df(self) -> pd.DataFrame:
        """All rows as a pandas DataFrame."""
        _need("pandas")
        return self.arrow().to_pandas()

    def pl(self) -> pl.DataFrame:
        """All rows as a Polars DataFrame."""
        polars = _need("polars")
        return polars.from_arrow(self.arrow())

    def fetchall(self) -> list[tuple[Any, ...]]:
        """All rows as tuples of Python values."""
        if self._table is None and self._native is not None:
            return self._native.fetchall()
        return rows_of(self.arrow())

    def fetchone(self) -> tuple[Any, ...] | None:
        """The next row as a tuple, None after the last."""
        table = self.arrow()
        with self._lock:
            row = rows_of(table.slice(self._next_row, 1))
            self._next_row += 1
        return row[0] if row else None

    def show(self, limit: int = SHOWN_ROWS) -> None:
        """Print the first `limit` rows, aligned."""
        print(self.text(limit))  # noqa: T201

    def text(self, limit: int = SHOWN_ROWS, width: int | None = None) -> str:
        """The first `limit` rows as an aligned table; a single text column is printed as it is."""
        found = self.preview()
        said = note(found.table, self.changed)
        if said is not None:
            return said
        if found.table.column_names == ["plan"]:
            return plan_text(found.table)
        return render(found, limit, width)

    def preview(self) -> Preview:
        """The first rows, and whether there are more, in bounded memory."""
        with self._lock:
            if self._preview is None:
                self._preview = self._first_rows()
                if not self._preview.more:
                    self._table = self._preview.table
            return self._preview

    def _first_rows(self) -> Preview:
        if self._table is not None or self.changed is not None:
            return Preview(self.arrow())
        with self.stream() as stream:
            kept: list[pa.RecordBatch] = []
            size_bytes = 0
            for batch in stream:
                kept.append(batch)
                size_bytes += batch.nbytes
                if size_bytes > PREVIEW_BYTES:
                    return Preview(pa.Table.from_batches(kept), more=True)
            return Preview(pa.Table.from_batches(kept, stream.schema))

    @property
    def columns(self) -> list[str]:
        """Column names."""
        return self.arrow().column_names if self._native is None else self._native.columns

    @property
    def changed(self) -> int | None:
        """How many rows the statement changed; None for one that has rows or counts none."""
        return None if self._native is None else self._native.changed

    def cancel(self) -> None:
        """Stop the statement, from another thread; its reader gets a CancelledError."""
        self._cancel()

    def __iter__(self) -> Any:
        return iter(self.fetchall())

    def __repr__(self) -> str:
        return self.text()

    def _repr_html_(self) -> str:
        found = self.preview()
        said = note(found.table, self.changed)
        return as_html(found) if said is None else html_note(said)


@contextmanager
def _held(table: pa.Table) -> Generator[pa.RecordBatchReader]:
    yield table.to_reader()


def _need(library: str) -> Any:
    import importlib

    try:
        return importlib.import_module(library)
    except ImportError:
        raise UnsupportedError(
            f"{library} is not installed",
            hint="pip install 'gradbase[frames]', or use .arrow() or .fetchall()",
        ) from None
