"""Type objects and constructors of PEP 249."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable

import pyarrow as pa


class TypeObject:
    """Equal to the type codes of its kind of column.

    Examples
    --------
    >>> NUMBER == "int64", NUMBER == "string", STRING == "string"
    (True, False, True)
    """

    def __init__(self, name: str, *starts: str) -> None:
        self.name, self._starts = name, starts

    def __eq__(self, other: object) -> bool:
        if isinstance(other, str):
            return other.startswith(self._starts)
        return self is other

    def __hash__(self) -> int:
        return hash(self.name)

    def __repr__(self) -> str:
        return self.name


STRING = TypeObject("STRING", "string", "large_string", "dictionary")
BINARY = TypeObject("BINARY", "binary", "large_binary")
NUMBER = TypeObject("NUMBER", "int", "uint", "float", "double", "halffloat", "decimal", "bool")
DATETIME = TypeObject("DATETIME", "date", "time", "month_day_nano", "duration")
ROWID = TypeObject("ROWID", "rowid")

Date = dt.date
Time = dt.time
Timestamp = dt.datetime
Binary: Callable[[bytes], bytes] = bytes

Described = tuple[str, str, None, None, int | None, int | None, bool | None]
"""Name, type code, display size, internal size, precision, scale, null_ok."""


def describe(schema: pa.Schema) -> list[Described]:
    """What PEP 249 says about columns; the type code is the name of the Arrow type."""
    return [(f.name, str(f.type), None, None, *_digits(f.type), None) for f in schema]


def _digits(of: pa.DataType) -> tuple[int | None, int | None]:
    return (of.precision, of.scale) if pa.types.is_decimal(of) else (None, None)


def DateFromTicks(ticks: float) -> dt.date:  # noqa: N802
    """The local date, seconds after 1970."""
    return dt.date.fromtimestamp(ticks)  # noqa: DTZ012 (PEP 249 means local time)


def TimeFromTicks(ticks: float) -> dt.time:  # noqa: N802
    """The local time of day, seconds after 1970."""
    return TimestampFromTicks(ticks).time()


def TimestampFromTicks(ticks: float) -> dt.datetime:  # noqa: N802
    """The local time, seconds after 1970."""
    return dt.datetime.fromtimestamp(ticks)  # noqa: DTZ006 (PEP 249 means local time)
