"""Rows for people: aligned text, HTML, and how many there are."""

from __future__ import annotations

import datetime as dt
import io
import shutil
import sys
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from gradbase.engines.rows import rows_of
from gradbase.selection.html import html_note, html_table, html_text

SHOWN_ROWS = 20
PREVIEW_BYTES = 64 << 20
"""Rows are counted, and kept, up to this size; behind it there are just more."""


@dataclass(frozen=True)
class Preview:
    """The first rows of a result.

    Parameters
    ----------
    table : pa.Table
    more : bool
        Whether there are rows behind these.
    """

    table: pa.Table
    more: bool = False

    def count(self, shown: int) -> str:
        """How many rows there are, and how many of them are shown."""
        rows = self.table.num_rows
        number = f"more than {rows:,} rows" if self.more else counted(rows, "row")
        return f"{number}, {shown:,} shown" if self.more or rows > shown else number


def counted(number: int, what: str) -> str:
    """A number and its noun."""
    return f"{number:,} {what}" + ("" if number == 1 else "s")


def note(table: pa.Table, changed: int | None) -> str | None:
    """What is said of a statement without rows; None for one that has some."""
    if changed is not None:
        return f"{counted(changed, 'row')} changed"
    return "done" if table.column_names in ([], ["done"]) else None


def cell(value: Any) -> str:
    """A value as a person would write it."""
    match value:
        case None:
            return "NULL"
        case float():
            return f"{value:.6g}"
        case dict():
            return "{" + ", ".join(f"{cell(k)}: {cell(v)}" for k, v in value.items()) + "}"
        case list():
            return "[" + ", ".join(cell(v) for v in value) + "]"
        case dt.timedelta():
            return f"{value.total_seconds():g} s" if abs(value.days) < 1 else str(value)
    return str(value)


def render(found: Preview, limit: int = SHOWN_ROWS, width: int | None = None) -> str:
    """An aligned text table of the first `limit` rows and a line with the number of rows."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = found.table
    grid = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for field, right in zip(table.schema, numbers(table), strict=True):
        justify = "right" if right else "left"
        grid.add_column(Text(field.name), justify=justify, overflow="fold")
    for row in rows_of(table.slice(0, limit)):
        grid.add_row(*(Text(cell(v)) for v in row))
    out = io.StringIO()
    console = Console(file=out, width=width or _width(), highlight=False)
    console.print(grid)
    return out.getvalue().rstrip("\n") + f"\n({found.count(limit)})"


def as_html(found: Preview, limit: int = SHOWN_ROWS) -> str:
    """The first `limit` rows as an HTML table, and the number of rows."""
    table = found.table
    if table.column_names == ["plan"]:
        return html_text(plan_text(table))
    rows = ([cell(v) for v in row] for row in rows_of(table.slice(0, limit)))
    grid = html_table(table.column_names, rows, right=numbers(table))
    return grid + html_note(found.count(limit))


def plan_text(table: pa.Table) -> str:
    """The lines of an EXPLAIN."""
    return "\n".join(table.column(0).to_pylist())


def numbers(table: pa.Table) -> list[bool]:
    """Which columns hold numbers."""
    kinds = (pa.types.is_floating, pa.types.is_integer, pa.types.is_decimal)
    return [any(kind(field.type) for kind in kinds) for field in table.schema]


def _width() -> int:
    """Columns of the terminal; where there is none, lines are as long as the rows."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else 10_000
