"""Layers of all members of a stack: linear, convolutions, norms, embeddings, dropout.

A member's numbers depend on no other member: products are batched, convolutions are called one by
one, sums run within a member. Rows behind `Members.rows` are padding, so that all members' rows
begin at aligned addresses.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from gradbase.errors import UnsupportedError
from gradbase.runtime.stacking.convolutions import convolution
from gradbase.runtime.stacking.tensors import (
    Members,
    Rates,
    Stacked,
    all_of,
    mapped,
    members_of,
    rows_innermost,
)
from gradbase.runtime.train.networks import padded


class _Linear(torch.autograd.Function):
    """x [M, B, I] by weight [M, O, I] and bias [M, O], both gradients written out."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:  # type: ignore[override]
        ctx.save_for_backward(x, weight)
        ctx.has_bias = bias is not None
        if bias is None:
            return torch.bmm(x, weight.transpose(1, 2))
        return torch.baddbmm(bias.unsqueeze(1), x, weight.transpose(1, 2))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:  # type: ignore[override]
        (dz,) = grads
        x, weight = ctx.saved_tensors
        dz = dz.contiguous()
        wanted = ctx.needs_input_grad
        dx = torch.bmm(dz, weight) if wanted[0] else None
        dw = None
        if wanted[1]:
            size = weight[0].numel()
            dw = weight.new_empty(len(weight), padded(size))[:, :size].view(weight.shape)
            torch.bmm(dz.transpose(1, 2), x, out=dw)
        return dx, dw, dz.sum(1) if ctx.has_bias and wanted[2] else None


def linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Stacked:  # noqa: A002
    """``F.linear``; a batch that all members share is not copied."""
    of = members_of(input, weight, bias)
    x, w = all_of(input, of), all_of(weight, of)
    rows = x.reshape(of.count, -1, x.shape[-1])
    z: Any = _Linear.apply(rows, w, None if bias is None else all_of(bias, of))
    return Stacked(z.view(*x.shape[:-1], w.shape[1]), of)


class _BatchNorm(torch.autograd.Function):
    """x [M, B, C, L] standardised by the first `rows` rows, for each member and channel; then
    times `weight` plus `bias` [M, 1, C, 1].

    Source: Ioffe and Szegedy 2015, section 3.
    """

    @staticmethod
    def forward(  # type: ignore[override]  # noqa: PLR0917
        ctx: Any, x: Tensor, weight: Tensor | None, bias: Tensor | None, rows: int, eps: float
    ) -> Any:
        count = (
            rows * x.shape[3]
        )  # (torch.var_mean takes ten times as long where rows are innermost)
        mean = x[:, :rows].sum((1, 3), keepdim=True).div_(count)
        z = x - mean
        own = z[:, :rows]
        var = (own * own).sum((1, 3), keepdim=True).div_(count)
        scale = (var + eps).rsqrt_()
        z.mul_(scale)
        ctx.save_for_backward(z, scale, weight)
        ctx.rows, ctx.has_bias = rows, bias is not None
        ctx.mark_non_differentiable(mean, var)
        if weight is not None:
            z = z * weight if bias is None else torch.addcmul(bias, z, weight)
        return z, mean, var

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:  # type: ignore[override]
        z, scale, weight = ctx.saved_tensors
        dz, rows = grads[0], ctx.rows
        inner, normal = dz[:, :rows], z[:, :rows]
        of_bias = inner.sum((1, 3), keepdim=True)
        of_weight = (inner * normal).sum((1, 3), keepdim=True)
        count = rows * z.shape[3]
        dx = dz - of_bias / count
        dx.addcmul_(z, of_weight, value=-1 / count).mul_(
            scale if weight is None else scale * weight
        )
        dx[:, rows:] = 0
        own = weight is not None
        return dx, of_weight if own else None, of_bias if ctx.has_bias else None, None, None


def batch_norm(  # noqa: PLR0917
    input: Tensor,  # noqa: A002
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Stacked:
    """``F.batch_norm``; running statistics of all members are changed in place."""
    of = members_of(input, weight, bias, running_mean)
    x = all_of(input, of)
    flat = x.reshape(*x.shape[:3], -1)
    channels = (of.count, 1, flat.shape[2], 1)
    w, b = (None if v is None else all_of(v, of).view(channels) for v in (weight, bias))
    if training:
        z, mean, var = _standardised(flat, w, b, of.rows, eps)
        count = of.rows * flat.shape[3]
        _move(running_mean, mean, momentum, 1.0)
        _move(running_var, var, momentum, count / max(count - 1, 1))
    else:
        assert running_mean is not None
        assert running_var is not None
        mean, var = (all_of(v, of).view(channels) for v in (running_mean, running_var))
        z = (flat - mean) * (var + eps).rsqrt()
        z = z if w is None else z * w
        z = z if b is None else z + b
    return Stacked(z.view(x.shape), of)


def _standardised(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, rows: int, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    if rows * x.shape[3] < 2:
        shape = [rows, *x.shape[2:]]
        raise ValueError(
            f"Expected more than 1 value per channel when training, got input size {shape}"
        )
    found: Any = _BatchNorm.apply(x, weight, bias, rows, eps)
    return found


def _move(running: Tensor | None, found: Tensor, momentum: float, factor: float) -> None:
    if isinstance(running, Stacked):
        own = running.value
        with torch.no_grad():
            own.mul_(1 - momentum).add_(found.view(own.shape), alpha=momentum * factor)


def layer_norm(
    input: Tensor,  # noqa: A002
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Stacked:
    """``F.layer_norm``; one call for the rows of all members."""
    of = members_of(input, weight, bias)
    x = all_of(input, of)
    between = [1] * (x.dim() - 1 - len(normalized_shape))
    z = F.layer_norm(x, list(normalized_shape), eps=eps)
    return _affine(z, weight, bias, of, (*between, *normalized_shape))


def group_norm(
    input: Tensor,  # noqa: A002
    num_groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Stacked:
    """``F.group_norm``; one call for the rows of all members."""
    of = members_of(input, weight, bias)
    x = all_of(input, of)
    z = F.group_norm(x.reshape(-1, *x.shape[2:]), num_groups, eps=eps).view(x.shape)
    return _affine(z, weight, bias, of, (1, x.shape[2], *[1] * (x.dim() - 3)))


def _affine(
    z: Tensor, weight: Tensor | None, bias: Tensor | None, of: Members, shape: Sequence[int]
) -> Stacked:
    """z times each member's weight plus its bias, both of `shape` behind the members."""
    if weight is not None:
        z = z * all_of(weight, of).reshape(of.count, *shape)
    return Stacked(z if bias is None else z + all_of(bias, of).reshape(of.count, *shape), of)


def embedding(  # noqa: PLR0917
    input: Tensor,  # noqa: A002
    weight: Tensor,
    padding_idx: int | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> Stacked:
    """``F.embedding``; codes that all members share are looked up in all tables at once."""
    del norm_type
    if max_norm is not None or scale_grad_by_freq or sparse or padding_idx is not None:
        raise UnsupportedError("an embedding with padding_idx, max_norm or sparse gradients "
                               "cannot be computed for several networks at once")  # fmt: skip
    of = members_of(input, weight)
    table = all_of(weight, of)
    if not isinstance(input, Stacked) or input.shared:
        codes = input.value if isinstance(input, Stacked) else input
        found = table.index_select(1, codes.reshape(-1))
        return Stacked(found.view(of.count, *codes.shape, -1), of)
    codes = input.value
    member = torch.arange(of.count).view(-1, *[1] * (codes.dim() - 1))
    return Stacked(table[member, codes], of)


def _dropout(like: Callable[[Tensor], Tensor]) -> Callable[..., Any]:
    """Dropout whose draws fill a tensor that `like` makes of a member's rows."""

    def layer(
        input: Tensor,  # noqa: A002
        p: float = 0.5,
        training: bool = True,
        inplace: bool = False,
    ) -> Tensor:
        del inplace
        if not training or (not isinstance(p, Rates) and p == 0):
            return input
        assert isinstance(input, Stacked)
        of, value = input.of, input.value
        rates = p.each if isinstance(p, Rates) else (p,) * of.count
        first = (value if input.shared else value[0])[: of.rows]
        first = first.contiguous() if rows_innermost(value) else first  # as it is for one alone
        masks = _masks(of, rates, lambda: like(first))
        padding = input.shape[0] - of.rows
        masks = F.pad(masks, (0, 0) * (masks.dim() - 2) + (0, padding)) if padding else masks
        return Stacked(input.spread() * masks, of)

    return layer


def _masks(of: Members, rates: Sequence[float], empty: Callable[[], Tensor]) -> Tensor:
    """What each member's values are multiplied by: as ``F.dropout`` draws it for one alone.

    Draws fill memory in its order, so `empty` must give what lies as it does for one alone.
    """
    drawn: dict[int, Tensor] = {}
    for stream, rate in zip(of.stream_of, rates, strict=True):
        if stream in drawn:
            continue
        mask = empty().fill_(1.0)
        if rate > 0:
            mask = mask.bernoulli_(1 - rate, generator=of.streams[stream])
            mask = mask.div_(1 - rate) if rate < 1 else mask
        drawn[stream] = mask
    return torch.stack([drawn[s] for s in of.stream_of])


def attention(*args: Any, **kwargs: Any) -> Any:
    """``F.multi_head_attention_forward`` of queries, keys and values of equal width."""
    names = list(inspect.signature(F.multi_head_attention_forward).parameters)
    given = dict(zip(names, args, strict=False)) | kwargs
    unusual = ("bias_k", "bias_v", "key_padding_mask", "attn_mask", "q_proj_weight", "static_k")
    plain = not given.get("need_weights", True) and not given.get("add_zero_attn")
    if not plain or any(given.get(n) is not None for n in unusual) or given.get("is_causal"):
        return mapped(F.multi_head_attention_forward, args, kwargs)
    weight, bias = given["in_proj_weight"], given["in_proj_bias"]
    of, heads = members_of(weight), given["num_heads"]
    query: Tensor = given["query"]
    length, rows, width = query.shape

    def projected(place: int, name: str) -> Tensor:
        part = slice(place * width, (place + 1) * width)
        b = None if bias is None else Stacked(all_of(bias, of)[:, part], of)
        x = linear(given[name], Stacked(all_of(weight, of)[:, part], of), b).value  # [M, L, B, E]
        return x.unflatten(3, (heads, -1)).permute(0, 2, 3, 1, 4).flatten(0, 1)

    q, k, v = (projected(i, n) for i, n in enumerate(("query", "key", "value")))
    mixed = _attended(q, k, v, of, given["dropout_p"] if given.get("training", True) else 0.0)
    joined = mixed.view(of.count, rows, heads, length, -1).permute(0, 3, 1, 2, 4).flatten(3)
    found = linear(
        Stacked(joined.reshape(of.count, length, rows, width), of),
        given["out_proj_weight"], given["out_proj_bias"],
    )  # fmt: skip
    return found, None


def _attended(q: Tensor, k: Tensor, v: Tensor, of: Members, p: float) -> Tensor:
    """Attention of the rows of all members [M * B, heads, L, d], with dropout of its weights."""
    if not p:
        return F.scaled_dot_product_attention(q, k, v)
    weights = torch.softmax(q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5, -1)
    masks = _masks(of, (p,) * of.count, lambda: torch.empty_like(weights[: of.rows]))
    masks = F.pad(masks, (0, 0) * 3 + (0, len(weights) // of.count - of.rows))
    return (weights * masks.flatten(0, 1)) @ v


def flatten(input: Stacked, start_dim: int = 0, end_dim: int = -1) -> Stacked:  # noqa: A002
    """``torch.flatten``; by itself for what lies behind the rows."""
    if start_dim < 1 or end_dim != -1:
        return mapped(torch.flatten, (input, start_dim, end_dim), {})
    at = start_dim if input.shared else start_dim + 1
    return Stacked(torch.flatten(input.value, at), input.of, shared=input.shared)


def _of_channels(x: Tensor) -> Tensor:
    return x.new_empty((*x.shape[:2], *[1] * (x.dim() - 2)))


_CONVOLUTIONS = (
    torch.conv1d, torch.conv2d, torch.conv3d, F.conv_transpose1d, F.conv_transpose2d,
    F.conv_transpose3d,
)  # fmt: skip
LAYERS: dict[Callable[..., Any], Callable[..., Any]] = {
    F.linear: linear,
    F.batch_norm: batch_norm,
    F.layer_norm: layer_norm,
    F.group_norm: group_norm,
    F.embedding: embedding,
    F.multi_head_attention_forward: attention,
    torch.flatten: flatten,
    Tensor.flatten: flatten,
    torch.dropout: _dropout(torch.empty_like),
    F.dropout: _dropout(torch.empty_like),
    **dict.fromkeys((F.dropout1d, F.dropout2d, F.dropout3d), _dropout(_of_channels)),
    **{function: convolution(function) for function in _CONVOLUTIONS},
}
"""torch's functions and what computes them for all members."""
