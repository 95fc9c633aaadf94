"""Where the parameters of a stack of modules lie: one flat vector, block by block."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from gradbase.runtime.train.networks import padded


class ModuleBlocks:
    """One flat vector with `count` members' parameters, each at an aligned address.

    As `networks.Blocks`, for parameters of any shape.

    Parameters
    ----------
    shapes : sequence of shapes
        Of one member's parameters.
    count : int
    """

    def __init__(self, shapes: Sequence[Sequence[int]], count: int) -> None:
        self.shapes, self.count = [tuple(s) for s in shapes], count
        self._each = [padded(math.prod(s)) for s in self.shapes]
        self.sizes = [count * size for size in self._each]
        self.total = sum(self.sizes)

    def views(self, flat: Tensor) -> list[Tensor]:
        """The parameters as Tensor[count, *shape] each, sharing the memory of `flat`."""
        parts = torch.split(flat, self.sizes)
        return [
            p.view(self.count, -1)[:, : math.prod(s)].unflatten(1, s or (1,)).view(self.count, *s)
            for p, s in zip(parts, self.shapes, strict=True)
        ]

    def column(self, values: Sequence[float], dtype: torch.dtype) -> Tensor:
        """A flat vector with `values[k]` at every parameter of member k."""
        each = torch.tensor(list(values), dtype=dtype)
        return torch.cat([each.repeat_interleave(size) for size in self._each])

    def without_biases(self, dtype: torch.dtype) -> Tensor:
        """A flat vector with 1 at matrices and larger, 0 at vectors."""
        parts = [
            torch.full((size,), float(len(shape) > 1), dtype=dtype)
            for size, shape in zip(self.sizes, self.shapes, strict=True)
        ]
        return torch.cat(parts)
