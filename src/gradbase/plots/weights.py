"""``weights``: what a linear model makes of each input."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gradbase.plots.style import BLUE, INK, VERMILION, Picture, picture, short, tidy

if TYPE_CHECKING:
    from gradbase.plots.subjects import Weighed

SHOWN = 30


def draw(model: Weighed) -> Picture:
    """A bar per input, the largest first; those that lower the prediction point left."""
    order = np.argsort(-np.abs(model.weights))[:SHOWN]
    weights = model.weights[order]
    left_out = len(model.weights) - len(order)
    note = f"the {len(order)} largest; {left_out} smaller ones not shown" if left_out else ""
    made = picture(8.0, 1.7 + 0.3 * len(order), f"{model.model}: weights", note)
    axes = made.subplots()
    places = np.arange(len(order))[::-1]
    axes.barh(places, weights, color=np.where(weights < 0, VERMILION, BLUE), height=0.7)
    axes.axvline(0, color=INK, linewidth=1)
    tidy(axes, f"weight ({model.unit})", "")
    axes.set_yticks(places, [short(model.names[i], 36) for i in map(int, order)])
    axes.margins(y=0.01)
    axes.grid(visible=False, axis="y")
    return made
