"""Constants as DuckDB's SQL, every bit of them kept."""

from __future__ import annotations

from gradbase.engines.duckdb.types import type_name
from gradbase.errors import DataError
from gradbase.ir.scalar import Value
from gradbase.ir.types import SqlType


def literal(value: Value, of: SqlType) -> str:
    """SQL of a constant of type `of`.

    Numbers, decimals, dates and vectors are cast from text, so that no digit passes through another
    type on its way. A NUL inside a text becomes ``chr(0)``: not every client sends it on.

    Examples
    --------
    >>> from gradbase.ir.types import FLOAT64, TEXT
    >>> literal(float("nan"), FLOAT64), literal(-0.0, FLOAT64), literal("it's", TEXT)
    ("CAST('nan' AS DOUBLE)", "CAST('-0.0' AS DOUBLE)", "CAST('it''s' AS VARCHAR)")
    """
    if value is None:
        return f"CAST(NULL AS {type_name(of)})"
    if isinstance(value, bool):
        text = "TRUE" if value else "FALSE"
        return text if of.kind == "bool" else f"CAST({text} AS {type_name(of)})"
    if isinstance(value, bytes):
        return f"from_hex('{value.hex()}')"
    written = _text(value) if isinstance(value, str) else f"'{value!r}'"
    return f"CAST({written} AS {type_name(of)})"


def _text(value: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise DataError(f"{value!r} is no text: {error.reason}") from error
    pieces = ("'" + piece.replace("'", "''") + "'" for piece in value.split("\0"))
    joined = " || chr(0) || ".join(pieces)
    return f"({joined})" if "\0" in value else joined
