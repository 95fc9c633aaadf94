"""Convolution and pooling in strips: some columns of the result need a few more of the input."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F

from gradbase.ir.splitting import arguments_of, groups_of
from gradbase.ir.tensor import TorchOp
from gradbase.runtime.tiled.values import Lazy, Value
from gradbase.runtime.tiled.weights import Weight, rows_of

Apply = Callable[[torch.Tensor, list[int]], torch.Tensor]
"""Of a strip that is padded along its columns already, and the padding along other dimensions."""


class Strips(Lazy):
    """A window moved over images Tensor[rows, channels, …, columns].

    Parameters
    ----------
    x : Value
    shape : of the result
    window, stride, padding, dilation : sequence of int
        For each spatial dimension.
    fill : float
        What stands beyond the edges.
    apply : callable
    """

    def __init__(
        self, x: Value, shape: Sequence[int], *, window: Sequence[int], stride: Sequence[int],
        padding: Sequence[int], dilation: Sequence[int], fill: float, apply: Apply,
    ) -> None:  # fmt: skip
        super().__init__(shape, x.dtype)
        self._x, self._fill, self._apply = x, fill, apply
        self._window, self._stride, self._padding = window[-1], stride[-1], padding[-1]
        self._dilation, self._others = dilation[-1], [*padding[:-1], 0]

    def part(self, start: int, stop: int) -> torch.Tensor:
        first = start * self._stride - self._padding
        last = (stop - 1) * self._stride - self._padding + self._dilation * (self._window - 1) + 1
        strip = self._x.part(max(first, 0), min(last, self._x.shape[-1]))
        beyond = (max(-first, 0), max(last - self._x.shape[-1], 0))
        if any(beyond):
            strip = F.pad(strip, beyond, value=self._fill)
        return self._apply(strip, self._others)


def windowed(
    node: TorchOp, x: Value, weight: Weight | None, bias: torch.Tensor | None, shape: Sequence[int]
) -> Strips:
    """The strips of a convolution or a pooling (`gradbase.ir.splitting` says which)."""
    given, spatial = arguments_of(node), len(shape) - 2
    if weight is None:
        window = _each(given[1], spatial)
        stride = _each(given[2], spatial) if len(given) > 2 and given[2] else window
        padding = _each(given[3] if len(given) > 3 else 0, spatial)
        fill = -torch.inf if node.target.startswith("max") else 0.0
        return Strips(
            x, shape, window=window, stride=stride, padding=padding, dilation=[1] * spatial,
            fill=fill, apply=_pooling(node.target, window, stride, spatial),
        )  # fmt: skip
    dims = node.inputs_[1].shape
    stride, padding, dilation = (
        _each(given[i] if len(given) > i else default, spatial)
        for i, default in ((3, 1), (4, 0), (5, 1))
    )
    apply = _convolution(weight, bias, dims, (stride, dilation, groups_of(node)))
    return Strips(x, shape, window=dims[2:], stride=stride, padding=padding, dilation=dilation,
                  fill=0.0, apply=apply)  # fmt: skip


def _each(value: Any, spatial: int) -> list[int]:
    """A number for each spatial dimension, where one may stand for all."""
    found = value if isinstance(value, list) else [value]
    return found * spatial if len(found) == 1 else found


def _pooling(target: str, window: list[int], stride: list[int], spatial: int) -> Apply:
    functions: dict[str, Any] = {
        "max1": F.max_pool1d, "max2": F.max_pool2d, "avg1": F.avg_pool1d, "avg2": F.avg_pool2d,
    }  # fmt: skip
    function = functions[f"{target[:3]}{spatial}"]
    return lambda strip, padding: function(strip, window, stride, padding)


def _convolution(
    weight: Weight, bias: torch.Tensor | None, dims: Sequence[int],
    moves: tuple[list[int], list[int], int],
) -> Apply:  # fmt: skip
    """Output channels in blocks as the weight's tiles have them."""
    stride, dilation, groups = moves
    convolve: Any = F.conv1d if len(stride) == 1 else F.conv2d
    block = weight.tile_rows if groups == 1 else weight.rows

    def apply(strip: torch.Tensor, padding: list[int]) -> torch.Tensor:
        made: list[torch.Tensor] = []
        for top in range(0, weight.rows, block):
            bottom = min(top + block, weight.rows)
            filters = rows_of(weight, top, bottom).reshape(bottom - top, *dims[1:])
            own = None if bias is None else bias[top:bottom]
            made.append(convolve(strip, filters, own, stride, padding, dilation, groups))
        return made[0] if len(made) == 1 else torch.cat(made, dim=1)

    return apply
