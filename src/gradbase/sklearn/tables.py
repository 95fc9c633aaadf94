"""What scikit-learn hands over (arrays, pandas, Polars, Arrow) as Arrow tables."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from gradbase.errors import DataError

WIDE = 64
"""Columns of an array above which they are read as one vector: that is many times faster."""
_NUMBERS = "biuf"


def is_frame(X: Any) -> bool:
    """Whether `X` has columns with types of their own: a pandas, Polars or Arrow table."""
    return isinstance(X, pa.Table) or all(hasattr(X, n) for n in ("shape", "columns", "dtypes"))


def column_names(X: Any) -> list[str]:
    """Names for the columns of `X`: its own where they are texts that SQL tells apart.

    An array of more than `WIDE` columns without missing values is one column, a vector.

    Examples
    --------
    >>> column_names(np.zeros((1, 2))), column_names(np.zeros((1, 100)))
    (['x0', 'x1'], ['x'])
    """
    plain = [f"x{i}" for i in range(X.shape[1])]
    if not is_frame(X):
        wide = X.shape[1] > WIDE and X.dtype.kind in _NUMBERS
        return ["x"] if wide and not np.isnan(X).any() else plain
    own: list[Any] = list(X.column_names if isinstance(X, pa.Table) else X.columns)
    texts = [n for n in own if isinstance(n, str) and n]
    return texts if len({n.casefold() for n in texts}) == len(own) else plain


def free_name(wanted: str, taken: Sequence[str]) -> str:
    """`wanted`, or with a number behind it where SQL would take it for one of `taken`.

    Examples
    --------
    >>> free_name("target", ["Target", "a"])
    'target_1'
    """
    used = {n.casefold() for n in taken}
    names = (wanted, *(f"{wanted}_{i}" for i in range(1, len(used) + 2)))
    return next(n for n in names if n.casefold() not in used)


def table_of(X: Any, names: Sequence[str]) -> pa.Table:
    """`X` as an Arrow table whose columns are called `names`, as `column_names` gave them.

    Parameters
    ----------
    X : array of shape (n, columns), or a frame
        Columns of an array of objects are numbers where all their values are, else texts.

    Raises
    ------
    DataError
        A column mixes types.
    """
    if isinstance(X, np.ndarray):
        if len(names) < X.shape[1]:
            flat = np.ascontiguousarray(X, np.float64).ravel()
            columns: list[pa.Array] = [pa.FixedSizeListArray.from_arrays(flat, X.shape[1])]
        else:
            columns = [_column(X[:, i], n) for i, n in enumerate(names)]
        return pa.table(columns, names=list(names))
    if isinstance(X, pa.Table):
        return X.rename_columns(list(names))
    if hasattr(X, "to_arrow"):
        return X.to_arrow().rename_columns(list(names))
    frame = X.set_axis(list(names), axis="columns")
    try:
        return pa.Table.from_pandas(frame, preserve_index=False)
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise DataError(
            f"the rows cannot be made columns of one type each: {'; '.join(map(str, error.args))}",
            hint="make such a column text or numbers first, for instance with X[c].astype(str)",
        ) from error


def _column(values: npt.NDArray[Any], name: str) -> pa.Array:
    if values.dtype.kind in _NUMBERS:
        return pa.array(np.ascontiguousarray(values, np.float64))
    listed = [None if _is_missing(v) else v for v in values.tolist()]
    known = [v for v in listed if v is not None]
    if not any(isinstance(v, str) for v in known):
        return pa.array([None if v is None else float(v) for v in listed], pa.float64())
    others = [v for v in known if not isinstance(v, str)]
    if others:
        raise DataError(
            f"column `{name}` mixes texts and other values ({others[0]!r})",
            hint="make all its values texts or numbers; missing ones are None or NaN",
        )
    return pa.array(listed, pa.string())


def _is_missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))
