"""What a statement returns: rows, as Arrow, a data frame, tuples or text."""

from __future__ import annotations

import html
import io
import shutil
import sys
import threading
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any, Protocol

import pyarrow as pa

from gradbase.engines.rows import rows_of
from gradbase.errors import UnsupportedError

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl

    from gradbase.engines import NativeResult

SHOWN_ROWS = 20


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
        self._next_row = 0
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
        if self._native is not None:
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
        table = self.arrow()
        if table.column_names == ["plan"]:
            return "\n".join(table.column(0).to_pylist())
        return render(table, limit, width)

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
        return as_html(self.arrow())


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


def cell(value: Any) -> str:
    """A value as a person would write it."""
    match value:
        case None:
            return "NULL"
        case float():
            return f"{value:.6g}"
        case dict():
            return "{" + ", ".join(f"{k}: {cell(v)}" for k, v in value.items()) + "}"
        case list():
            return "[" + ", ".join(cell(v) for v in value) + "]"
        case pa.MonthDayNano(months=months, days=days, nanoseconds=ns):
            parts = ((months, "months"), (days, "days"), (ns / 1e9, "s"))
            return " ".join(f"{n:g} {unit}" for n, unit in parts if n) or "0 s"
    return str(value)


def render(table: pa.Table, limit: int = SHOWN_ROWS, width: int | None = None) -> str:
    """An aligned text table of the first `limit` rows and a line with the number of rows."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    grid = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for field in table.schema:
        number = pa.types.is_floating(field.type) or pa.types.is_integer(field.type)
        justify = "right" if number else "left"
        grid.add_column(Text(field.name), justify=justify, overflow="fold")
    for row in rows_of(table.slice(0, limit)):
        grid.add_row(*(Text(cell(v)) for v in row))
    out = io.StringIO()
    console = Console(file=out, width=width or _width(), highlight=False)
    console.print(grid)
    rows = f"{table.num_rows:,} row" + ("s" if table.num_rows != 1 else "")
    shown = f", {limit} shown" if table.num_rows > limit else ""
    return out.getvalue().rstrip("\n") + f"\n({rows}{shown})"


def _width() -> int:
    """Columns of the terminal; where there is none, lines are as long as the rows."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else 10_000


def as_html(table: pa.Table, limit: int = SHOWN_ROWS) -> str:
    """The first `limit` rows as an HTML table."""
    head = "".join(f"<th>{html.escape(n)}</th>" for n in table.column_names)
    body = "".join(
        "<tr>" + "".join(f"<td>{html.escape(cell(v))}</td>" for v in row) + "</tr>"
        for row in rows_of(table.slice(0, limit))
    )
    more = f"<p>{table.num_rows:,} rows, {limit} shown</p>" if table.num_rows > limit else ""
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{more}"
