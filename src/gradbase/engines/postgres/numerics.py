"""Values of ``numeric`` on the wire: digits of base 10,000, weight of the first, sign, scale."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from decimal import Decimal

import pyarrow as pa

_NEGATIVE, _NAN, _INFINITE, _MINUS_INFINITE = 0x4000, 0xC000, 0xD000, 0xF000
_SPECIAL = {_NAN: math.nan, _INFINITE: math.inf, _MINUS_INFINITE: -math.inf}


def decimals(values: Sequence[bytes | None], size: tuple[int, ...]) -> pa.Array:
    """Values of ``numeric(precision, scale)``; NaN, which a decimal has not, is NULL."""
    precision, scale = size
    found: list[Decimal | None] = []
    for value in values:
        exact = None if value is None else _exact(value)
        found.append(_scaled(exact, scale) if isinstance(exact, tuple) else None)
    return pa.array(found, pa.decimal128(precision, scale))


def floats(values: Sequence[bytes | None]) -> list[float | None]:
    """Values as the nearest doubles."""
    found: list[float | None] = []
    for value in values:
        exact = None if value is None else _exact(value)
        found.append(_nearest(*exact) if isinstance(exact, tuple) else exact)
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


def _scaled(exact: tuple[int, int], scale: int) -> Decimal:
    unscaled, exponent = exact
    shift = exponent + scale
    whole = unscaled * 10**shift if shift >= 0 else unscaled // 10**-shift
    sign = 1 if whole < 0 else 0
    return Decimal((sign, tuple(map(int, str(abs(whole)))), -scale))


def _nearest(unscaled: int, exponent: int) -> float:
    try:  # a quotient of integers is rounded once, however large they are
        return float(unscaled * 10**exponent) if exponent >= 0 else unscaled / 10**-exponent
    except OverflowError:
        return math.inf if unscaled > 0 else -math.inf
