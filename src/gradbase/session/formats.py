"""Results as files and other programs want them: CSV, JSON, Markdown, lines."""

from __future__ import annotations

import base64
import csv
import json
import math
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import TYPE_CHECKING, Any, TextIO

from gradbase.engines.rows import Row, rows_of
from gradbase.errors import BindError, near
from gradbase.session.display import cell

if TYPE_CHECKING:
    from gradbase.session.results import Result

TABLE = "table"
"""The format for people; its rows are limited and counted."""


def write(result: Result, kind: str, out: TextIO) -> None:
    """Write all rows of a result, batch by batch; nothing for a statement without rows.

    Parameters
    ----------
    result : Result
    kind : str
        One of `FORMATS`.
    out : TextIO

    Raises
    ------
    BindError
        There is no such format.
    """
    make = FORMATS[check(kind)]
    if result.changed is not None:
        return
    with result.stream() as stream:
        names = list(stream.schema.names)
        if names and names != ["done"]:
            make(names, (row for batch in stream for row in _rows(batch)), out)


def check(kind: str) -> str:
    """`kind`, where there is such a format."""
    if kind not in (TABLE, *FORMATS):
        known = ", ".join((TABLE, *FORMATS))
        raise BindError(
            f"there is no format `{kind}`; there are {known}", hint=near(kind, (TABLE, *FORMATS))
        )
    return kind


def _rows(batch: Any) -> list[Row]:
    import pyarrow as pa

    return rows_of(pa.Table.from_batches([batch]))


def _csv(names: list[str], rows: Iterator[Row], out: TextIO) -> None:
    """RFC 4180 with ``\\n``; NULL is empty, an empty text is quoted."""
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(names)
    for row in rows:
        writer.writerow(["" if v is None else _plain(v) for v in row])


def _plain(value: Any) -> Any:
    match value:
        case bool():
            return "true" if value else "false"
        case list() | dict():
            return json.dumps(_json_value(value), ensure_ascii=False)
        case bytes():
            return base64.b64encode(value).decode()
    return value


def _json(names: list[str], rows: Iterator[Row], out: TextIO) -> None:
    """An array of objects."""
    out.write("[")
    for number, row in enumerate(rows):
        out.write(",\n " if number else "\n ")
        out.write(_object(names, row))
    out.write("\n]\n")


def _jsonl(names: list[str], rows: Iterator[Row], out: TextIO) -> None:
    """An object a line."""
    out.writelines(_object(names, row) + "\n" for row in rows)


def _object(names: list[str], row: Row) -> str:
    pairs = dict(zip(names, map(_json_value, row), strict=True))
    return json.dumps(pairs, ensure_ascii=False)


def _json_value(value: Any) -> Any:
    match value:
        case None | bool() | int() | str():
            return value
        case float():
            return value if math.isfinite(value) else None
        case Decimal():
            return int(value) if value == value.to_integral_value() else float(value)
        case list():
            return [_json_value(v) for v in value]
        case dict():
            return {str(k): _json_value(v) for k, v in value.items()}
        case bytes():
            return base64.b64encode(value).decode()
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


def _markdown(names: list[str], rows: Iterator[Row], out: TextIO) -> None:
    """A table with bars."""

    def line(cells: list[str]) -> str:
        escaped = (c.replace("\\", "\\\\").replace("|", "\\|").replace("\n", "<br>") for c in cells)
        return "| " + " | ".join(escaped) + " |\n"

    out.write(line(names))
    out.write("|" + "---|" * len(names) + "\n")
    out.writelines(line([cell(v) for v in row]) for row in rows)


def _line(names: list[str], rows: Iterator[Row], out: TextIO) -> None:
    """A value a line, rows set apart: for rows of many columns."""
    width = max(map(len, names), default=0)
    for number, row in enumerate(rows):
        if number:
            out.write("\n")
        pairs = zip(names, row, strict=True)
        out.writelines(f"{name:>{width}} = {cell(value)}\n" for name, value in pairs)


FORMATS: dict[str, Callable[[list[str], Iterator[Row], TextIO], None]] = {
    "csv": _csv,
    "json": _json,
    "jsonl": _jsonl,
    "markdown": _markdown,
    "line": _line,
}
"""Name of a format -> what writes names and rows."""
