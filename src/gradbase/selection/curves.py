"""Learning curves of a search as a matplotlib figure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gradbase.errors import UnsupportedError
from gradbase.ir.learning import MINIMISED

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from gradbase.selection.study import Study

# Okabe and Ito's palette: told apart with every kind of colour vision, and in print.
BEST, OTHER, TRAIN, INK = "#D55E00", "#56B4E9", "#0072B2", "#333333"

_NAMES = {
    "roc_auc": "ROC AUC",
    "f1_score": "F1 score",
    "r2_score": "R²",
    "log_loss": "log loss, nats",
    "mean_absolute_error": "mean absolute error, in units of the label",
    "median_absolute_error": "median absolute error, in units of the label",
    "mean_squared_error": "mean squared error, in squared units of the label",
}

Curves = dict[int, list[tuple[int, float]]]


def learning_curves(study: Study[Any], path: str | Path | None = None) -> Figure:
    """Two panels: the search's metric, and the losses; the best trial stands out."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise UnsupportedError(
            "matplotlib is not installed", hint="pip install 'gradbase[plots]'"
        ) from None
    figure = Figure(figsize=(10.5, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    _metric_panel(left, study)
    _loss_panel(right, study)
    figure.suptitle(_title(study), fontsize=12, color=INK, x=0.01, ha="left")
    if path is not None:
        figure.savefig(path, dpi=144)
    return figure


def _title(study: Study[Any]) -> str:
    failed = sum(r["status"] == "FAILED" for r in study.rows)
    text = f"{study.name}: {len(study.rows)} trial" + "s" * (len(study.rows) != 1)
    return text + (f", {failed} failed" if failed else "")


def _metric_panel(axes: Axes, study: Study[Any]) -> None:
    name = "eval_loss" if study.metric == "loss" else study.metric
    curves = _curves(study, name)
    _draw(axes, curves, study.best_trial)
    better = "lower" if study.metric in MINIMISED else "higher"
    _label(axes, f"{_NAMES.get(study.metric, study.metric.replace('_', ' '))} ({better} is better)")
    best = curves.get(study.best_trial)
    if best:
        axes.plot(*best[-1], "o", color=BEST, markersize=6, zorder=4)
        axes.annotate(
            f"{best[-1][1]:.4g}", best[-1], xytext=(-6, 8), textcoords="offset points",
            ha="right", color=BEST, fontsize=10, fontweight="bold",
        )  # fmt: skip


def _loss_panel(axes: Axes, study: Study[Any]) -> None:
    held_out = any(row["eval_loss"] is not None for row in study.curves)
    shown = _curves(study, "eval_loss" if held_out else "train_loss")
    _draw(axes, shown, study.best_trial)
    if held_out:
        train = _curves(study, "train_loss").get(study.best_trial, [])
        axes.plot(
            *_xy(train), "--", color=TRAIN, linewidth=1.6, zorder=3, label="its training loss"
        )
    kind = "mean squared error" if study.metric in _REGRESSION else "cross-entropy, nats"
    _label(axes, f"{'evaluation' if held_out else 'training'} loss ({kind})")
    _legend(axes, study)


_REGRESSION = frozenset(
    ("mean_absolute_error", "mean_squared_error", "mean_squared_log_error",
     "median_absolute_error", "r2_score", "explained_variance")
)  # fmt: skip


def _curves(study: Study[Any], column: str) -> Curves:
    found: Curves = defaultdict(list)
    for row in study.curves:
        value = row.get(column)
        if value is not None:
            found[row["trial"]].append((row["epoch"], value))
    return dict(found)


def _xy(points: Sequence[tuple[int, float]]) -> tuple[list[int], list[float]]:
    return [x for x, _ in points], [y for _, y in points]


def _draw(axes: Axes, curves: Curves, best: int) -> None:
    """Every trial's curve; one with a single epoch is a dot."""
    alpha = max(0.25, min(0.8, 12 / max(len(curves), 1)))
    for trial, points in curves.items():
        mark = "o" if len(points) == 1 else "-"
        if trial == best:
            axes.plot(
                *_xy(points),
                mark,
                color=BEST,
                linewidth=2.6,
                zorder=4,
                label=f"best: trial {trial}",
            )
        else:
            axes.plot(*_xy(points), mark, color=OTHER, linewidth=1.1, alpha=alpha, markersize=4)


def _label(axes: Axes, y: str) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.set_xlabel("epoch", color=INK)
    axes.set_ylabel(y, color=INK)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(visible=True, color="#dddddd", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.tick_params(colors=INK)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    _keep_outliers_out(axes)


def _keep_outliers_out(axes: Axes) -> None:
    """Limit y to what most trials show: one that diverged must not flatten the others."""
    import numpy as np

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


def _legend(axes: Axes, study: Study[Any]) -> None:
    from matplotlib.lines import Line2D

    handles, labels = axes.get_legend_handles_labels()
    others = len(study.rows) - 1
    if others:
        handles.append(Line2D([], [], color=OTHER, linewidth=1.4))
        labels.append(f"{others} other trial" + "s" * (others > 1))
    axes.legend(handles, labels, frameon=False, labelcolor=INK, fontsize=9)
