"""Convolutions of all members of a stack: small ones as one product, others called one by one.

Small convolutions spend their time on calls. Here rows become the innermost dimension, [members,
channels, height, width, rows]: patches are then long runs of memory, the product for all members is
one batched call, and what follows (norms, functions of elements, pools) finds a channel's values
side by side.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from gradbase.runtime.stacking.tensors import Members, Stacked, all_of, members_of
from gradbase.runtime.train.networks import padded

_MOST = 1 << 17
"""Elements of one member's patches, above which they leave the cache and torch's own are faster."""
Pair = tuple[int, int]


class Window(NamedTuple):
    """How a kernel of `size` moves over (padded) images; the result's height and width."""

    size: Pair
    stride: Pair
    dilation: Pair
    result: Pair

    def steps(self, axis: int) -> list[slice]:
        """What each place of the kernel sees, along an axis of the images."""
        stride, dilation, count = self.stride[axis], self.dilation[axis], self.result[axis]
        return [
            slice(k * dilation, k * dilation + (count - 1) * stride + 1, stride)
            for k in range(self.size[axis])
        ]

    def patches(self, x: Tensor) -> Tensor:
        """[members, channels * kernel, result * rows] of images [members, C, H, W, rows]."""
        (sh, sw), (dh, dw) = self.stride, self.dilation
        each, channel, down, right, row = x.stride()
        found = x.as_strided(
            (*x.shape[:2], *self.size, *self.result, x.shape[4]),
            (each, channel, down * dh, right * dw, down * sh, right * sw, row),
        )
        return found.reshape(len(x), x.shape[1] * math.prod(self.size), -1)

    def spread(self, patches: Tensor, like: Tensor) -> Tensor:
        """Adjoint of `patches`: images as `like`, of which every value is a sum over patches."""
        parts = patches.view(*like.shape[:2], *self.size, *self.result, like.shape[4])
        found = torch.zeros_like(like)
        for i, rows in enumerate(self.steps(0)):
            for j, columns in enumerate(self.steps(1)):
                found[:, :, rows, columns] += parts[:, :, i, j]
        return found


class _Convolution(torch.autograd.Function):
    """x [M or 1, C, H, W, B] by weight [M, O, C, h, w] -> [M, O, H', W', B]; gradients written out.

    Source: Chellapilla, Puri and Simard 2006 (convolutions as products of patches).
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, at: Window) -> Tensor:  # type: ignore[override]
        patches, flat = at.patches(x), weight.flatten(2)
        every = patches.expand(len(weight), -1, -1)
        z = x.new_empty(*weight.shape[:2], *at.result, x.shape[4])
        if bias is None:
            torch.bmm(flat, every, out=z.flatten(2))
        else:
            torch.baddbmm(bias.unsqueeze(2), flat, every, out=z.flatten(2))
        ctx.save_for_backward(x, weight, patches)
        ctx.at, ctx.has_bias = at, bias is not None
        return z

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:  # type: ignore[override]
        x, weight, patches = ctx.saved_tensors
        dz = grads[0].contiguous().flatten(2)
        wanted = ctx.needs_input_grad
        dx = dw = None
        if wanted[0]:
            dx = ctx.at.spread(torch.bmm(weight.flatten(2).transpose(1, 2), dz), x)
        if wanted[1]:
            size = weight[0].numel()
            dw = weight.new_empty(len(weight), padded(size))[:, :size].view(weight.shape)
            torch.bmm(dz, patches.transpose(1, 2).expand(len(weight), -1, -1), out=dw.flatten(2))
        return dx, dw, dz.sum(2) if ctx.has_bias and wanted[2] else None, None


def convolution(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function` for the members of a stack."""

    def layer(
        input: Tensor,  # noqa: A002
        weight: Tensor,
        bias: Tensor | None = None,
        *args: Any,
        **kwargs: Any,
    ) -> Stacked:
        of = members_of(input, weight, bias)
        if function is torch.conv2d:
            found = _as_product(input, weight, bias, of, *args, **kwargs)
            if found is not None:
                return found
        xs, ws = all_of(input, of).unbind(), all_of(weight, of).unbind()
        bs = [None] * of.count if bias is None else all_of(bias, of).unbind()
        found = [function(x, w, b, *args, **kwargs) for x, w, b in zip(xs, ws, bs, strict=True)]
        return Stacked(torch.stack(found), of)

    return layer


def _as_product(  # noqa: PLR0917
    input: Tensor,  # noqa: A002
    weight: Tensor,
    bias: Tensor | None,
    of: Members,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Stacked | None:
    """A convolution of two dimensions as one product; None where it is large or unusual."""
    if groups != 1 or isinstance(padding, str) or input.dim() != 4:
        return None
    kernel, stride, padding, dilation = map(
        _pair, (tuple(weight.shape[2:]), stride, padding, dilation)
    )
    result = _pair([
        (size + 2 * p - d * (k - 1) - 1) // s + 1
        for size, p, d, k, s in zip(input.shape[2:], padding, dilation, kernel, stride, strict=True)
    ])  # fmt: skip
    elements = math.prod(weight.shape[1:]) * math.prod(result) * input.shape[0]
    if min(result) < 1 or elements > _MOST:
        return None
    value = input.value if isinstance(input, Stacked) else input
    shared = not isinstance(input, Stacked) or input.shared
    images = (value[None] if shared else value).permute(0, 2, 3, 4, 1)
    ph, pw = padding
    images = F.pad(images, (0, 0, pw, pw, ph, ph)) if ph or pw else images
    b = None if bias is None else all_of(bias, of)
    at = Window(kernel, stride, dilation, result)
    z: Any = _Convolution.apply(images.contiguous(), all_of(weight, of), b, at)
    return Stacked(z.permute(0, 4, 1, 2, 3), of)


def _pair(value: Any) -> Pair:
    """One number for both dimensions, or one for each."""
    if isinstance(value, int):
        return value, value
    first, *rest = value
    return first, *(rest or [first])  # type: ignore[return-value]
