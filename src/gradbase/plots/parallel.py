"""``parallel``: the hyper-parameters of all trials as lines between parallel axes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib import colormaps
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection
from matplotlib.colors import Normalize
from matplotlib.ticker import LogLocator, MaxNLocator

from gradbase.errors import DataError
from gradbase.ir.metrics import is_minimised
from gradbase.plots.style import (
    BEST,
    INK,
    PALE,
    Picture,
    counted,
    metric_name,
    picture,
    short,
)
from gradbase.plots.values import values_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from gradbase.plots.subjects import Floats, Search

_SHOWN_STRONGLY = 0.2
"""Share of the trials whose lines stand out, the best ones."""
_TICKS = 8


@dataclass(frozen=True)
class _Axis:
    """One vertical axis: each trial's height on it in [0, 1], and its ticks."""

    title: str
    heights: Floats
    ticks: Sequence[tuple[float, str]]


def draw(search: Search) -> Picture:
    """One axis per hyper-parameter and one for the metric; the better a trial, the darker its line.

    Trials without a value are left out. Logarithmic ranges have logarithmic axes.
    """
    values = values_of(search)
    kept = np.flatnonzero(~np.isnan(values)).tolist()
    if not search.scales or not len(kept):
        raise DataError(
            f"`{search.name}` has {len(kept)} trials with a value over {len(search.scales)} "
            "hyper-parameters: there is nothing to compare",
            hint="search over something: HPARAM_CANDIDATES, gb.choice, gb.loguniform, …",
        )
    rows = [search.rows[i] for i in kept]
    axes_ = [_axis(name, kind, [r[name] for r in rows]) for name, kind in search.scales.items()]
    axes_.append(_axis(metric_name(search.metric), "linear", values[kept].tolist()))
    left_out = len(values) - len(kept)
    note = f"{left_out} without a value not shown" if left_out else ""
    title = f"{search.name}: {counted(len(kept), 'trial')} and what they were made of"
    made = picture(max(7.0, 1.9 * len(axes_) + 1.2), 5.0, title, note)
    axes = made.subplots()
    best = next((i for i, r in enumerate(rows) if r["trial"] == search.best_trial), 0)
    _lines(axes, axes_, _goodness(values[kept], less=is_minimised(search.metric)), best)
    _verticals(axes, axes_)
    _colour_bar(made, axes, search)
    return made


def _goodness(values: Floats, *, less: bool) -> Floats:
    """Rank of each trial, from 0 (worst) to 1 (best)."""
    order = np.argsort(np.argsort(-values if less else values))
    return order / max(len(values) - 1, 1)


def _axis(name: str, kind: str, values: list[Any]) -> _Axis:
    if kind == "choice":
        return _choices(name, values)
    numbers = np.array(values, dtype=np.float64)
    scaled = np.log10(numbers) if kind == "log" else numbers
    low, high = float(scaled.min()), float(scaled.max())
    if low == high:
        return _Axis(name, np.full(len(numbers), 0.5), [(0.5, f"{numbers[0]:.4g}")])
    return _Axis(name, (scaled - low) / (high - low), _number_ticks(numbers, kind, low, high))


def _number_ticks(numbers: Floats, kind: str, low: float, high: float) -> list[tuple[float, str]]:
    """Round numbers, and both ends."""
    bottom, top = float(numbers.min()), float(numbers.max())
    if kind == "log":
        inner = LogLocator(numticks=6).tick_values(bottom, top)
        places = np.log10(inner)
    else:
        inner = MaxNLocator(5).tick_values(bottom, top)
        places = inner
    heights = (np.asarray(places) - low) / (high - low)
    ticks = [(0.0, f"{bottom:.3g}"), (1.0, f"{top:.3g}")]
    for height, number in zip(heights, inner, strict=True):
        if 0.06 < height < 0.94:
            ticks.append((float(height), f"{number:.4g}"))
    return ticks


def _choices(name: str, values: list[Any]) -> _Axis:
    """Values one above the other; lines of equal values a little apart, so that they show."""
    texts = [v if isinstance(v, str) else json.dumps(v) for v in values]
    numeric = all(isinstance(v, int | float) for v in values)
    distinct = sorted(set(texts), key=json.loads if numeric else None)
    place = {t: (i + 0.5) / len(distinct) for i, t in enumerate(distinct)}
    spread = 0.5 / len(distinct)
    number = dict.fromkeys(distinct, 0)
    heights: list[float] = []
    for text in texts:
        of = texts.count(text)
        heights.append(place[text] + spread * ((number[text] + 0.5) / of - 0.5))
        number[text] += 1
    every = max(1, len(distinct) // _TICKS)
    return _Axis(name, np.array(heights), [(place[t], short(t, 14)) for t in distinct[::every]])


def _lines(axes: Axes, shown: Sequence[_Axis], goodness: Floats, best: int) -> None:
    heights = np.stack([a.heights for a in shown], axis=1)  # [trials, axes]
    order = np.argsort(goodness)
    x = np.arange(len(shown))
    segments = [np.stack([x, heights[i]], axis=1) for i in order]
    colours = colormaps["cividis_r"](goodness[order])
    strong = goodness[order] >= 1 - _SHOWN_STRONGLY
    faded = min(0.6, 15 / len(order))
    colours[:, 3] = np.where(strong, 0.9, faded)
    widths = np.where(strong, 1.6, 1.0)
    axes.add_collection(LineCollection(segments, colors=colours, linewidths=widths, zorder=2))
    axes.plot(x, heights[best], color=BEST, linewidth=3.0, zorder=3, label="best")
    axes.plot(x, heights[best], "o", color=BEST, markersize=6, zorder=4)


def _verticals(axes: Axes, shown: Sequence[_Axis]) -> None:
    from matplotlib.patheffects import withStroke

    halo = [withStroke(linewidth=3, foreground="white")]
    for x, axis in enumerate(shown):
        axes.axvline(x, color=INK, linewidth=1.2, zorder=5)
        for height, text in axis.ticks:
            axes.plot([x - 0.02, x + 0.02], [height, height], color=INK, linewidth=1, zorder=5)
            axes.text(
                x - 0.04, height, text, ha="right", va="center", fontsize=9, color=INK,
                zorder=6, path_effects=halo,
            )  # fmt: skip
    axes.set_xticks(range(len(shown)), [short(a.title, 26) for a in shown], fontsize=10.5)
    axes.tick_params(axis="x", length=0, colors=INK, pad=8)
    axes.set_yticks([])
    axes.set_xlim(-0.45, len(shown) - 0.8)
    axes.set_ylim(-0.04, 1.04)
    axes.spines[:].set_visible(False)


def _colour_bar(made: Picture, axes: Axes, search: Search) -> None:
    bar = made.colorbar(
        ScalarMappable(Normalize(0, 1), "cividis_r"), ax=axes, fraction=0.025, pad=0.02
    )
    bar.set_ticks([0, 1], labels=["worst", "best"])
    bar.set_label(f"rank by {metric_name(search.metric)}", color=INK, fontsize=10)
    bar.outline.set_edgecolor(PALE)
    bar.ax.tick_params(labelsize=10, colors=INK)
    axes.legend(
        loc="lower right", bbox_to_anchor=(1.0, 1.0), frameon=False, fontsize=10, labelcolor=INK
    )
