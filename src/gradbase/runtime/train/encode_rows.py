"""Columns of rows written as numbers into the matrix that networks read."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from gradbase.ir.conversion import Category, ToTensor
from gradbase.runtime.encode import encode_into
from gradbase.runtime.train.features import Inputs, columns_of
from gradbase.runtime.train.rows import Block

Floats = npt.NDArray[np.float32]
Codes = npt.NDArray[np.int64] | None


def encode_block(block: Block, inputs: Inputs, x: Floats, codes: Codes) -> None:
    """Write the rows of `block` as numbers into `x` [rows, width + 1] and `codes`."""
    at = 0
    for tensor in inputs.dense:
        width = columns_of(tensor.encoding)
        _fill(x[:, at : at + width], block, tensor, inputs)
        at += width
    for j, tensor in enumerate(inputs.embedded):
        assert codes is not None
        _fill(codes[:, j : j + 1], block, tensor, inputs, is_code=True)
    x[:, at] = 1.0


def _fill(
    out: npt.NDArray[Any], block: Block, tensor: ToTensor, inputs: Inputs, *, is_code: bool = False
) -> None:
    """Encode a column of `block` into `out`; a category as one-hot unless `is_code`."""
    encoding, name = tensor.encoding, tensor.column
    one_hot = isinstance(encoding, Category) and not is_code
    target = np.empty((len(out), 1), np.int64) if one_hot else out

    def call(column: pa.Array, first: int) -> None:
        encode_into(
            target[: len(column)], column, encoding, name=name, first_row=first, blobs=inputs
        )

    block.located(name, call)
    if one_hot:
        out[:] = 0.0
        known = np.flatnonzero(target[:, 0])
        out[known, target[known, 0] - 1] = 1.0
