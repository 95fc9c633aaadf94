"""``curves``: how the trials of a search learnt."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.lines import Line2D

from gradbase.ir.learning import METRICS
from gradbase.ir.metrics import is_minimised
from gradbase.plots.style import (
    BEST,
    BLUE,
    OTHER,
    Picture,
    count_along,
    counted,
    legend,
    metric_name,
    picture,
    tidy,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from gradbase.plots.subjects import Search

Curves = dict[int, list[tuple[int, float]]]


def draw(search: Search) -> Picture:
    """Two panels by epoch: the search's metric, and the losses; the best trial stands out."""
    failed = sum(r["status"] == "FAILED" for r in search.rows)
    trials = counted(len(search.rows), "trial") + (f", {failed} failed" if failed else "")
    made = picture(10.5, 4.4, f"{search.name}: learning curves of {trials}")
    left, right = made.subplots(1, 2)
    _metric_panel(left, search)
    _loss_panel(right, search)
    return made


def _metric_panel(axes: Axes, search: Search) -> None:
    curves = _curves(search, "eval_loss" if search.metric == "loss" else search.metric)
    better = "lower" if is_minimised(search.metric) else "higher"
    _lines(axes, curves, search.best_trial)
    _finish(axes, search, f"{metric_name(search.metric)} ({better} is better)")
    best = curves.get(search.best_trial)
    if best:
        axes.plot(*best[-1], "o", color=BEST, markersize=6, zorder=4)
        axes.annotate(
            f"{best[-1][1]:.4g}", best[-1], xytext=(-6, 8), textcoords="offset points",
            ha="right", color=BEST, fontsize=11, fontweight="bold",
        )  # fmt: skip


def _loss_panel(axes: Axes, search: Search) -> None:
    held_out = any(row["eval_loss"] is not None for row in search.curves)
    _lines(axes, _curves(search, "eval_loss" if held_out else "train_loss"), search.best_trial)
    if held_out:
        train = _curves(search, "train_loss").get(search.best_trial, [])
        mark = "o" if len(train) == 1 else "--"
        axes.plot(*_xy(train), mark, color=BLUE, linewidth=1.6, zorder=3, label="its training loss")
    regression = search.metric in METRICS["regression"]
    kind = "mean squared error" if regression else "cross-entropy, nats"
    _finish(axes, search, f"{'evaluation' if held_out else 'training'} loss ({kind})")
    handles = axes.get_legend_handles_labels()[0]
    others = len(search.rows) - 1
    if others:
        text = f"{others} other trial" + "s" * (others > 1)
        handles.append(Line2D([], [], color=OTHER, linewidth=1.4, label=text))
    legend(axes, handles)


def _curves(search: Search, column: str) -> Curves:
    found: Curves = defaultdict(list)
    for row in search.curves:
        value = row.get(column)
        if value is not None:
            found[row["trial"]].append((row["epoch"], value))
    return dict(found)


def _xy(points: Sequence[tuple[int, float]]) -> tuple[list[int], list[float]]:
    return [x for x, _ in points], [y for _, y in points]


def _lines(axes: Axes, curves: Curves, best: int) -> None:
    """Every trial's curve, the paler the more there are; one with a single epoch is a dot."""
    alpha = max(0.12, min(0.8, 12 / max(len(curves), 1)))
    for trial, points in curves.items():
        mark = "o" if len(points) == 1 else "-"
        if trial == best:
            axes.plot(
                *_xy(points), mark, color=BEST, linewidth=2.6, zorder=4,
                label=f"best: trial {trial}",
            )  # fmt: skip
        else:
            axes.plot(*_xy(points), mark, color=OTHER, linewidth=1.1, alpha=alpha, markersize=4)


def _finish(axes: Axes, search: Search, y: str) -> None:
    tidy(axes, "epoch", y)
    count_along(axes, max((row["epoch"] for row in search.curves), default=1))
    _keep_outliers_out(axes)


def _keep_outliers_out(axes: Axes) -> None:
    """Limit y to what most trials show: one that diverged must not flatten the others."""
    curves = [np.asarray(line.get_ydata(), float) for line in axes.lines]
    values = np.concatenate(curves) if curves else np.empty(0)
    values = values[np.isfinite(values)]
    if values.size < 8:
        return
    low, high = np.percentile(values, [25, 75])
    reach = 3 * (high - low)
    best = [c for c, line in zip(curves, axes.lines, strict=True) if line.get_color() == BEST]
    kept = (values >= low - reach) & (values <= high + reach) | np.isin(
        values, np.concatenate(best or [[]])
    )
    bottom, top = values[kept].min(), values[kept].max()
    margin = 0.06 * (top - bottom) or 0.05
    axes.set_ylim(bottom - margin, top + margin)
