"""``actual``: predicted against actual values of a regression."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradbase.plots.scatter import dots, finite
from gradbase.plots.style import PALE, Picture, legend, picture, tidy

if TYPE_CHECKING:
    from gradbase.plots.subjects import Regressed


def draw(rows: Regressed) -> Picture:
    """A dot per row, or shades where there are many; on the line both are equal."""
    actual, predicted = finite(rows)
    note = f"{len(actual):,} {rows.of}"
    made = picture(6.4, 6.2, f"{rows.model}: predicted against actual", note)
    axes = made.subplots()
    low, high = min(actual.min(), predicted.min()), max(actual.max(), predicted.max())
    dots(made, axes, actual, predicted)
    spread = float(((actual - actual.mean()) ** 2).sum())
    text = "equal"
    if spread > 0:
        text += f" (R² {1 - float(((actual - predicted) ** 2).sum()) / spread:.4f})"
    axes.plot([low, high], [low, high], "--", color=PALE, linewidth=1.4, label=text)
    margin = 0.03 * (high - low) or 0.5
    axes.set_xlim(low - margin, high + margin)
    axes.set_ylim(low - margin, high + margin)
    axes.set_aspect("equal")
    tidy(axes, f"actual {rows.label}", f"predicted {rows.label}")
    legend(axes, loc="upper left")
    return made
