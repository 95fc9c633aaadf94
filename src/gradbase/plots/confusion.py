"""``confusion``: which classes are taken for which."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from gradbase.errors import DataError
from gradbase.plots.style import INK, PALE, Picture, counted, picture, short

if TYPE_CHECKING:
    from gradbase.plots.subjects import Confusion

_WRITTEN = 15
"""Up to so many classes have their numbers written into the cells."""
_NAMED = 60


def draw(table: Confusion) -> Picture:
    """A cell per actual and predicted class: rows, and the share of the actual class."""
    total, n = int(table.counts.sum()), len(table.classes)
    if not total:
        raise DataError("there is no row to draw", hint="give rows with a label: data=…")
    of_class = table.counts.sum(axis=1, keepdims=True)
    shares = 100 * table.counts / np.maximum(of_class, 1)
    right = 100 * np.trace(table.counts) / total
    side = min(11.0, 4.2 + 0.55 * n)
    made = picture(
        side + 1.2, side, f"{table.model}: {right:.1f} % of {counted(total, 'row')} right", table.of
    )
    axes = made.subplots()
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=100)
    if n <= _WRITTEN:
        for (i, j), share in np.ndenumerate(shares):
            colour = "white" if share > 55 else INK
            text = f"{int(table.counts[i, j]):,}\n{share:.0f} %"
            size = 11 if n <= 8 else 8
            axes.text(j, i, text, ha="center", va="center", color=colour, fontsize=size)
    step = 1 if n <= _NAMED else -(-n // _NAMED)
    names = [short(c, 18) for c in table.classes[::step]]
    rotation = 0 if n <= 6 and max(map(len, names)) <= 10 else 90 if n > _WRITTEN else 45
    align: dict[str, Any] = {"ha": "right", "rotation_mode": "anchor"} if rotation else {}
    size = 10 if n <= 30 else 6
    axes.set_xticks(range(0, n, step), names, rotation=rotation, fontsize=size, **align)
    axes.set_yticks(range(0, n, step), names, fontsize=size)
    axes.set_xlabel(f"predicted {short(table.label)}", color=INK, fontsize=11)
    axes.set_ylabel(f"actual {short(table.label)}", color=INK, fontsize=11)
    axes.tick_params(colors=INK, length=0)
    axes.spines[:].set_visible(False)
    bar = made.colorbar(image, ax=axes, fraction=0.045, pad=0.03)
    bar.set_label("share of the actual class, %", color=INK, fontsize=10)
    bar.outline.set_edgecolor(PALE)
    bar.ax.tick_params(colors=INK)
    return made
