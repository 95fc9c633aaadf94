"""Values of ``numeric`` on the wire: digits of base 10,000, weight of the first, sign, scale."""

from __future__ import annotations

import math
import struct
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

if TYPE_CHECKING:
    from gradbase.engines.postgres.decoding import Field

_NEGATIVE, _NAN, _INFINITE, _MINUS_INFINITE = 0x4000, 0xC000, 0xD000, 0xF000
_SPECIAL = {_NAN: math.nan, _INFINITE: math.inf, _MINUS_INFINITE: -math.inf}
_FEW = 4
"""Digits of base 10,000 that fit 64 bits together with a sign and two decimals more."""
_LARGE = 9e18
_EXACT = 22
"""Powers of ten up to this one are doubles, so that one rounding makes a quotient."""
_POWERS = 10.0 ** np.arange(_EXACT + 1)
_TENS = 10 ** np.arange(19, dtype=np.int64)


class _Short(NamedTuple):
    """Values of few digits, for all rows together: integers times powers of ten.

    `valid` rows are numbers; of `others`, by their place, nothing is known here.
    """

    unscaled: NDArray[np.int64]
    exponent: NDArray[np.int64]
    others: NDArray[np.int64]


def decimals(field: Field, size: tuple[int, ...]) -> pa.Array:
    """Values of ``numeric(precision, scale)``; NaN, which a decimal has not, is NULL."""
    precision, scale = size
    short, there = _short(field), field.there
    shift, magnitude = short.exponent + scale, np.abs(short.unscaled)
    up, down = np.clip(shift, 0, 18), np.clip(-shift, 0, 18)
    large = (shift > 18) | (magnitude * _POWERS[up] > _LARGE)
    whole = np.where(large, 0, magnitude // _TENS[down]) * _TENS[np.where(large, 0, up)]
    whole *= np.sign(short.unscaled)
    words = np.stack([whole, whole >> 63], axis=1)  # 128 bits, the lower half first
    odd = set(short.others.tolist()) | set(np.flatnonzero(large).tolist())
    for row, value in _exactly(field, sorted(odd)):
        there[row] = isinstance(value, tuple)
        if isinstance(value, tuple):
            bits = _scaled(*value, scale).to_bytes(16, "little", signed=True)
            words[row] = np.frombuffer(bits, "<i8")
    valid = pa.py_buffer(np.packbits(there, bitorder="little"))
    of = pa.decimal128(precision, scale)
    return pa.Array.from_buffers(of, len(there), [valid, pa.py_buffer(words)])


def floats(field: Field, valid: pa.Buffer | None) -> pa.Array:
    """Values as the nearest doubles."""
    short = _short(field)
    number, size = short.unscaled.astype(np.float64), np.abs(short.exponent)
    inexact = (size > _EXACT) | (np.abs(short.unscaled) >= 1 << 53)
    power = _POWERS[np.where(inexact, 0, size)]
    values = np.where(short.exponent < 0, number / power, number * power)
    odd = set(short.others.tolist()) | set(np.flatnonzero(inexact & field.there).tolist())
    for row, value in _exactly(field, sorted(odd)):
        values[row] = _nearest(*value) if isinstance(value, tuple) else value
    return pa.Array.from_buffers(pa.float64(), len(values), [valid, pa.py_buffer(values)])


def _short(field: Field) -> _Short:
    there = field.there
    sign = field.inner(4, ">u2", there)
    count = np.where(there, (field.lengths - 8) // 2, 0)
    short = there & (count <= _FEW) & ((sign == 0) | (sign == _NEGATIVE))
    weight = field.inner(2, ">i2", short).astype(np.int64)
    unscaled = np.zeros(len(there), np.int64)
    for k in range(int(count[short].max(initial=0))):
        has = short & (count > k)
        digit = field.inner(8 + 2 * k, ">u2", has).astype(np.int64)
        unscaled = np.where(has, unscaled * 10_000 + digit, unscaled)
    unscaled = np.where(sign == _NEGATIVE, -unscaled, unscaled)
    exponent = np.where(short, 4 * (weight + 1 - count), 0)
    return _Short(unscaled, exponent, np.flatnonzero(there & ~short))


def _exactly(field: Field, rows: list[int]) -> list[tuple[int, tuple[int, int] | float]]:
    """Row and (integer, power of ten), or what is no number, one by one."""
    found: list[tuple[int, tuple[int, int] | float]] = []
    for row in rows:
        at = int(field.starts[row])
        found.append((row, _exact(field.data[at : at + int(field.lengths[row])].tobytes())))
    return found


def _exact(value: bytes) -> tuple[int, int] | float:
    """(integer, power of ten) of a value, or what is no number."""
    count, weight, sign, _ = struct.unpack_from(">HhHH", value)
    if sign in _SPECIAL:
        return _SPECIAL[sign]
    unscaled = 0
    for digit in struct.unpack_from(f">{count}H", value, 8):
        unscaled = unscaled * 10_000 + digit
    return -unscaled if sign == _NEGATIVE else unscaled, 4 * (weight + 1 - count)


def _scaled(unscaled: int, exponent: int, scale: int) -> int:
    shift = exponent + scale
    size = abs(unscaled) * 10**shift if shift >= 0 else abs(unscaled) // 10**-shift
    return -size if unscaled < 0 else size


def _nearest(unscaled: int, exponent: int) -> float:
    try:  # a quotient of integers is rounded once, however large they are
        return float(unscaled * 10**exponent) if exponent >= 0 else unscaled / 10**-exponent
    except OverflowError:
        return math.inf if unscaled > 0 else -math.inf
