"""Rows of a table as the inputs of an exported model."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from gradbase.errors import BindError, near
from gradbase.runtime.columns import category_text, kernels, numbers

_UNSEEN = "\N{REPLACEMENT CHARACTER}"
"""What an empty text becomes where the empty text stands for NULL: a category of no model."""


def onnx_inputs(session: Any, rows: Any) -> dict[str, npt.NDArray[Any]]:
    """The columns of `rows` in the form that an exported model takes them.

    Parameters
    ----------
    session : onnxruntime.InferenceSession
        Over a file that `EXPORT MODEL` wrote.
    rows : pa.Table, pandas or Polars DataFrame
        Has a column per input; others are ignored.

    Raises
    ------
    BindError
        A column is missing, or the file was not written here.
    """
    rows = _table(rows)
    facts = session.get_modelmeta().custom_metadata_map
    if "gradbase.null_texts" not in facts:
        raise BindError("the file is not an exported gradbase model: it says nothing of NULLs")
    nulls: dict[str, str] = json.loads(facts["gradbase.null_texts"])
    made: dict[str, npt.NDArray[Any]] = {}
    for given in session.get_inputs():
        if given.name not in rows.column_names:
            raise BindError(
                f"the model reads column `{given.name}`, which the rows do not have",
                hint=near(given.name, rows.column_names),
            )
        column = rows.column(given.name).combine_chunks()
        if given.name in nulls:
            made[given.name] = _texts(column, nulls[given.name])
        elif len(given.shape) > 1:
            made[given.name] = _vectors(column, given.shape[1], given.name)
        else:
            made[given.name] = _doubles(column, given.name)
    return made


def _table(rows: Any) -> pa.Table:
    if isinstance(rows, pa.Table):
        return rows
    return rows.to_arrow() if hasattr(rows, "to_arrow") else pa.Table.from_pandas(rows)


def _doubles(column: pa.Array, name: str) -> npt.NDArray[np.float64]:
    values = numbers(column, "value", name).astype(np.float64)
    values[column.is_null().to_numpy(zero_copy_only=False)] = np.nan
    return values


def _vectors(column: pa.Array, size: int, name: str) -> npt.NDArray[np.float64]:
    made = np.full((len(column), size), np.nan)
    present = column.is_valid().to_numpy(zero_copy_only=False)
    flat = column.flatten()
    values = _doubles(flat, name).reshape(-1, size)
    made[present] = values
    return made


def _texts(column: pa.Array, null: str) -> npt.NDArray[np.object_]:
    text = category_text(column)
    taken = kernels.fill_null(kernels.equal(text, null), fill_value=False)
    kept = kernels.if_else(taken, _UNSEEN, text)
    return kernels.fill_null(kept, null).to_numpy(zero_copy_only=False).astype(object)
