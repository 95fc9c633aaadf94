"""Bytes as people write and read them."""

from __future__ import annotations

import re
from typing import Any

from gradbase.errors import BindError

__all__ = ["readable", "size_bytes"]

_UNITS = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12} | {
    "kib": 2**10,
    "mib": 2**20,
    "gib": 2**30,
    "tib": 2**40,
}


def size_bytes(value: Any, at: str | None = None) -> int:
    """Bytes of a number or of text such as ``'1.5GB'``.

    Raises
    ------
    BindError
        It is neither.

    Examples
    --------
    >>> size_bytes("1.5GB"), size_bytes("2 KiB"), size_bytes(7)
    (1500000000, 2048, 7)
    """
    found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]*)", str(value).strip())
    if found is None or found[2].lower() not in _UNITS:
        raise BindError(
            f"`{value}` is not a size", at=at, hint="a number and a unit, such as '500MB' or '2GiB'"
        )
    return int(float(found[1]) * _UNITS[found[2].lower()])


def readable(size: float) -> str:
    """`size` bytes in the unit that reads best.

    Examples
    --------
    >>> readable(1_572_864), readable(512)
    ('1.50 MiB', '512 B')
    """
    for unit in ("B", "KiB", "MiB"):
        if abs(size) < 1024:
            return f"{size:,.0f} B" if unit == "B" else f"{size:,.2f} {unit}"
        size /= 1024
    return f"{size:,.2f} GiB"
