"""``calibration``: whether of the rows given 70 % seven in ten are what was said."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gradbase.errors import DataError
from gradbase.plots.style import BLUE, OTHER, PALE, Picture, legend, picture, short, tidy

if TYPE_CHECKING:
    from gradbase.plots.subjects import Classified, Counts, Floats

BINS = 10
_Z = 1.96


@dataclass(frozen=True)
class Bins:
    """Rows in groups of about equal size by what was said of them.

    `said`, `observed` are means of each group, `low`, `high` the 95 % interval of `observed`.
    """

    said: Floats
    observed: Floats
    low: Floats
    high: Floats
    rows: Counts

    @property
    def error(self) -> float:
        """Mean distance of what was said from what was observed, over the rows."""
        return float(np.average(np.abs(self.said - self.observed), weights=self.rows))


def draw(rows: Classified) -> Picture:
    """Observed against predicted share in tenths of the rows, and how often each was predicted.

    Of more than two classes: how often the likeliest class was right, by its probability.
    """
    score, hits, misses = _outcomes(rows)
    one = len(rows.classes) == 2
    what = f"`{short(rows.classes[1])}`" if one else "the likeliest class"
    seen = f"observed share of {what}" if one else "how often the likeliest class was right"
    total = int(hits.sum() + misses.sum())
    if not total:
        raise DataError("there is no row to draw", hint="give rows with a label: data=…")
    found = binned(score, hits, misses)
    made = picture(6.4, 6.6, f"{rows.model}: calibration", f"{total:,} {rows.of}")
    upper, lower = made.subplots(2, 1, height_ratios=[4, 1], sharex=True)
    upper.plot([0, 1], [0, 1], "--", color=PALE, linewidth=1.2, label="perfect")
    upper.errorbar(
        found.said, found.observed, [found.observed - found.low, found.high - found.observed],
        fmt="o-", color=BLUE, linewidth=1.8, markersize=6, capsize=3, elinewidth=1.2,
        label=f"mean error {found.error:.3f} (bars: 95 % interval)",
    )  # fmt: skip
    tidy(upper, "", seen)
    upper.set_xlim(-0.01, 1.01)
    upper.set_ylim(-0.02, 1.02)
    legend(upper, loc="upper left")
    lower.hist(score, bins=np.linspace(0, 1, 2 * BINS + 1), weights=hits + misses, color=OTHER)
    tidy(lower, f"predicted probability of {what}", "rows")
    return made


def _outcomes(rows: Classified) -> tuple[Floats, Counts, Counts]:
    """Scores, and of how many rows with each it came true and did not."""
    if len(rows.classes) == 2:
        misses, hits = rows.cases.T
        return rows.probability[:, 1], hits, misses
    likeliest = rows.probability.argmax(axis=1)
    hits = np.take_along_axis(rows.cases, likeliest[:, None], axis=1)[:, 0]
    return rows.probability.max(axis=1), hits, rows.cases.sum(axis=1) - hits


def binned(score: Floats, hits: Counts, misses: Counts) -> Bins:
    """Rows grouped by score into up to `BINS` groups of equal size; equal scores stay together.

    Examples
    --------
    >>> found = binned(np.array([0.2, 0.8]), np.array([1, 4]), np.array([4, 1]))
    >>> found.observed.tolist(), found.rows.tolist()
    ([0.2, 0.8], [5, 5])
    """
    order = np.argsort(score)
    score, hits, rows = score[order], hits[order], (hits + misses)[order]
    below = np.cumsum(rows) - rows
    group = (BINS * below) // max(int(rows.sum()), 1)
    first = np.append([True], np.diff(score) != 0)
    group = np.maximum.accumulate(np.where(first, group, 0))
    _, number = np.unique(group, return_inverse=True)
    n, k, s = (np.bincount(number, weights=w) for w in (rows, hits, rows * score))
    share, z = k / n, _Z**2 / n
    middle = (share + z / 2) / (1 + z)  # Wilson's interval
    half = np.sqrt(share * (1 - share) * z + z**2 / 4) / (1 + z)
    low, high = np.minimum(middle - half, share), np.maximum(middle + half, share)
    return Bins(s / n, share, low, high, n.astype(np.int64))
