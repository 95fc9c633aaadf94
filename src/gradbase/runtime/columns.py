"""Values of Arrow columns of any type as float64 numbers or as canonical text."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute

from gradbase.errors import DataError, UnsupportedError

kernels: Any = pyarrow.compute
"""Its functions are made at import; type checkers know none of them."""

_EXACT_DIGITS = 15
"""Integers of so many digits are exact in float64."""
_UNITS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
_DAY_S = 86_400


def numbers(column: pa.Array, part: str, name: str, first_row: int = 0) -> npt.NDArray[Any]:
    """A column's values as a NumPy array of integers or floats, NULLs as arbitrary numbers.

    Booleans are 0 and 1; decimals the nearest float64; dates and timestamps the `part` of them in
    UTC: ``epoch_s`` seconds since 1970 with fraction, ``weekday`` 0 (Monday) to 6. ``value`` of a
    timestamp is ``epoch_s``.

    Raises
    ------
    DataError
        A date or timestamp is infinite.
    UnsupportedError
        The type has no numbers.
    """
    if isinstance(column, pa.ExtensionArray):
        column = column.storage
    kind = column.type
    if pa.types.is_dictionary(kind):
        column, kind = column.dictionary_decode(), kind.value_type
    if pa.types.is_temporal(kind):
        return _temporal(column, part, name, first_row)
    if pa.types.is_null(kind):
        return np.zeros(len(column))
    if pa.types.is_decimal(kind):
        return _decimals(column)
    if pa.types.is_boolean(kind):
        column = column.cast(pa.uint8())
    elif not (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
        raise UnsupportedError(
            f"column `{name}` of type {kind} cannot be read as a number",
            hint=f"cast it in the query: CAST({name} AS DOUBLE)",
        )
    return plain(column)


def plain(column: pa.Array) -> npt.NDArray[Any]:
    """A primitive column's values without a copy; at NULLs whatever the buffer holds, but finite.

    NULLs of floats are cleared, as their slots may hold anything, signalling NaNs included.
    """
    if column.null_count == 0:
        return column.to_numpy(zero_copy_only=True)
    return kernels.fill_null(column, 0).to_numpy(zero_copy_only=True)


def _decimals(column: pa.Array) -> npt.NDArray[np.float64]:
    scale = column.type.scale
    if column.type.precision > _EXACT_DIGITS:
        return plain(column.cast(pa.float64()))
    if not len(column):
        return np.empty(0)
    wide = column.cast(pa.decimal128(38, scale))
    words = np.frombuffer(wide.buffers()[1], np.int64, 2 * (wide.offset + len(wide)))
    unscaled = words[2 * wide.offset :: 2].astype(np.float64)
    # One correctly rounded division of exact numbers: the float64 nearest to the decimal.
    return unscaled / 10.0**scale


def _temporal(column: pa.Array, part: str, name: str, first_row: int) -> npt.NDArray[Any]:
    kind = column.type
    if not (pa.types.is_date(kind) or pa.types.is_timestamp(kind)):
        raise UnsupportedError(
            f"column `{name}` of type {kind} cannot be read as a number",
            hint=f"use epoch({name}) in the query",
        )
    if pa.types.is_date64(kind):
        column, kind = column.cast(pa.date32()), pa.date32()
    ticks = plain(column.view(pa.int32() if pa.types.is_date(kind) else pa.int64()))
    _refuse_infinite_times(ticks, name, first_row)
    if part in ("value", "epoch_s"):
        if pa.types.is_date(kind):
            return ticks.astype(np.int64) * _DAY_S
        return ticks / _UNITS[kind.unit]
    if pa.types.is_timestamp(kind) and kind.tz is not None:
        column = column.view(pa.timestamp(kind.unit))  # stored in UTC
    return plain(_PART[part](column))


def _refuse_infinite_times(ticks: npt.NDArray[Any], name: str, first_row: int) -> None:
    """Engines write ±infinity as the largest and smallest tick."""
    largest = np.iinfo(ticks.dtype).max
    infinite = np.flatnonzero((ticks >= largest) | (ticks <= -largest))
    if len(infinite):
        row = first_row + int(infinite[0]) + 1
        raise DataError(
            f"column `{name}` holds an infinite date in row {row}",
            at=f"column {name}, row {row}",
            hint=f"leave such rows out (WHERE isfinite({name})) or make the value NULL",
        )


def _hours(column: pa.Array) -> pa.Array:
    return kernels.hour(_as_timestamp(column))


def _minutes(column: pa.Array) -> pa.Array:
    return kernels.minute(_as_timestamp(column))


def _as_timestamp(column: pa.Array) -> pa.Array:
    return column.cast(pa.timestamp("s")) if pa.types.is_date(column.type) else column


_PART = {
    "year": kernels.year,
    "month": kernels.month,
    "day": kernels.day,
    "weekday": kernels.day_of_week,
    "hour": _hours,
    "minute": _minutes,
}


def array_lengths(column: pa.Array) -> npt.NDArray[Any]:
    """Elements of each row that ``column.flatten()`` gives: none where the array is NULL."""
    lengths = kernels.fill_null(kernels.list_value_length(column), 0)
    return lengths.to_numpy(zero_copy_only=False)


def category_text(column: pa.Array) -> pa.Array:
    """Canonical text of a column's values as ``large_string``; NULL and NaN are NULL.

    Text and enums as they are; ``true`` and ``false``; integers and decimals in digits; floats the
    shortest that reads back, -0 as 0; dates and timestamps ISO, in UTC, without a zone; UUIDs with
    hyphens.

    Raises
    ------
    UnsupportedError
        The type has no such text (lists, structs, blobs).
    """
    if isinstance(column, pa.ExtensionArray):
        column = column.storage
    kind = column.type
    if pa.types.is_dictionary(kind):
        column, kind = column.dictionary_decode(), kind.value_type
    if pa.types.is_fixed_size_binary(kind) and kind.byte_width == 16:
        return _uuid_text(column)
    if pa.types.is_nested(kind) or kind in (pa.binary(), pa.large_binary(), _INTERVAL):
        raise UnsupportedError(
            f"values of type {kind} cannot be categories", hint="cast the column to VARCHAR"
        )
    if pa.types.is_floating(kind):
        column = _without_nan(column)
    elif pa.types.is_timestamp(kind) and kind.tz is not None:
        column = column.view(pa.timestamp(kind.unit))
    return column.cast(pa.large_string())


def _without_nan(column: pa.Array) -> pa.Array:
    missing = kernels.is_nan(column)
    positive = kernels.add(column, pa.scalar(0.0, column.type))  # -0 + 0 is 0
    return kernels.if_else(missing, pa.scalar(None, column.type), positive)


_INTERVAL = pa.month_day_nano_interval()
_HEX = np.frombuffer(b"0123456789abcdef", dtype=np.uint8)
_HYPHENS = (8, 13, 18, 23)


def _uuid_text(column: pa.Array) -> pa.Array:
    if not len(column):
        return pa.array([], pa.large_string())
    rows = column.offset + len(column)
    raw = np.frombuffer(column.buffers()[1], np.uint8, 16 * rows).reshape(-1, 16)[column.offset :]
    digits = np.empty((len(raw), 32), dtype=np.uint8)
    digits[:, 0::2], digits[:, 1::2] = _HEX[raw >> 4], _HEX[raw & 15]
    text = np.full((len(raw), 36), ord("-"), dtype=np.uint8)
    text[:, [i for i in range(36) if i not in _HYPHENS]] = digits
    offsets = pa.py_buffer(np.arange(0, 36 * (len(raw) + 1), 36, dtype=np.int64))
    made = pa.LargeStringArray.from_buffers(len(raw), offsets, pa.py_buffer(text))
    return kernels.if_else(column.is_valid(), made, pa.scalar(None, pa.large_string()))


def row_numbers(column: pa.Array, *, absent: bool) -> npt.NDArray[np.int64]:
    """Numbers of rows; with `absent` one more, and 0 for NULL."""
    if absent:
        column = kernels.fill_null(kernels.add(column, 1), 0)
    return column.to_numpy(zero_copy_only=False)
