"""Multilayer perceptrons: the shape of their parameters, and where these start."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from gradbase.ir.learning import Mlp
from gradbase.ir.networks import WideDeep
from gradbase.runtime.train.keys import generator

if TYPE_CHECKING:
    from gradbase.runtime.train.data import TrainingData

ALIGNED = 16
"""Members of a stack lie at multiples of so many elements: products round by their alignment."""


@dataclass(frozen=True)
class MlpShape:
    """Everything that two perceptrons must have in common to train as one stack.

    Parameters
    ----------
    dense : int
        Columns of the input matrix; the last one is constantly 1, so that the first layer's bias
        is a row of its weight.
    embeddings : tuple of (codes, width)
    hidden : tuple of int
    outputs : int
    activation : str
    aligned : bool
        Parameters lie in blocks padded with zeros (which stay zero).
    """

    dense: int
    embeddings: tuple[tuple[int, int], ...]
    hidden: tuple[int, ...]
    outputs: int
    activation: str = "relu"
    aligned: bool = False

    @property
    def wide(self) -> int:
        """Columns that embeddings add to the first layer's input."""
        return sum(width for _, width in self.embeddings)

    @functools.cached_property
    def columns(self) -> tuple[int, int]:
        """`dense` and `wide` with padding: only a linear model's outputs do not pad enough."""
        return (self.dense, self.wide) if self.hidden else tuple(map(self._up, self.sizes))  # type: ignore[return-value]

    @property
    def sizes(self) -> tuple[int, int]:
        """`dense` and `wide`."""
        return self.dense, self.wide

    @functools.cached_property
    def widths(self) -> tuple[int, ...]:
        """Outputs of each layer, with padding."""
        return (*map(self._up, self.hidden), self.outputs)

    @functools.cached_property
    def blocks(self) -> tuple[tuple[int, ...], ...]:
        """Shapes of the parameters with padding, weights as (in, out).

        First layer over the matrix; first layer over the embeddings; the embeddings; then weight
        and bias of each further layer.
        """
        return self._blocks(*self.columns, self.widths)

    @functools.cached_property
    def true_blocks(self) -> tuple[tuple[int, ...], ...]:
        """`blocks` without padding."""
        return self._blocks(self.dense, self.wide, (*self.hidden, self.outputs))

    def _blocks(
        self, dense: int, wide: int, widths: tuple[int, ...]
    ) -> tuple[tuple[int, ...], ...]:
        found: list[tuple[int, ...]] = [(dense, widths[0])]
        if self.embeddings:
            found += [(wide, widths[0]), *self.embeddings]
        for before, after in itertools.pairwise(widths):
            found += [(before, after), (after,)]
        return tuple(found)

    @functools.cached_property
    def first_dense_layer(self) -> int:
        """Index in `blocks` of the second layer's weight."""
        return 1 + (1 + len(self.embeddings) if self.embeddings else 0)

    def _up(self, size: int) -> int:
        return -(-size // ALIGNED) * ALIGNED if self.aligned else size


def shape_sizes(network: Mlp, data: TrainingData) -> tuple[list[tuple[int, int]], int]:
    """(inputs, outputs) of each layer of a perceptron over `data`; weights beside those.

    These are of embeddings and of a linear part, which has embeddings of its own.
    """
    embeddings = data.inputs.embeddings
    inputs = data.inputs.width + sum(width for _, width in embeddings)
    embedded = sum(codes * width for codes, width in embeddings)
    layers = list(itertools.pairwise([inputs, *network.hidden_units, data.outputs]))
    if isinstance(network, WideDeep):
        return layers, 2 * embedded + inputs * data.outputs
    return layers, embedded


def initial(shape: MlpShape, seed: int, dtype: torch.dtype, part: str = "") -> list[torch.Tensor]:
    """Starting parameters in the order of `shape.true_blocks`, distributed as in ``torch.nn``.

    Linear layers: uniform in +-1/sqrt(inputs), bias too; embeddings: standard normal. They depend
    on `shape`, `seed` and `part` alone, so trials of equal shape start at the same point.
    """
    draw = generator(seed, f"{part}weights")
    widths = (*shape.hidden, shape.outputs)
    weight, bias = _linear(shape.dense - 1 + shape.wide, widths[0], draw, dtype)
    dense = shape.dense - 1
    found = [torch.cat([weight[:dense], bias[None]])]
    if shape.embeddings:
        found.append(weight[dense:].clone())
        found += [torch.randn(*e, generator=draw, dtype=dtype) for e in shape.embeddings]
    for before, after in itertools.pairwise(widths):
        found += _linear(before, after, draw, dtype)
    return found


def _linear(
    inputs: int, outputs: int, draw: torch.Generator, dtype: torch.dtype
) -> list[torch.Tensor]:
    """[weight (inputs, outputs), bias (outputs,)]."""
    bound = 1 / math.sqrt(max(inputs, 1))
    both = torch.rand(inputs + 1, outputs, generator=draw, dtype=dtype)
    both = both.mul_(2 * bound).sub_(bound)
    return [both[:inputs].clone(), both[inputs].clone()]


def padded(elements: int) -> int:
    """Elements rounded up so that no value is in the rest of a vectorised loop.

    torch computes the last few elements of a tensor one by one, and rounds them differently; with
    padding these are never real values, and a member's numbers do not depend on where it lies.
    """
    return -(-elements // 64) * 64


class Blocks:
    """One flat vector that holds `count` members' parameters, parameter by parameter.

    `flat` is [all members' first block | all members' second block | …], so a block of all members
    is one contiguous Tensor[count, *block]: what batched products need. It is `padded`.
    """

    def __init__(self, shape: MlpShape, count: int) -> None:
        self.shape, self.count = shape, count
        self.sizes = [count * math.prod(b) for b in shape.blocks]
        self.total = padded(sum(self.sizes))
        self._rest = self.total - sum(self.sizes)

    def views(self, flat: torch.Tensor) -> list[torch.Tensor]:
        """The blocks of `flat` as Tensor[count, *block] each, sharing its memory."""
        parts = torch.split(flat, [*self.sizes, self._rest])[:-1]
        return [p.view(self.count, *b) for p, b in zip(parts, self.shape.blocks, strict=True)]

    def place(self, flat: torch.Tensor, member: int, layers: Sequence[torch.Tensor]) -> None:
        """Write one member's parameters, without padding, into `flat`."""
        for view, layer in zip(self.views(flat), layers, strict=True):
            view[(member, *map(slice, layer.shape))] = layer

    def layers(self, flat: torch.Tensor, member: int) -> list[torch.Tensor]:
        """Inverse of `place`: views in the order of ``shape.true_blocks``."""
        return [
            view[(member, *map(slice, block))]
            for view, block in zip(self.views(flat), self.shape.true_blocks, strict=True)
        ]

    def gather(self, flat: torch.Tensor, member: int) -> torch.Tensor:
        """One member's parameters as a vector of its own."""
        return torch.cat([v[member].reshape(-1) for v in self.views(flat)])

    def scatter(self, flat: torch.Tensor, member: int, values: torch.Tensor) -> None:
        """Inverse of `gather`, in place."""
        sizes = [size // self.count for size in self.sizes]
        for view, part in zip(self.views(flat), torch.split(values, sizes), strict=True):
            view[member] = part.view(view.shape[1:])

    def column(self, values: Sequence[float], dtype: torch.dtype) -> torch.Tensor:
        """A flat vector with `values[k]` at every parameter of member k."""
        each = torch.tensor(list(values), dtype=dtype)
        parts = [each.repeat_interleave(size // self.count) for size in self.sizes]
        return torch.cat([*parts, torch.zeros(self._rest, dtype=dtype)])

    def without_biases(self, dtype: torch.dtype) -> torch.Tensor:
        """A flat vector with 1 at weights and embeddings, 0 at biases."""
        flat = torch.ones(self.total, dtype=dtype)
        views = self.views(flat)
        views[0][:, self.shape.dense - 1] = 0
        for bias in views[self.shape.first_dense_layer + 1 :: 2]:
            bias.zero_()
        return flat
