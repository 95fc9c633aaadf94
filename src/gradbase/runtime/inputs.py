"""The first step of a program: columns of a batch as one matrix [width, rows].

Plain numbers (integers and floats, `Numeric` with part ``value``) are gathered by Arrow in one call
and standardised as a matrix; every other column goes through `encode_into`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from gradbase.ir.conversion import Numeric, ToTensor
from gradbase.ir.tensor import Concat, Embedding, OneHot, Tensor
from gradbase.runtime.encode import Blobs, encode_into
from gradbase.runtime.operators import Buffer, one_hot

_GATHERED = frozenset(
    (pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint16(), pa.uint32(),
     pa.float32(), pa.float64())
)  # fmt: skip


class Assembly:
    """Makes the matrix of one leaf (`ir.chains.is_assembled`); columns have fixed types.

    Parameters
    ----------
    node : Tensor
    positions : mapping of column name to position
        Where each column is in a batch.
    types : sequence of DataType
        Arrow types of a batch's columns.
    weights : mapping of Tensor to torch.Tensor
        Values of constants (embeddings).
    blobs : Blobs
    imported : bool
        NaN and ±Inf pass through.
    """

    def __init__(
        self, node: Tensor, positions: dict[str, int], types: Sequence[pa.DataType],
        weights: dict[Tensor, torch.Tensor], blobs: Blobs | None, *, imported: bool,
    ) -> None:  # fmt: skip
        parts = node.parts if isinstance(node, Concat) else (node,)
        self.width = node.shape[-1]
        self._blobs, self._imported, self._weights = blobs, imported, weights
        numeric: list[tuple[int, int, ToTensor, Numeric]] = []
        self._others: list[tuple[int, int, Tensor, ToTensor]] = []
        start = 0
        for part in parts:
            source = part if isinstance(part, ToTensor) else part.children[0]
            assert isinstance(source, ToTensor)
            at, encoding = positions[source.column], source.encoding
            if (
                isinstance(encoding, Numeric)
                and encoding.part == "value"
                and types[at] in _GATHERED
            ):
                numeric.append((start, at, source, encoding))
            else:
                self._others.append((start, at, part, source))
            start += part.shape[-1]
        self._prepare_numbers(numeric)
        self.only_numbers = bool(numeric) and not self._others
        self._selects = self.columns != list(range(len(types)))

    def _prepare_numbers(self, numeric: list[tuple[int, int, ToTensor, Numeric]]) -> None:
        encodings = [e for _, _, _, e in numeric]
        self._sources = [(s, at, source) for s, at, source, _ in numeric]
        self.columns = [at for _, at, _, _ in numeric]
        self.value_rows = torch.tensor([s for s, _, _, _ in numeric], dtype=torch.long)
        flagged = [i for i, e in enumerate(encodings) if e.indicator]
        self._flagged = torch.tensor(flagged, dtype=torch.long)
        self._flag_rows = self.value_rows[self._flagged] + 1
        self.mean = torch.tensor([e.mean for e in encodings], dtype=torch.float64)[:, None]
        self.scale = torch.tensor([e.scale for e in encodings], dtype=torch.float64)[:, None]
        self.is_identity = all(e.mean == 0.0 and e.scale == 1.0 for e in encodings)
        shifts = [abs(e.mean * e.scale) for e in encodings]
        self.largest_shift = max(shifts, default=0.0)
        self.in_order = self.value_rows.tolist() == list(range(self.width))
        self._matrix, self._wide, self._narrow = Buffer(), Buffer(torch.float64), Buffer()

    # -- plain numbers -------------------------------------------------------------------------

    def gather(self, batch: pa.RecordBatch) -> torch.Tensor:
        """The plain numbers as they are, Tensor[columns, rows]; NULL is NaN."""
        if self._selects:
            batch = batch.select(self.columns)
        tensor = batch.to_tensor(null_to_nan=True, row_major=False)
        return torch.from_numpy(tensor.to_numpy().T)

    def narrow(self, gathered: torch.Tensor) -> torch.Tensor:
        """`gathered` as float32."""
        if gathered.dtype == torch.float32:
            return gathered
        return self._narrow.take(*gathered.shape).copy_(gathered)

    def standardise(self, gathered: torch.Tensor) -> torch.Tensor:
        """``(x - mean) * scale`` in float64, Tensor[columns, rows]."""
        if self.is_identity and gathered.dtype == torch.float32:
            return gathered
        wide = self._wide.take(*gathered.shape)
        wide.copy_(gathered)
        return wide.sub_(self.mean).mul_(self.scale)

    # -- the whole matrix ----------------------------------------------------------------------

    def complete(self, batch: pa.RecordBatch, first_row: int) -> torch.Tensor:
        """Every column by the exact definition, Tensor[width, rows] float32.

        Raises
        ------
        DataError
            A value is ±Inf.
        """
        matrix = self._matrix.take(self.width, batch.num_rows)
        if self.columns:
            gathered = self.gather(batch)
            standard = self.standardise(gathered)
            missing = None if self._imported else torch.isnan(gathered)
            if missing is not None and missing.any():
                standard = standard.masked_fill(missing, 0.0)
            else:
                missing = None
            self._place(matrix, standard, missing)
            if not self._imported and not _all_finite(standard, matrix, self.value_rows):
                self._refuse(batch, first_row)
        self.place_others(matrix, batch, first_row)
        return matrix

    def _place(
        self, matrix: torch.Tensor, standard: torch.Tensor, missing: torch.Tensor | None
    ) -> None:
        if self.in_order:
            matrix.copy_(standard)
        else:
            matrix[self.value_rows] = standard.to(torch.float32)
        if len(self._flagged):
            flags = 0.0 if missing is None else missing[self._flagged].to(torch.float32)
            matrix[self._flag_rows] = flags

    def _refuse(self, batch: pa.RecordBatch, first_row: int) -> None:
        """Find the value that is not finite and raise its error."""
        for _, at, source in self._sources:
            out = np.empty((batch.num_rows, source.encoding.width), np.float32)
            encode_into(out, batch.column(at), source.encoding, name=source.column,
                        first_row=first_row)  # fmt: skip

    def place_others(self, matrix: torch.Tensor, batch: pa.RecordBatch, first_row: int) -> None:
        """Write every column that is no plain number into its rows of `matrix`."""
        for start, at, part, source in self._others:
            column = batch.column(at)
            rows = matrix[start : start + part.shape[-1]]
            if part is source:
                self._encode(rows.numpy().T, column, source, first_row)
                continue
            codes = np.empty((len(column), 1), np.int64)
            self._encode(codes, column, source, first_row)
            if isinstance(part, OneHot):
                rows.copy_(one_hot(torch.from_numpy(codes[:, 0]), part.count))
            else:
                assert isinstance(part, Embedding)
                rows.copy_(self._weights[part.weight][torch.from_numpy(codes[:, 0])].T)

    def _encode(self, out: Any, column: pa.Array, source: ToTensor, first_row: int) -> None:
        encode_into(out, column, source.encoding, name=source.column, first_row=first_row,
                    blobs=self._blobs, imported=self._imported)  # fmt: skip


def _all_finite(standard: torch.Tensor, matrix: torch.Tensor, rows: torch.Tensor) -> bool:
    """Whether all values are finite in float32 (a sum is finite only where all terms are)."""
    if not bool(standard.sum().isfinite()):
        return False
    return bool(matrix[rows].isfinite().all()) if standard.dtype == torch.float64 else True
