"""Tensors of several networks at once: what a module does with one is done for every member.

A module that is given a `Stacked` runs its own Python code once. Every torch function that it calls
comes here: layers that we know are computed by `layers`, functions of single elements over all
members in one call, the rest by ``torch.vmap``. Nothing in torch is patched and nothing is traced,
so any number of stacks may train in threads, beside other modules.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils import _pytree as pytree

from gradbase.errors import UnsupportedError

Generators = list[torch.Generator]


@dataclass
class Members:
    """What the tensors of a stack have in common.

    Parameters
    ----------
    count : int
        Members.
    rows : int
        Rows of the batch that are none of padding.
    streams : list of Generator
        Random numbers of dropout; members of equal seed and rates share one.
    stream_of : sequence of int
        Which stream each member draws from.
    """

    count: int
    rows: int = 0
    streams: Generators = field(default_factory=list[torch.Generator])
    stream_of: Sequence[int] = ()


class Rates(float):
    """The rate of a dropout layer, one for each member; as a number it is the first one's."""

    each: tuple[float, ...]

    @classmethod
    def of(cls, each: Sequence[float]) -> Rates:
        """Rates in the order of the members."""
        made = cls(each[0])
        made.each = tuple(each)
        return made


class Stacked(Tensor):
    """`value` Tensor[members, *shape], of which a module sees one member: Tensor[*shape].

    `shared`: all members see the same `value` Tensor[*shape].
    """

    value: Tensor
    of: Members
    shared: bool

    def __new__(cls, value: Tensor, of: Members, *, shared: bool = False) -> Self:
        del of
        shape = value.shape if shared else value.shape[1:]
        return torch.Tensor._make_wrapper_subclass(  # noqa: SLF001 (the documented way)
            cls, shape, dtype=value.dtype
        )

    def __init__(self, value: Tensor, of: Members, *, shared: bool = False) -> None:
        super().__init__()
        self.value, self.of, self.shared = value, of, shared

    @classmethod
    def __torch_function__(
        cls,
        func: Callable[..., Any],
        _types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        from gradbase.runtime.stacking.layers import LAYERS

        kwargs = kwargs or {}
        with torch._C.DisableTorchFunctionSubclass():  # noqa: SLF001 (as torch's own subclasses do)
            if func in _ABOUT:
                return func(*args, **kwargs)
            own = LAYERS.get(func)
            if own is not None:
                return own(*args, **kwargs)
            if func in _ELEMENTWISE and _alike(args):
                return _directly(func, args, kwargs)
            if func in _ROW_BY_ROW and isinstance(args[0], Stacked):
                return _folded(func, args, kwargs)
            return mapped(func, args, kwargs)

    @classmethod
    def __torch_dispatch__(cls, func: Any, *_: object) -> Any:
        raise UnsupportedError(f"`{func}` cannot be computed for several networks at once")

    def spread(self) -> Tensor:
        """Tensor[members, *shape], the same memory for all where it is shared."""
        return self.value.expand(self.of.count, *self.value.shape) if self.shared else self.value

    def like(self, value: Tensor) -> Stacked:
        """Another value of all members."""
        return Stacked(value, self.of)


_ABOUT: set[Callable[..., Any]] = {
    Tensor.size, Tensor.dim, Tensor.numel, Tensor.stride, Tensor.__len__, Tensor.is_floating_point,
    torch.is_floating_point, Tensor.ndimension, Tensor.is_contiguous, Tensor.get_device,
    Tensor.shape.__get__, Tensor.dtype.__get__, Tensor.device.__get__, Tensor.ndim.__get__,  # type: ignore[attr-defined]
    Tensor.is_cuda.__get__, Tensor.requires_grad.__get__, Tensor.layout.__get__,  # type: ignore[attr-defined]
    Tensor.is_nested.__get__, Tensor.is_sparse.__get__, Tensor.is_quantized.__get__,  # type: ignore[attr-defined]
}  # fmt: skip
"""What does not look at values: answered as one member would."""

_ELEMENTWISE: set[Callable[..., Any]] = {
    F.relu, F.relu_, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_, F.relu6, F.gelu, F.silu,
    F.elu, F.selu, F.leaky_relu, F.softplus, F.hardtanh, F.mish, F.logsigmoid, F.hardswish, F.tanh,
    F.sigmoid, torch.tanh, torch.sigmoid, Tensor.tanh, Tensor.sigmoid, torch.exp, Tensor.exp,
    torch.sin, torch.cos, torch.abs, Tensor.abs, Tensor.square, torch.square, Tensor.sqrt,
    torch.sqrt, Tensor.neg, Tensor.add, Tensor.add_, Tensor.sub, Tensor.mul, Tensor.div, torch.add,
    torch.sub, torch.mul, torch.div, Tensor.__add__, Tensor.__radd__, Tensor.__iadd__,
    Tensor.__sub__, Tensor.__rsub__, Tensor.__mul__, Tensor.__rmul__, Tensor.__truediv__,
    Tensor.__neg__, Tensor.__pow__, Tensor.pow, Tensor.contiguous, Tensor.float, Tensor.clone,
    Tensor.clamp, torch.clamp, Tensor.long,
}  # fmt: skip
_ROW_BY_ROW: set[Callable[..., Any]] = {
    F.max_pool1d, F.max_pool2d, F.max_pool3d, F.avg_pool1d, F.avg_pool2d, F.avg_pool3d,
    F.adaptive_avg_pool1d, F.adaptive_avg_pool2d, F.adaptive_avg_pool3d, F.adaptive_max_pool1d,
    F.adaptive_max_pool2d, torch.max_pool1d, torch.max_pool2d, torch.adaptive_avg_pool1d,
}  # fmt: skip
"""Functions that treat the first dimension row by row, whatever their arguments."""


def members_of(*values: object) -> Members:
    """The members of the first stacked one of a layer's tensors."""
    return next(v.of for v in values if isinstance(v, Stacked))


def rows_innermost(value: Tensor) -> bool:
    """Whether Tensor[members, rows, …] lies as `convolutions` makes it, or is a view of such."""
    return value.dim() > 2 and value.stride(1) == 1 and value.stride(-1) > 1


def all_of(value: Tensor, of: Members) -> Tensor:
    """Tensor[members, *shape] of a layer's parameter or input."""
    if isinstance(value, Stacked):
        return value.spread()
    return value.expand(of.count, *value.shape)


def _alike(args: tuple[Any, ...]) -> bool:
    """Whether tensors among the arguments have as many dimensions, so that they broadcast alike."""
    tensors = [a for a in args if isinstance(a, Tensor)]
    return len({t.dim() for t in tensors}) <= 1


def _directly(func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    of = _of((args, kwargs))
    tensors = [a for a in args if isinstance(a, Tensor)]
    shared = all(isinstance(a, Stacked) and a.shared for a in tensors)
    found = func(*[a.value if isinstance(a, Stacked) else a for a in args], **kwargs)
    return Stacked(found, of, shared=shared)


def _folded(func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """`func` over the rows of all members as rows of one batch."""
    x: Stacked = args[0]
    if x.shared:
        return Stacked(func(x.value, *args[1:], **kwargs), x.of, shared=True)
    value = x.value
    # Rows and channels, which pools treat alike, swap places.
    swapped = value.dim() == 5 and rows_innermost(value)
    value = value.transpose(1, 2) if swapped else value
    found = func(value.flatten(0, 1), *args[1:], **kwargs)
    if not isinstance(found, Tensor):
        return mapped(func, args, kwargs)
    found = found.unflatten(0, value.shape[:2])
    return x.like(found.transpose(1, 2) if swapped else found)


def _of(values: Any) -> Members:
    return next(v.of for v in pytree.tree_leaves(values) if isinstance(v, Stacked))


def mapped(func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """`func` for every member, by ``torch.vmap``; once where all see the same values.

    Raises
    ------
    UnsupportedError
        It cannot be mapped: it looks at values, or draws random numbers.
    """
    leaves, shape = pytree.tree_flatten((args, kwargs))
    places = [i for i, leaf in enumerate(leaves) if isinstance(leaf, Stacked)]
    of = leaves[places[0]].of

    others: list[Any] = []

    def call(*values: Tensor) -> list[Tensor]:
        own = list(leaves)
        for place, value in zip(places, values, strict=True):
            own[place] = value
        positional, named = pytree.tree_unflatten(own, shape)
        flat, of_result = pytree.tree_flatten(func(*positional, **named))
        others[:] = [of_result, *(None if isinstance(f, Tensor) else f for f in flat)]
        at = [i for i, f in enumerate(flat) if isinstance(f, Tensor)]
        others.append(at)
        return [flat[i] for i in at]

    values = [leaves[i].value for i in places]
    dims = tuple(None if leaves[i].shared else 0 for i in places)
    try:
        shared = all(d is None for d in dims)
        found = call(*values) if shared else torch.vmap(call, in_dims=dims)(*values)
    except Exception as error:
        name = getattr(func, "__name__", str(func))
        raise UnsupportedError(f"`{name}` cannot be computed for several networks at once: "
                               f"{type(error).__name__}: {error}") from error  # fmt: skip
    of_result, *flat, at = others
    for place, value in zip(at, found, strict=True):
        flat[place] = Stacked(value, of, shared=shared)
    return pytree.tree_unflatten(flat, of_result)
