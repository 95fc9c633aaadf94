"""Steps of a program that read a batch: columns become matrices, or first layers of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

import pyarrow as pa
import torch

from gradbase.ir.conversion import ToTensor, Vector
from gradbase.ir.grouping import ByGroup
from gradbase.ir.tensor import Linear, Tensor
from gradbase.runtime.encode import Blobs, encode
from gradbase.runtime.inputs import Assembly
from gradbase.runtime.operators import Buffer, affine

if TYPE_CHECKING:
    from gradbase.runtime.program import Program

FOLDED_SHIFT = 16.0
"""Standardisation is folded where every |mean * scale| is at most this: beyond, float32 cancels."""


class Leaf(Protocol):
    """A step that reads the batch."""

    def __call__(self, batch: pa.RecordBatch, first_row: int) -> torch.Tensor:
        """Tensor[rows, width]."""
        ...


class Encoding(Protocol):
    """What an encoded column needs of its program."""

    positions: dict[str, int]
    weights: dict[Tensor, torch.Tensor]
    blobs: Blobs | None
    imported: bool


def leaf_of(
    program: Program, node: Tensor, types: Sequence[pa.DataType], slow: Callable[[], None]
) -> Leaf:
    """The step that makes `node` from columns of `types`; `slow` hears of tiles encoded twice."""
    match node:
        case ByGroup():
            return _OfGroups(program, node)
        case Linear(x=x):
            return _FirstLayer(program, node, _assembly(program, x, types), slow)
        case _:
            return input_of(program, node, types)


def input_of(program: Encoding, node: Tensor, types: Sequence[pa.DataType]) -> Leaf:
    """The step that makes `node` from columns of `types` by encoding them."""
    if isinstance(node, ToTensor) and (node.dtype != "float32" or _is_plain(node.encoding)):
        return _Alone(program, node)
    return _Matrix(_assembly(program, node, types))


def _is_plain(encoding: object) -> bool:
    """Whether rows are taken as they lie in memory: what reads vectors likes whole rows."""
    return isinstance(encoding, Vector) and encoding.mean is None and encoding.scale is None


def _assembly(program: Encoding, node: Tensor, types: Sequence[pa.DataType]) -> Assembly:
    return Assembly(node, program.positions, types, program.weights, program.blobs,
                    imported=program.imported)  # fmt: skip


class _Alone(Leaf):
    """One column of codes, of float64, or of vectors that nothing is done to."""

    def __init__(self, program: Encoding, node: ToTensor) -> None:
        self._node, self._position = node, program.positions[node.column]
        self._imported = program.imported

    def __call__(self, batch: pa.RecordBatch, first_row: int) -> torch.Tensor:
        return encode(batch.column(self._position), self._node.encoding, name=self._node.column,
                      first_row=first_row, imported=self._imported)  # fmt: skip


class _OfGroups(Leaf):
    """The networks of all groups, each row through that of its own."""

    def __init__(self, program: Program, node: ByGroup) -> None:
        self._predict, self._positions = program.predictor(node), program.positions

    def __call__(self, batch: pa.RecordBatch, first_row: int) -> torch.Tensor:
        columns = {n: batch.column(self._positions[n]) for n in self._predict.columns}
        return torch.from_numpy(self._predict(columns, first_row))


class _Matrix(Leaf):
    def __init__(self, assembly: Assembly) -> None:
        self._assembly = assembly

    def __call__(self, batch: pa.RecordBatch, first_row: int) -> torch.Tensor:
        return self._assembly.complete(batch, first_row).T


class _FirstLayer(Leaf):
    def __init__(
        self, program: Program, node: Linear, assembly: Assembly, slow: Callable[[], None]
    ) -> None:
        self._assembly, self._imported, self._slow = assembly, program.imported, slow
        self._weight = program.weights[node.weight]
        self._bias = None if node.bias is None else program.weights[node.bias]
        self._out = Buffer()
        self._fast = assembly.only_numbers and (assembly.in_order or not program.bitwise)
        self._fold = self._fast and not program.bitwise and assembly.largest_shift <= FOLDED_SHIFT
        if self._fold:
            self._near_weight, self._near_bias = program.folded(node, assembly)
        else:
            self._near_weight, self._near_bias = self._weight[:, assembly.value_rows], self._bias

    def __call__(self, batch: pa.RecordBatch, first_row: int) -> torch.Tensor:
        out = self._out.take(len(self._weight), batch.num_rows)
        if self._fast:
            gathered = self._assembly.gather(batch)
            if not self._fold:
                gathered = self._assembly.standardise(gathered)
            affine(self._near_weight, self._assembly.narrow(gathered), self._near_bias, out)
            # A sum is finite only where every term is.
            if self._imported or math.isfinite(out[0].sum().item()):
                return out.T
            self._slow()
        matrix = self._assembly.complete(batch, first_row)
        return affine(self._weight, matrix, self._bias, out).T
