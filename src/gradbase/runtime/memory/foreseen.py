"""How many bytes an operator will allocate for its results, before it runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from gradbase.runtime.memory.operators import describe, storages_of, tensors_of

__all__ = ["result_bytes"]

# oneDNN's recurrent layers also return their workspace, which has no size without memory: 16 times
# the output (measured over sizes from 10 x 16 x 32 to 100 x 64 x 512).
_TIMES_LARGER = {"aten.mkldnn_rnn_layer": 17}


def result_bytes(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> int:
    """Bytes of new storages among the results, found on tensors without memory.

    Where the operator cannot run on those (its result depends on values, or it is a user's own),
    the bytes of what it reads stand in: results are rarely larger.
    """
    returns = func._schema.returns
    if returns and all(r.alias_info is not None for r in returns):
        return 0  # in place, or into `out`
    given: set[int] = set()
    try:
        meta_args = [_meta(a, given) for a in args]
        meta_kwargs = {k: _meta(v, given) for k, v in kwargs.items()}
        if any(a.name == "device" for a in func._schema.arguments):
            meta_kwargs["device"] = torch.device("meta")
            meta_kwargs.pop("pin_memory", None)
        if meta_kwargs.get("generator") is not None:
            meta_kwargs["generator"] = None
        results = tensors_of(func(*meta_args, **meta_kwargs), [])
    except Exception:  # noqa: BLE001 - whatever kernels without this ability raise
        return _read_bytes((*args, *kwargs.values()))
    storages = {s._cdata: s.nbytes() for t in results for s in storages_of(t)}
    new = sum(size for key, size in storages.items() if key not in given)
    return new * _TIMES_LARGER.get(describe(func).name, 1)


def _meta(value: Any, given: set[int]) -> Any:
    """The same argument with tensors that have a shape and no memory; their storages in `given`."""
    if isinstance(value, Tensor):
        if not torch._C._has_storage(value):
            raise _NotPlain
        meta = torch.empty_strided(value.shape, value.stride(), dtype=value.dtype, device="meta")
        given.update(s._cdata for s in storages_of(meta))
        return meta
    if isinstance(value, (list, tuple)):
        return [_meta(item, given) for item in value]  # type: ignore[reportUnknownVariableType]
    return value


class _NotPlain(Exception):  # noqa: N818 - never leaves this file
    """A tensor without storage of its own (sparse, opaque)."""


def _read_bytes(values: Sequence[Any]) -> int:
    return sum(s.nbytes() for v in values for t in tensors_of(v, []) for s in storages_of(t))
