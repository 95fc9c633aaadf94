"""Predictions once for rows that are equal in all features."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from gradbase.errors import DataError
from gradbase.runtime.columns import kernels
from gradbase.runtime.context import RunContext

Run = Callable[[pa.RecordBatch, int], list[pa.Array]]
Ints = npt.NDArray[np.int64]

_WORTH = 0.5
"""Where more than this part of a batch's rows are distinct, all are predicted."""
_PATIENCE = 4
"""Batches of that kind after which nobody looks any more."""
_LARGEST = 2**62


class Repeats:
    """Predicts the distinct rows of each batch; gives up where there are many.

    Rows are equal if all their values are the same bits: 0.0 and -0.0 differ, NULL equals NULL.
    """

    def __init__(self, context: RunContext) -> None:
        self._context, self._in_vain = context, 0

    def __call__(self, run: Run, features: pa.RecordBatch, first_row: int = 0) -> list[pa.Array]:
        """What `run` gives for `features`."""
        if self._in_vain >= _PATIENCE or features.num_rows < 2:
            return run(features, first_row)
        first, same = distinct_rows(features.columns)
        if len(first) > _WORTH * features.num_rows:
            self._in_vain += 1
            return run(features, first_row)
        self._in_vain = 0
        self._context.metrics.add("repeated_rows", features.num_rows - len(first))
        try:
            made = run(kernels.take(features, pa.array(first)), first_row)
        except DataError:  # rows are counted as they are in the batch
            return run(features, first_row)
        return [kernels.take(column, same) for column in made]


def distinct_rows(columns: list[pa.Array]) -> tuple[Ints, pa.Array]:
    """The first of each kind of equal rows, and for every row the number of its kind."""
    rows = len(columns[0])
    key, size = np.zeros(rows, np.int64), 1
    for column in columns:
        codes, count = _codes(column)
        if size * count > _LARGEST:
            encoded = pa.array(key).dictionary_encode()
            key, size = encoded.indices.to_numpy().astype(np.int64), len(encoded.dictionary)
        key, size = key * count + codes, size * count
    encoded = pa.array(key).dictionary_encode()
    first = np.empty(len(encoded.dictionary), np.int64)
    first[encoded.indices.to_numpy()[::-1]] = np.arange(rows - 1, -1, -1)
    return first, encoded.indices


def _codes(column: pa.Array) -> tuple[npt.NDArray[Any], int]:
    """A number for each value of a column, and how many there are."""
    if pa.types.is_floating(column.type):
        column = column.view(pa.int64() if column.type.bit_width == 64 else pa.int32())
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    encoded = column.dictionary_encode(null_encoding="encode")
    return encoded.indices.to_numpy(zero_copy_only=False), max(len(encoded.dictionary), 1)
