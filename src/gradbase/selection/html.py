"""What notebooks show: tables and small curves as HTML, everything escaped."""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Sequence

WIDTH, HEIGHT = 240, 60
"""Pixels of a thumbnail."""
_RIGHT, _BOLD = ' style="text-align: right"', ' style="font-weight: bold"'


def html_table(
    columns: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    right: Sequence[bool] = (),
    bold: Sequence[bool] = (),
) -> str:
    """A table of texts.

    Parameters
    ----------
    columns : sequence of str
    rows : iterable of sequences of str
    right : sequence of bool, optional
        Columns whose values stand at the right: numbers.
    bold : sequence of bool, optional
        Rows to be seen first.

    Examples
    --------
    >>> html_table(["a<b"], [["1"]])
    '<table><thead><tr><th>a&lt;b</th></tr></thead><tbody><tr><td>1</td></tr></tbody></table>'
    """
    ends = [_RIGHT if r else "" for r in right] or [""] * len(columns)
    head = "".join(f"<th{e}>{_text(c)}</th>" for c, e in zip(columns, ends, strict=True))
    body: list[str] = []
    for number, row in enumerate(rows):
        strong = _BOLD if number < len(bold) and bold[number] else ""
        cells = "".join(f"<td{e}>{_text(v)}</td>" for v, e in zip(row, ends, strict=True))
        body.append(f"<tr{strong}>{cells}</tr>")
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table>"


def html_text(text: str) -> str:
    """Lines whose spaces count, such as a plan."""
    return f'<pre style="white-space: pre; line-height: 1.25">{_text(text)}</pre>'


def html_note(text: str) -> str:
    """A line beside a table."""
    return f"<p>{_text(text)}</p>"


def thumbnail(curves: Sequence[Sequence[float]], best: int, label: str) -> str:
    """Curves over epochs as a small picture (SVG), the best one drawn last and dark.

    Parameters
    ----------
    curves : sequence of sequences of float
        One per trial; values that are not finite are left out.
    best : int
        Index of the best.
    label : str
        What they show.

    Returns
    -------
    str
        '' where there is nothing to draw.
    """
    finite = [[v for v in curve if math.isfinite(v)] for curve in curves]
    values = [v for curve in finite for v in curve]
    longest = max(map(len, finite), default=0)
    if longest < 2:
        return ""
    low, high = min(values), max(values)
    order = sorted(range(len(finite)), key=lambda i: i == best)
    lines = "".join(_line(finite[i], low, high, longest, dark=i == best) for i in order)
    text = f"{label} by epoch, {low:.4g} to {high:.4g}"
    return (
        f'<svg width="{WIDTH}" height="{HEIGHT}" role="img" aria-label="{_text(text)}">'
        f"<title>{_text(text)}</title>{lines}</svg>"
    )


def _line(curve: Sequence[float], low: float, high: float, longest: int, *, dark: bool) -> str:
    across = (WIDTH - 4) / (longest - 1)
    up = (HEIGHT - 4) / ((high - low) or 1.0)
    places = ((2 + across * i, HEIGHT - 2 - up * (v - low)) for i, v in enumerate(curve))
    points = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    colour, width = ("#0072b2", 2) if dark else ("#bbbbbb", 1)
    return f'<polyline fill="none" stroke="{colour}" stroke-width="{width}" points="{points}"/>'


def _text(text: str) -> str:
    return html.escape(text)
