"""``residuals``: what a regression gets wrong, by what it predicts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradbase.plots.scatter import dots, finite
from gradbase.plots.style import INK, OTHER, PALE, VERMILION, Picture, picture, tidy

if TYPE_CHECKING:
    from gradbase.plots.subjects import Regressed


def draw(rows: Regressed) -> Picture:
    """Actual minus predicted against predicted, and how often each difference occurs."""
    actual, predicted = finite(rows)
    residual = actual - predicted
    note = f"{len(actual):,} {rows.of}"
    made = picture(9.0, 4.8, f"{rows.model}: residuals", note)
    left, right = made.subplots(1, 2, width_ratios=[3, 1], sharey=True)
    dots(made, left, predicted, residual)
    left.axhline(0, color=PALE, linewidth=1.4, linestyle="--")
    tidy(left, f"predicted {rows.label}", f"{rows.label}: actual - predicted")
    right.hist(residual, bins="auto" if len(residual) < 10_000 else 80, orientation="horizontal",
               color=OTHER)  # fmt: skip
    right.axhline(residual.mean(), color=VERMILION, linewidth=1.6)
    right.set_title(
        f"mean {residual.mean():.3g}\ndeviation {residual.std():.3g}", fontsize=10, color=INK
    )
    tidy(right, "rows", "")
    return made
