"""Arrow rows as tuples of Python values."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa

Row: TypeAlias = tuple[Any, ...]
Maker: TypeAlias = Callable[[Any], Any]

_WIDE_DIGITS = 38
"""Integers of 128 bits (what a sum of integers is) travel as decimals of so many digits."""
_INFINITE = (2**31 - 1, 2**63 - 1)


def rows_of(table: pa.Table) -> list[Row]:
    """Rows as tuples; columns may share a name.

    Integers of 128 bits are ints, maps dicts, intervals timedeltas (a month counts 30 days). Of the
    dates that Python has none for, infinity is the last there is, others are text.

    Examples
    --------
    >>> rows_of(pa.table({"n": pa.array([1, None], pa.decimal128(38, 0)), "s": ["a", "b"]}))
    [(1, 'a'), (None, 'b')]
    """
    return list(zip(*map(_values, table.columns), strict=True))


def _values(column: pa.ChunkedArray) -> list[Any]:
    try:
        values = column.to_pylist()
    except (OverflowError, ValueError):
        values = [_date(scalar) for chunk in column.chunks for scalar in chunk]
    make = _maker(column.type)
    return values if make is None else [None if v is None else make(v) for v in values]


def _date(scalar: pa.Scalar) -> Any:
    try:
        return scalar.as_py()
    except (OverflowError, ValueError):
        number, unit = getattr(scalar, "value", None), getattr(scalar.type, "unit", "D")
    if number is None:  # inside a list or a struct
        return str(scalar)
    kind = dt.date if unit == "D" else dt.datetime
    if abs(number) in _INFINITE:
        return kind.max if number > 0 else kind.min
    year, month, day = str(np.datetime64(number, unit)).rsplit("-", 2)
    before_christ = int(year) <= 0
    year = f"{1 - int(year):04d}" if before_christ else year
    day, _, time = day.partition("T")
    time = f" {time}".rstrip("0").rstrip(".") if "." in time else time
    return f"{year}-{month}-{day}{' (BC)' if before_christ else ''}{time}"


def _maker(of: pa.DataType) -> Maker | None:
    """What makes the value of what pyarrow gives; None where they are the same."""
    if pa.types.is_decimal(of):
        return int if of.scale == 0 and of.precision >= _WIDE_DIGITS else None
    if pa.types.is_interval(of):
        return _duration
    if pa.types.is_map(of):
        return _dict_maker(_maker(of.key_type), _maker(of.item_type))
    if pa.types.is_list(of) or pa.types.is_large_list(of) or pa.types.is_fixed_size_list(of):
        inner = _maker(of.value_type)
        return inner and (lambda items: [None if v is None else inner(v) for v in items])
    if pa.types.is_struct(of):
        return _struct_maker({f.name: _maker(f.type) for f in of.fields})
    return None


def _dict_maker(key: Maker | None, item: Maker | None) -> Maker:
    def make(pairs: list[tuple[Any, Any]]) -> dict[Any, Any]:
        return {_made(key, k): _made(item, v) for k, v in pairs}

    return make


def _struct_maker(makers: dict[str, Maker | None]) -> Maker | None:
    if not any(makers.values()):
        return None
    return lambda found: {n: _made(makers[n], v) for n, v in found.items()}


def _made(make: Maker | None, value: Any) -> Any:
    return value if make is None or value is None else make(value)


def _duration(found: Any) -> dt.timedelta:
    days = found.months * 30 + found.days
    return dt.timedelta(days=days, microseconds=found.nanoseconds // 1000)
