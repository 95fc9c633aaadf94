"""``importance``: which hyper-parameters mattered."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gradbase.plots.style import (
    BLUE,
    INK,
    Picture,
    counted,
    metric_name,
    picture,
    short,
    tidy,
)
from gradbase.plots.values import values_of

if TYPE_CHECKING:
    from gradbase.plots.subjects import Search


def draw(search: Search) -> Picture:
    """A bar per hyper-parameter: its share in what makes a trial one of the best."""
    shares = search.importance
    trials = int((~np.isnan(values_of(search))).sum())
    note = f"PED-ANOVA over {counted(trials, 'trial')} compared by {metric_name(search.metric)}"
    made = picture(
        7.5, 1.7 + 0.42 * len(shares), f"{search.name}: what makes a trial one of the best", note
    )
    axes = made.subplots()
    places = np.arange(len(shares))[::-1]
    widths = [100 * v for v in shares.values()]
    axes.barh(places, widths, color=BLUE, height=0.66)
    for place, width in zip(places, widths, strict=True):
        axes.annotate(
            f"{width:.0f} %", (width, place), xytext=(5, 0), textcoords="offset points",
            va="center", color=INK, fontsize=10,
        )  # fmt: skip
    tidy(axes, "importance, % of all hyper-parameters' together", "")
    axes.set_yticks(places, [short(n, 32) for n in shares])
    axes.set_xlim(0, max(*widths, 1.0) * 1.12)
    axes.grid(visible=False, axis="y")
    return made
