"""Constants as SQL text: numbers are double precision, texts are quoted."""

from __future__ import annotations

import math

from gradbase.errors import UnsupportedError
from gradbase.ir.scalar import Value

NAN = "CAST('NaN' AS DOUBLE)"
"""Engines hold it equal to itself."""


def number(value: float) -> str:
    """A double that reads back to the same bits."""
    if math.isnan(value):
        return NAN
    if math.isinf(value):
        return f"CAST('{'-' if value < 0 else ''}Infinity' AS DOUBLE)"
    text = repr(float(value))
    return text if "e" in text else f"{text}e0"  # without an exponent engines read decimals


def literal(value: Value) -> str:
    """A class, a category or a number."""
    match value:
        case None:
            return "NULL"
        case bool():
            return "TRUE" if value else "FALSE"
        case int():
            return str(value)
        case float():
            return number(value)
        case str() if "\0" not in value:
            return "'" + value.replace("'", "''") + "'"
    raise UnsupportedError(f"{type(value).__name__} has no constant in SQL")
