"""Products with weights as streams of joins of tiles with running sums, and gathers of their rows.

``y[m, o] = sum over i of x[m, i] * w[o, i]``: tiles of x and w are joined on i and added up for
each o. Going along o with all of x at hand, a part of y is done at a time and no sum is kept;
going along i, x may come as a stream and y is what is kept. Either way each tile of w is read once.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from gradbase.runtime.tiled.values import Lazy, Value, Workers, even_cuts, pairs
from gradbase.runtime.tiled.weights import Weight


class Product:
    """``x @ weight.T + bias``, or ``x @ weight`` where `transposed`."""

    def __init__(self, weight: Weight, bias: torch.Tensor | None, *, transposed: bool) -> None:
        self.weight, self.bias, self.transposed = weight, bias, transposed
        self.outputs = weight.cols if transposed else weight.rows
        self.output_tile = weight.tile_cols if transposed else weight.tile_rows

    def add(
        self, sums: torch.Tensor, x: Value | torch.Tensor, place: tuple[int, int, int, int]
    ) -> None:
        """Add to `sums` what inputs and outputs of a place give; `x` holds the inputs from its
        first on, or is read for each tile."""
        first_in, last_in, first_out, last_out = place
        across = (first_in, last_in, first_out, last_out)
        if not self.transposed:
            across = (first_out, last_out, first_in, last_in)
        for top, bottom, left, right, piece in self.weight.pieces(*across):
            tile = piece if self.transposed else piece.T  # [inputs, outputs]
            low, high = (top, bottom) if self.transposed else (left, right)
            out, end = (left, right) if self.transposed else (top, bottom)
            if isinstance(x, torch.Tensor):
                part = x[:, low - first_in : high - first_in]
            else:
                part = _matrix(x.part(low, high))
            sums[:, out - first_out : end - first_out].addmm_(part, tile)


class ProductParts(Lazy):
    """A product whose input is at hand, a part of its outputs at a time."""

    def __init__(self, product: Product, x: Value, dtype: torch.dtype) -> None:
        super().__init__((*x.shape[:-1], product.outputs), dtype)
        self._product, self._x = product, x
        self._rows, self._inputs = math.prod(x.shape[:-1]), x.shape[-1]

    def part(self, start: int, stop: int) -> torch.Tensor:
        bias = self._product.bias
        sums = torch.zeros((self._rows, stop - start), dtype=self.dtype)
        if bias is not None:
            sums += bias[start:stop]
        self._product.add(sums, self._x, (0, self._inputs, start, stop))
        return sums.reshape(*self.shape[:-1], stop - start)

    def cuts(self, width: int) -> Sequence[int]:
        tile = self._product.output_tile
        return even_cuts(self.shape[-1], width, tile * max(1, width // tile))


def summed(product: Product, x: Value, width: int, workers: Workers) -> torch.Tensor:
    """A product whose input comes in parts, Tensor[…, outputs].

    Each thread adds up the parts that are its own; their sums are added in order, so the result
    does not depend on which thread was faster.
    """
    rows, parts = math.prod(x.shape[:-1]), pairs(x.cuts(width))
    sums = [torch.zeros((rows, product.outputs), dtype=x.dtype)
            for _ in range(min(workers.threads, len(parts)))]  # fmt: skip

    def add(i: int, thread: int) -> None:
        start, stop = parts[i]
        part = _matrix(x.part(start, stop))
        product.add(sums[thread], part, (start, stop, 0, product.outputs))

    workers.each(len(parts), add)
    total = sums[0]
    for other in sums[1:]:
        total += other
    if product.bias is not None:
        total += product.bias
    return total.reshape(*x.shape[:-1], product.outputs)


class Gathered(Lazy):
    """Rows of a weight by number, sorted so that each tile is read once.

    Parameters
    ----------
    codes : Tensor int64
    weight : Weight
    shape : of the result
    """

    def __init__(
        self, codes: torch.Tensor, weight: Weight, shape: Sequence[int], dtype: torch.dtype
    ) -> None:
        super().__init__(shape, dtype)
        self._weight = weight
        self._sorted, self._order = codes.reshape(-1).sort()

    def part(self, start: int, stop: int) -> torch.Tensor:
        made = torch.empty((len(self._sorted), stop - start), dtype=self.dtype)
        size = self._weight.tile_rows
        blocks, counts = torch.unique_consecutive(self._sorted // size, return_counts=True)
        at = 0
        for block, count in zip(blocks.tolist(), counts.tolist(), strict=True):
            codes, places = self._sorted[at : at + count], self._order[at : at + count]
            at += count
            top, bottom = block * size, min((block + 1) * size, self._weight.rows)
            for low, _, first, last, piece in self._weight.pieces(top, bottom, start, stop):
                made[places, first - start : last - start] = piece[codes - low]
        return made.reshape(*self.shape[:-1], stop - start)


def _matrix(x: torch.Tensor) -> torch.Tensor:
    return x if x.dim() == 2 else x.reshape(-1, x.shape[-1])
