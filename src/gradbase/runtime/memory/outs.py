"""Operators that write their results where they are told to."""

from __future__ import annotations

import functools
from typing import Any

import torch

__all__ = ["out_variant"]

_OF_THE_RESULT = frozenset(("dtype", "layout", "device", "pin_memory"))
"""Arguments that a result given as `out` makes superfluous."""


@functools.cache
def out_variant(operator: Any, device: str) -> tuple[Any, tuple[str, ...]] | None:
    """The overload with `out` that computes the same on `device`, and names of its results.

    None where there is none, where the size of a result depends on values, or where the overload
    would compute elsewhere and copy (it has no kernel of its own).
    """
    schema = operator._schema
    sized = torch.Tag.dynamic_output_shape not in operator.tags
    fresh = all(r.alias_info is None and str(r.type) == "Tensor" for r in schema.returns)
    if operator.namespace != "aten" or not sized or not fresh or not schema.returns:
        return None
    packet = operator.overloadpacket
    for name in packet.overloads():
        found = getattr(packet, name)
        outs = tuple(a.name for a in found._schema.arguments if a.is_out)
        if len(outs) == len(schema.returns) and _same_inputs(schema, found._schema):
            key = f"{found._schema.name}.{found._schema.overload_name}"
            own = torch._C._dispatch_has_kernel_for_dispatch_key(key, device.upper())
            return (found, outs) if own else None
    return None


def _same_inputs(functional: Any, out: Any) -> bool:
    """Whether both take the same, but for what `out` itself says."""
    given = [(a.name, str(a.type)) for a in out.arguments if not a.is_out]
    names = {name for name, _ in given}
    return given == [
        (a.name, str(a.type))
        for a in functional.arguments
        if a.name in names or a.name not in _OF_THE_RESULT
    ]
