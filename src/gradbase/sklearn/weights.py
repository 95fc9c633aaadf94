"""Weights of rows as copies of them, or as a column of the training query."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from gradbase.errors import DataError
from gradbase.sklearn.tables import free_name

MOST_COPIES = 8
"""Whole weights become copies of the rows where these are at most so many a row on average."""


def weighted(rows: pa.Table, weights: npt.NDArray[np.float64]) -> tuple[pa.Table, str]:
    """The rows that count, and the column that says how much ('' where each counts once).

    Whole weights are counts: such a row stands there so many times, and training on it is the same
    bit for bit as if it had been given so. Others, and large ones, weigh in the loss.

    Parameters
    ----------
    weights : float64[rows]
        Finite, from 0.

    Raises
    ------
    DataError
        All weights are 0.
    """
    if not weights.any():
        raise DataError("the weights of all samples are zero", hint="nothing is left to learn from")
    whole = bool((weights == np.floor(weights)).all())
    if whole and weights.sum() <= MOST_COPIES * len(weights):
        return rows.take(pa.array(np.repeat(np.arange(len(weights)), weights.astype(int)))), ""
    kept = np.flatnonzero(weights)
    name = free_name("sample_weight", rows.column_names)
    return rows.take(pa.array(kept)).append_column(name, pa.array(weights[kept])), name
