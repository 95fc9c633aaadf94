"""Batches cut into tiles, and put together again."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import torch


def padded(batch: pa.RecordBatch, multiple: int) -> pa.RecordBatch:
    """`batch` with its last row repeated until its rows are a multiple of `multiple`."""
    rows = batch.num_rows
    if rows % multiple == 0:
        return batch
    whole = np.minimum(np.arange(-(-rows // multiple) * multiple), rows - 1)
    return batch.take(pa.array(whole))


def like_columns(value: torch.Tensor, rows: int) -> torch.Tensor:
    """Memory for `rows` rows like `value`; matrices are kept [width, rows]."""
    if value.dim() == 2:
        return torch.empty((value.shape[1], rows), dtype=value.dtype).T
    return torch.empty((rows, *value.shape[1:]), dtype=value.dtype)


def copy_rows(target: torch.Tensor, value: torch.Tensor) -> None:
    """`value` into `target`, of equal shape."""
    if value.dim() == 2:  # along the rows: for columns of width 1 the other way is ten times slower
        target.T.copy_(value.T)
    else:
        target.copy_(value)
