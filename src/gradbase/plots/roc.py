"""``roc``: true against false positives at every threshold."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gradbase.errors import DataError
from gradbase.plots.style import (
    BLUE,
    INK,
    OTHER,
    PALE,
    SERIES,
    VERMILION,
    Picture,
    legend,
    picture,
    short,
    tidy,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from gradbase.plots.subjects import Classified, Counts, Floats


def draw(rows: Classified) -> Picture:
    """The curve of the positive class, or of each class against the rest, and the area below."""
    made = picture(
        6.4, 6.2, f"{rows.model}: ROC curve",
        f"{int(rows.cases.sum()):,} {rows.of}",
    )  # fmt: skip
    axes = made.subplots()
    axes.plot([0, 1], [0, 1], "--", color=PALE, linewidth=1.2, label="chance")
    if len(rows.classes) == 2:
        _one_curve(axes, rows)
    else:
        _curve_each(axes, rows)
    axes.set_aspect("equal")
    axes.set_xlim(-0.01, 1.01)
    axes.set_ylim(-0.01, 1.01)
    return made


def curve(score: Floats, positives: Counts, negatives: Counts) -> tuple[Floats, Floats, float]:
    """False and true positive rates from (0, 0) to (1, 1), and the area below, ties half.

    Parameters
    ----------
    score : float64[k]
    positives, negatives : int64[k]
        How many rows of each kind have that score.

    Examples
    --------
    >>> curve(np.array([0.1, 0.9, 0.5]), np.array([0, 1, 1]), np.array([1, 0, 0]))[2]
    1.0
    """
    order = np.argsort(-score)
    last = np.append(np.diff(score[order]) != 0, [True])  # of the rows with one score
    true, false = (
        np.append([0.0], np.cumsum(n[order])[last] / max(int(n.sum()), 1))
        for n in (positives, negatives)
    )
    return false, true, float(np.trapezoid(true, false))


def _one_curve(axes: Axes, rows: Classified) -> None:
    score, (negatives, positives) = rows.probability[:, 1], rows.cases.T
    if not positives.any() or not negatives.any():
        raise DataError(
            f"all {int(rows.cases.sum()):,} rows are of one class: a ROC curve needs both",
            hint="give other rows: data=…",
        )
    false, true, area = curve(score, positives, negatives)
    axes.fill_between(false, true, color=BLUE, alpha=0.08, linewidth=0)
    axes.plot(false, true, color=BLUE, linewidth=2.4, label=f"area {area:.4f}")
    said = score > 0.5
    at = [n[said].sum() / n.sum() for n in (negatives, positives)]
    axes.plot(*at, "o", color=VERMILION, markersize=9, label="threshold 0.5", zorder=4)
    no, yes = (f"`{short(c)}`" for c in rows.classes)
    tidy(
        axes, f"false positive rate (share of {no} taken for {yes})",
        f"true positive rate (share of {yes} found)",
    )  # fmt: skip
    legend(axes, loc="lower right")


def _curve_each(axes: Axes, rows: Classified) -> None:
    found: list[tuple[float, str, Floats, Floats]] = []
    for i, name in enumerate(rows.classes):
        positives = rows.cases[:, i]
        negatives = rows.cases.sum(axis=1) - positives
        if positives.any() and negatives.any():
            false, true, area = curve(rows.probability[:, i], positives, negatives)
            found.append((area, name, false, true))
    if not found:
        raise DataError(
            "the rows are of one class: a ROC curve needs several", hint="give other rows: data=…"
        )
    found.sort(key=lambda f: f[0])  # the worst first: those are looked for
    for i, (area, name, false, true) in enumerate(found):
        if i < len(SERIES):
            text = f"area {area:.4f}, {short(name)}"
            axes.plot(false, true, color=SERIES[i], linewidth=2.0, label=text, zorder=3)
        else:
            axes.plot(false, true, color=OTHER, linewidth=0.9, alpha=0.5)
    mean = sum(f[0] for f in found) / len(found)
    more = f"; {len(found) - len(SERIES)} better ones pale" if len(found) > len(SERIES) else ""
    axes.set_title(
        f"each class against the rest; mean area {mean:.4f}{more}",
        loc="left", fontsize=10, color=INK,
    )  # fmt: skip
    tidy(
        axes, "false positive rate (share of the rest taken for the class)",
        "true positive rate (share of the class found)",
    )  # fmt: skip
    legend(axes, loc="lower right")
