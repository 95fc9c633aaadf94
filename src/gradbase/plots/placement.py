"""``placement``: lifetimes against offsets, one rectangle per storage."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from matplotlib.collections import PolyCollection
from matplotlib.lines import Line2D

from gradbase.plots.style import INK, SERIES, VERMILION, Picture, counted, legend, picture, tidy
from gradbase.plots.subjects import Counts, Floats

UNITS = ("bytes", "KiB", "MiB", "GiB")


class Placed(Protocol):
    """Storages at their places: columns int64[n], heights in bytes."""

    lower: Counts
    upper: Counts
    offset: Counts
    size: Counts
    period: int | None
    height: int
    lower_bound: int


def draw(placed: Placed) -> Picture:
    """Time to the right, bytes upwards; what lives on beyond a period goes on at the left."""
    power = min(max(int(placed.height).bit_length() - 1, 0) // 10, len(UNITS) - 1)
    unit = 1024.0**power
    boxes, colours = _rectangles(placed, unit)
    proved = placed.height == placed.lower_bound
    made = picture(
        10.5, 5.2, f"Placement of {counted(len(placed.size), 'storage')}",
        "colours only tell neighbours apart",
    )  # fmt: skip
    axes = made.subplots()
    axes.add_collection(
        PolyCollection(list(boxes), facecolors=colours, edgecolors="white", linewidths=0.3)
    )
    lines = [_level(axes, placed.height / unit, f"height {placed.height:,} bytes", INK, "-")]
    if not proved:
        label = f"lower bound {placed.lower_bound:,} bytes"
        lines.append(_level(axes, placed.lower_bound / unit, label, VERMILION, "--"))
    end = placed.upper.max(initial=1) if placed.period is None else placed.period
    begin = placed.lower.min(initial=end - 1) if placed.period is None else 0
    axes.set_xlim(begin, end)
    axes.set_ylim(0, 1.12 * max(placed.height / unit, 1 / unit))
    tidy(axes, "time", f"offset, {UNITS[power]}")
    legend(axes, lines, loc="upper right", ncols=2)
    return made


def _level(axes: object, at: float, label: str, colour: str, style: str) -> Line2D:
    return axes.axhline(at, color=colour, linestyle=style, linewidth=1.3, label=label)  # type: ignore[attr-defined]


def _rectangles(placed: Placed, unit: float) -> tuple[Floats, list[str]]:
    """Corners float64[k, 4, 2] and a colour for each."""
    left, right = placed.lower.astype(float), placed.upper.astype(float)
    which = np.arange(len(left))
    if placed.period is not None:
        left, right = left % placed.period, left % placed.period + (right - left)
        wraps = right > placed.period
        which = np.concatenate([which, which[wraps]])
        left = np.concatenate([left, np.zeros(int(wraps.sum()))])
        right = np.concatenate([np.minimum(right, placed.period), right[wraps] - placed.period])
    low = placed.offset[which] / unit
    high = (placed.offset + placed.size)[which] / unit
    corners = np.stack(
        [left, low, left, high, right, high, right, low], axis=1
    ).reshape(-1, 4, 2)  # fmt: skip
    return corners, [SERIES[k % len(SERIES)] for k in which.tolist()]
