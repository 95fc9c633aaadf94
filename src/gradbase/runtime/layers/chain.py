"""A chain of layers as one step of a program, from columns to the network's output.

Where all columns are float32 they are multiplied where Arrow has them: nothing is gathered. Other
columns are converted, encoded ones come as the matrix that torch would get.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch

from gradbase.ir.chains import ACTIVATIONS, Chain
from gradbase.runtime.inputs import Assembly
from gradbase.runtime.layers.building import Layer
from gradbase.runtime.leaves import FOLDED_SHIFT, Leaf
from gradbase.runtime.operators import Buffer

if TYPE_CHECKING:
    from gradbase.runtime.program import Program

_BLOCK = 256
"""``BLOCK`` of ``layers.c``."""
_PANELS = (8, 4, 1)
_FLOAT = 4

Weights = Sequence[tuple[torch.Tensor, torch.Tensor | None]]


class Layers:
    """Weights as ``layers.c`` reads them; shared by threads.

    Parameters
    ----------
    function : ctypes function
        See `building.library`.
    weights : sequence of (Tensor[outputs, inputs], Tensor[outputs] or None)
    activations : sequence of str
    """

    def __init__(self, function: Any, weights: Weights, activations: Sequence[str]) -> None:
        self.function, self.count = function, len(weights)
        self._kept = [(_panels(w.numpy()), _bias(w, b)) for w, b in weights]
        shapes = [(w.shape[1], w.shape[0]) for w, _ in weights]
        self.widest = max(max(s) for s in shapes)
        self.outputs = shapes[-1][1]
        rows = zip(shapes, activations, self._kept, strict=True)
        self.table = (Layer * self.count)(
            *(
                Layer(inputs, outputs, ACTIVATIONS.index(a), w.ctypes.data, b.ctypes.data)
                for (inputs, outputs), a, (w, b) in rows
            )
        )


def _panels(weight: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Rows of `weight` by eight, then four, then one, those of a panel side by side."""
    parts: list[npt.NDArray[np.float32]] = []
    start = 0
    for size in _PANELS:
        while len(weight) - start >= size:
            parts.append(weight[start : start + size].T.ravel())
            start += size
    return np.concatenate(parts)


def _bias(weight: torch.Tensor, bias: torch.Tensor | None) -> npt.NDArray[np.float32]:
    return np.zeros(len(weight), np.float32) if bias is None else np.array(bias.numpy())


class Calls:
    """Calls `Layers` from one thread: holds its buffers."""

    def __init__(self, layers: Layers) -> None:
        self._layers, self._table = layers, ctypes.addressof(layers.table)
        self._pointers = np.empty(layers.widest, np.int64)
        self._scratch = np.empty(3 * layers.widest * _BLOCK, np.float32)
        self._out = Buffer()

    def columns(self, addresses: npt.NDArray[np.int64], rows: int) -> tuple[torch.Tensor, float]:
        """The network's output for columns at these addresses: Tensor[rows, outputs].

        It is overwritten by the next call. The number with it is finite only if every value is.
        """
        layers = self._layers
        out = self._out.take(layers.outputs, rows)
        check = layers.function(
            self._table, layers.count, addresses.ctypes.data, rows, out.data_ptr(),
            self._pointers.ctypes.data, self._scratch.ctypes.data, layers.widest,
        )  # fmt: skip
        return out.T, check

    def matrix(self, matrix: torch.Tensor) -> tuple[torch.Tensor, float]:
        """As `columns` for the rows of a contiguous matrix."""
        width, rows = matrix.shape
        addresses = matrix.data_ptr() + np.arange(width, dtype=np.int64) * rows * _FLOAT
        return self.columns(addresses, rows)


class ChainStep(Leaf):
    """Runs a chain in one thread, for columns of fixed types."""

    def __init__(
        self, program: Program, chain: Chain, assembly: Assembly, slow: Callable[[], None]
    ) -> None:
        self._assembly, self._imported, self._slow = assembly, program.imported, slow
        self._fast = assembly.only_numbers
        self._fold = self._fast and assembly.largest_shift <= FOLDED_SHIFT
        self._exact = self._near = Calls(program.packed(chain, None))
        if self._fast and (self._fold or not assembly.in_order):
            self._near = Calls(program.packed(chain, assembly, fold=self._fold))

    def __call__(self, batch: pa.RecordBatch, first_row: int) -> torch.Tensor:
        """Tensor[rows, outputs], overwritten by the next call."""
        if self._fast:
            out, check = self._near_columns(batch)
            if self._imported or math.isfinite(check):
                return out
            self._slow()
        return self._exact.matrix(self._assembly.complete(batch, first_row))[0]

    def _near_columns(self, batch: pa.RecordBatch) -> tuple[torch.Tensor, float]:
        """Plain numbers by the weights that go with them."""
        if self._fold:
            columns = [batch.column(i) for i in self._assembly.columns]
            if not any(c.null_count for c in columns):
                held = [_float32(c) for c in columns]
                addresses = np.array([a for a, _ in held], np.int64)
                return self._near.columns(addresses, batch.num_rows)
        gathered = self._assembly.gather(batch)
        if not self._fold:
            gathered = self._assembly.standardise(gathered)
        return self._near.matrix(self._assembly.narrow(gathered))


def _float32(column: pa.Array) -> tuple[int, Any]:
    """The address of a column's values as float32, and what keeps them alive."""
    if column.type == pa.float32():
        values = column.buffers()[1]
        return values.address + _FLOAT * column.offset, values
    made = column.to_numpy(zero_copy_only=True).astype(np.float32)
    return made.ctypes.data, made
