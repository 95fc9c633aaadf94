"""Dots of any number of rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gradbase.errors import DataError
from gradbase.plots.style import BLUE, INK, PALE, Picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from gradbase.plots.subjects import Floats, Regressed

DOTS = 5000
"""Rows above which neighbouring dots become one shaded hexagon."""


def finite(rows: Regressed) -> tuple[Floats, Floats]:
    """Actual and predicted values of the rows that have both."""
    kept = np.isfinite(rows.actual) & np.isfinite(rows.predicted)
    if not kept.any():
        raise DataError("there is no row to draw", hint="give rows with a label: data=…")
    return rows.actual[kept], rows.predicted[kept]


def dots(made: Picture, axes: Axes, x: Floats, y: Floats) -> None:
    """A dot per row, the paler the more there are; hexagons above `DOTS`."""
    if len(x) <= DOTS:
        alpha = max(0.15, min(0.8, 150 / len(x)))
        axes.plot(x, y, "o", color=BLUE, markersize=5, alpha=alpha, markeredgewidth=0)
        return
    shades = axes.hexbin(x, y, gridsize=50, bins="log", cmap="Blues", mincnt=1, linewidths=0.1)
    bar = made.colorbar(shades, ax=axes, fraction=0.04, pad=0.02)
    bar.set_label("rows in a hexagon", color=INK, fontsize=10)
    bar.outline.set_edgecolor(PALE)
