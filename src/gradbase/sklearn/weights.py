"""Weights of rows: scikit-learn's `sample_weight` and `class_weight`."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from gradbase.errors import DataError, UnsupportedError

MOST_COPIES = 8
"""Whole weights become copies of the rows where these are at most so many a row on average."""


def counts_of(weights: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """How often each row counts."""
    if not weights.any():
        raise DataError("the weights of all samples are zero", hint="nothing is left to learn from")
    whole = weights == np.floor(weights)
    if whole.all() and weights.sum() <= MOST_COPIES * len(weights):
        return weights.astype(np.int64)
    raise UnsupportedError(
        "weights that are not whole numbers, or more than "
        f"{MOST_COPIES} a sample on average, cannot be used",
        hint="round them to small whole numbers",
    )
