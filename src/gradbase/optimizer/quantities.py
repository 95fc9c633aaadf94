"""Rows, bytes and seconds as a person would write them."""

from __future__ import annotations


def seconds_text(seconds: float) -> str:
    """Seconds with a unit that leaves up to three digits before the point.

    Examples
    --------
    >>> seconds_text(0.0123), seconds_text(75.0), seconds_text(2e-6)
    ('12.3 ms', '75.0 s', '2.0 µs')
    """
    for unit, factor in (("s", 1.0), ("ms", 1e3), ("µs", 1e6)):
        if seconds * factor >= 1.0:
            return f"{seconds * factor:,.1f} {unit}"
    return "0 s" if seconds <= 0 else "<1 µs"


def count_text(rows: float) -> str:
    """A number of rows, rounded to whole ones."""
    return f"{round(rows):,}"


def quantity(value: float, unit: str) -> str:
    """`value` with a decimal prefix.

    Examples
    --------
    >>> quantity(1_234_567, "B"), quantity(12, "FLOP")
    ('1.2 MB', '12 FLOP')
    """
    for prefix, factor in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= factor:
            return f"{value / factor:.1f} {prefix}{unit}"
    return f"{value:.0f} {unit}"
