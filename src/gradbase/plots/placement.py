"""``placement``: lifetimes against offsets, one rectangle per storage, and what is alive when."""

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
    made = picture(
        10.5, 5.2, f"Placement of {counted(len(placed.size), 'storage')}",
        "one box per storage; colours only tell neighbours apart",
    )  # fmt: skip
    axes = made.subplots()
    axes.add_collection(
        PolyCollection(
            list(boxes), facecolors=colours, edgecolors="white", linewidths=0.3, alpha=0.6
        )
    )
    lines = [
        _level(axes, placed.height / unit, f"plan {placed.height:,} bytes", INK, "-"),
        _level(
            axes, placed.lower_bound / unit, f"lower bound {placed.lower_bound:,}", VERMILION, "--"
        ),
        *_alive(axes, boxes, unit),
    ]
    end = placed.upper.max(initial=1) if placed.period is None else placed.period
    begin = placed.lower.min(initial=end - 1) if placed.period is None else 0
    axes.set_xlim(begin, end)
    axes.set_ylim(0, 1.15 * max(placed.height / unit, 1 / unit))
    tidy(axes, "time" if placed.period is None else "operation", f"offset, {UNITS[power]}")
    legend(axes, lines, loc="upper right", ncols=3)
    return made


def _alive(axes: object, boxes: Floats, unit: float) -> list[Line2D]:
    """The sum of sizes alive at each moment, its peak marked."""
    if not len(boxes):
        return []
    size = boxes[:, 1, 1] - boxes[:, 0, 1]
    moments, at = np.unique(np.concatenate([boxes[:, 0, 0], boxes[:, 2, 0]]), return_inverse=True)
    change = np.bincount(at.ravel(), np.concatenate([size, -size]))
    load = np.cumsum(change)
    peak = int(load.argmax())
    label = f"alive, peak {round(load[peak] * unit):,}"
    line = axes.plot(moments, load, color=INK, drawstyle="steps-post", linewidth=1, label=label)[0]  # type: ignore[attr-defined]
    axes.plot(moments[peak], load[peak], "o", color=INK, markersize=5)  # type: ignore[attr-defined]
    return [line]


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
