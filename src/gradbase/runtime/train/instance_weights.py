"""Instance weights: how much each training row counts in the loss."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from gradbase.errors import DataError
from gradbase.runtime.columns import numbers
from gradbase.runtime.train.statistics import moments

Floats = npt.NDArray[np.float64]
_WRONG: tuple[tuple[str, Callable[[Floats], npt.NDArray[np.bool_]]], ...] = (
    ("missing", np.isnan),
    ("negative", lambda values: values < 0),
    ("infinite", np.isinf),
)


def checked_weights(
    column: pa.Array, name: str, first_row: int, keep: npt.NDArray[np.bool_] | None
) -> Floats:
    """The weights of the rows in `keep` (None: all), float64.

    Parameters
    ----------
    column : Array
        Weights of consecutive rows of the query; `first_row` is the place of the first, from 0.

    Raises
    ------
    DataError
        A weight is NULL, NaN, negative or infinite; names its row.
    """
    values = numbers(column, "value", name, first_row).astype(np.float64)
    if column.null_count:
        values[column.is_null().to_numpy(zero_copy_only=False)] = np.nan
    kept = np.ones(len(values), np.bool_) if keep is None else keep
    for what, test in _WRONG:
        wrong = np.flatnonzero(test(values) & kept)
        if len(wrong):
            row = first_row + int(wrong[0]) + 1
            raise DataError(
                f"instance weight `{name}` is {what} in row {row}",
                at=f"column {name}, row {row}",
                hint="weights are finite numbers from 0 on; a row of weight 0 is not learnt from",
            )
    return values[kept]


def mean_weight(weights: Callable[[], Iterator[Floats]], name: str) -> float:
    """The mean weight of the training rows: a row's own over it is what it counts.

    Raises
    ------
    DataError
        They are 0 in all training rows.
    """
    found = moments(lambda: (chunk[:, None] for chunk in weights()))[0]
    if not found.mean:
        raise DataError(
            f"instance weight `{name}` is 0 in all {found.count:,} training rows",
            at=f"column {name}",
            hint="there is nothing to learn from; give some rows a weight above 0",
        )
    return found.mean
