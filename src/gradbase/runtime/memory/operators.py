"""What a call of an ATen operator touches: its tensors, their storages, what it overwrites."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, UntypedStorage
from torch.utils._python_dispatch import is_traceable_wrapper_subclass
from torch.utils.flop_counter import flop_registry

__all__ = ["Described", "describe", "flops_of", "storages_of", "tensors_of"]

# Their schemas do not say that they update the running mean and variance.
_SILENT_WRITES = {
    "aten.native_batch_norm": (3, 4),
    "aten.cudnn_batch_norm": (3, 4),
    "aten.miopen_batch_norm": (3, 4),
}


_untyped_storage = Tensor.untyped_storage  # as it is before anyone wraps it


@dataclass(frozen=True)
class Described:
    """An overload of an operator.

    Parameters
    ----------
    name : str
        Without the overload, such as ``aten.add``.
    view : bool
        It returns another view of the same memory and touches none.
    writes : frozenset of int and str
        Positions and names of the arguments that it overwrites.
    """

    name: str
    view: bool
    writes: frozenset[int | str]


@functools.cache
def describe(operator: Any) -> Described:
    """Look up an `OpOverload` once."""
    name = str(operator.overloadpacket)
    written: set[int | str] = set(_SILENT_WRITES.get(name, ()))
    for position, argument in enumerate(operator._schema.arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            written |= {position, argument.name}
    # Not all operators are in ATen: the profiler's marks touch nothing either.
    return Described(
        name, bool(operator.is_view) or name.startswith("profiler."), frozenset(written)
    )


def tensors_of(value: Any, found: list[Tensor]) -> list[Tensor]:
    """Append the tensors in an argument or result (possibly a list of them) to `found`."""
    if isinstance(value, Tensor):
        found.append(value)
    elif isinstance(value, (list, tuple)):
        for item in value:  # type: ignore[reportUnknownVariableType]
            tensors_of(item, found)
    return found


def storages_of(tensor: Tensor) -> Iterable[UntypedStorage]:
    """The memory behind a tensor: one storage, or those of the parts of a sparse or wrapped one."""
    if torch._C._has_storage(tensor):
        return (_untyped_storage(tensor),)
    return [s for part in _parts(tensor) for s in storages_of(part)]


def _parts(tensor: Tensor) -> Sequence[Tensor]:
    if tensor.layout is torch.sparse_coo:
        return tensor._indices(), tensor._values()
    if tensor.layout in (torch.sparse_csr, torch.sparse_bsr):
        return tensor.crow_indices(), tensor.col_indices(), tensor.values()
    if tensor.layout in (torch.sparse_csc, torch.sparse_bsc):
        return tensor.ccol_indices(), tensor.row_indices(), tensor.values()
    if is_traceable_wrapper_subclass(tensor):
        names, _ = tensor.__tensor_flatten__()
        return [getattr(tensor, name) for name in names]
    return ()  # opaque to everyone (mkldnn): its memory is not ours to move


def flops_of(operator: Any, args: Sequence[Any], kwargs: Mapping[str, Any], result: Any) -> int:
    """Floating-point operations of a call; 0 for operators that only move data."""
    packet = operator.overloadpacket
    formula: Callable[..., int] | None = _OWN_FORMULAS.get(str(packet)) or flop_registry.get(packet)
    if formula is None:
        return 0
    try:
        return int(formula(*args, **kwargs, out_val=result))
    except (TypeError, ValueError, IndexError, AssertionError):
        return 0  # a shape that the formula does not know


def _recurrent(x: Tensor, weight: Tensor, recurrent: Tensor, *_: Any, **__: Any) -> int:
    """One layer over x [T, B, I] (or [B, T, I]) with weights [gates * H, I] and [gates * H, H]."""
    return 2 * x.shape[0] * x.shape[1] * (weight.numel() + recurrent.numel())


def _recurrent_backward(*args: Any, **kwargs: Any) -> int:
    return 2 * _recurrent(*args, **kwargs)


_OWN_FORMULAS: dict[str, Callable[..., int]] = {
    "aten.mkldnn_rnn_layer": _recurrent,
    "aten.mkldnn_rnn_layer_backward": _recurrent_backward,
}
