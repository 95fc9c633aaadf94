"""The metric by which the trials of a search were compared, as an array."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from gradbase.plots.subjects import Floats, Search


def values_of(search: Search) -> Floats:
    """The metric of each trial, float64[trials]; NaN where it has none."""

    def value(row: object) -> float:
        assert isinstance(row, dict)
        if search.metric == "loss":
            found = row["train_loss"] if row["eval_loss"] is None else row["eval_loss"]
        else:
            found = row.get(search.metric)
        return np.nan if found is None else found

    return np.array([value(r) for r in search.rows], dtype=np.float64)
