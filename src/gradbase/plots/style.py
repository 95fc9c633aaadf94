"""How all pictures look: one palette, one way to label axes, figures without global state."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from gradbase.errors import UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes

# Okabe and Ito's palette: told apart with every kind of colour vision, and in print.
BLUE, VERMILION, GREEN, ORANGE, PURPLE, SKY = (
    "#0072B2", "#D55E00", "#009E73", "#E69F00", "#CC79A7", "#56B4E9",
)  # fmt: skip
SERIES = (BLUE, VERMILION, GREEN, ORANGE, PURPLE, SKY)
BEST, OTHER = VERMILION, SKY
INK, PALE, GRID = "#333333", "#6E6E6E", "#DDDDDD"

METRICS = {
    "roc_auc": "ROC AUC",
    "f1_score": "F1 score",
    "r2_score": "R²",
    "log_loss": "log loss, nats",
    "mean_absolute_error": "mean absolute error, in units of the label",
    "median_absolute_error": "median absolute error, in units of the label",
    "mean_squared_error": "mean squared error, in squared units of the label",
}


class Picture(Figure):
    """A matplotlib figure that notebooks show."""

    def write(self, path: str | Path) -> None:
        """Write to a file whose ending says how; UnsupportedError where it names no format."""
        known = self.canvas.get_supported_filetypes()
        ending = Path(path).suffix.removeprefix(".").lower()
        if ending not in known:
            raise UnsupportedError(
                f"a picture cannot be written to `{path}`: its ending names no format",
                hint=f"there are {', '.join('.' + k for k in known)}",
            )
        self.savefig(path, dpi=144)

    def _repr_png_(self) -> bytes:
        out = io.BytesIO()
        self.savefig(out, format="png", dpi=144)
        return out.getvalue()


def picture(width: float, height: float, title: str, note: str = "") -> Picture:
    """An empty picture, sizes in inches, with its title and a line in small print below it."""
    made = Picture(figsize=(width, height), layout="constrained")
    made.suptitle(plain(title), fontsize=13, color=INK, x=0.01, ha="left", fontweight="bold")
    if note:
        made.supxlabel(plain(note), fontsize=9, color=PALE, x=0.99, ha="right")
    return made


def tidy(axes: Axes, x: str, y: str) -> None:
    """Label the axes; a pale grid, no frame."""
    axes.set_xlabel(plain(x), color=INK, fontsize=11)
    axes.set_ylabel(plain(y), color=INK, fontsize=11)
    axes.grid(visible=True, color=GRID, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.tick_params(colors=INK, labelsize=10)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(PALE)


def count_along(axes: Axes, last: int) -> None:
    """Whole numbers below the horizontal axis, from 1 to `last`."""
    if last > 1:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    else:
        axes.set_xticks([1])


def legend(axes: Axes, handles: Sequence[Any] | None = None, **where: Any) -> None:
    """A legend of what is labelled, or of `handles`; curves behind it are veiled."""
    more = {} if handles is None else {"handles": handles}
    axes.legend(
        facecolor="white",
        edgecolor="none",
        framealpha=0.85,
        labelcolor=INK,
        fontsize=10,
        **more,
        **where,
    )


def counted(number: int, what: str) -> str:
    """A number and its noun.

    Examples
    --------
    >>> counted(1, "trial"), counted(1200, "row")
    ('1 trial', '1,200 rows')
    """
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def metric_name(metric: str) -> str:
    """A metric as it stands at an axis, with its unit."""
    return METRICS.get(metric, metric.replace("_", " "))


def short(text: str, width: int = 24) -> str:
    """`text` in one line, its middle left out where it is longer than `width`.

    Examples
    --------
    >>> short("a_very_long_name_of_a_column", 12)
    'a_very…olumn'
    """
    text = " ".join(text.split())
    if len(text) > width:
        half = (width - 1) // 2
        text = f"{text[: width - 1 - half]}…{text[-half:]}"
    return plain(text)


def plain(text: str) -> str:
    """`text` without formulas: matplotlib would set what stands between two dollar signs as one.

    Examples
    --------
    >>> print(plain("$5 to $10"))
    \\$5 to \\$10
    """
    return re.sub(r"(?<!\\)\$", r"\\$", text)
