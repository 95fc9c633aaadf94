"""``history``: the metric of each trial, and the best so far."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gradbase.ir.metrics import is_minimised
from gradbase.plots.style import (
    BEST,
    BLUE,
    INK,
    OTHER,
    Picture,
    count_along,
    counted,
    legend,
    metric_name,
    picture,
    tidy,
)
from gradbase.plots.values import values_of

if TYPE_CHECKING:
    from gradbase.plots.subjects import Search


def draw(search: Search) -> Picture:
    """A dot per trial in the order they were drawn; a step line for the best so far."""
    trials = np.array([r["trial"] for r in search.rows])
    values = values_of(search)
    less = is_minimised(search.metric)
    best = (np.fmin if less else np.fmax).accumulate(values)
    made = picture(8.0, 4.4, f"{search.name}: {counted(len(trials), 'trial')} and the best so far")
    axes = made.subplots()
    axes.plot(trials, values, "o", color=OTHER, markersize=6, alpha=0.8, label="trial")
    axes.step(trials, best, where="post", color=BLUE, linewidth=1.8, label="best so far")
    at = trials == search.best_trial
    axes.plot(trials[at], values[at], "o", color=BEST, markersize=9, label="best")
    missing = np.isnan(values)
    if missing.any():
        bottom = [axes.get_ylim()[0]] * int(missing.sum())
        text = f"without a value ({int(missing.sum())})"
        axes.plot(trials[missing], bottom, "x", color=INK, clip_on=False, label=text)
    better = "lower" if less else "higher"
    tidy(axes, "trial", f"{metric_name(search.metric)} ({better} is better)")
    count_along(axes, len(trials))
    legend(axes)
    return made
