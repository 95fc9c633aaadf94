"""Whether modules may train as one stack: equal structure, and nothing that we cannot look at."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import torch

from gradbase.runtime.stacking.tensors import Rates

_INTERNAL = frozenset(vars(torch.nn.Module()))
_DROPOUTS = (torch.nn.Dropout, torch.nn.Dropout1d, torch.nn.Dropout2d, torch.nn.Dropout3d)
_PLAIN = (int, float, str, bool, bytes, type(None), torch.dtype, torch.device)


def likeness(module: torch.nn.Module) -> tuple[object, ...] | None:
    """Equal for modules that differ in the values of weights and in rates of dropout only.

    None where that cannot be told: tied weights, hooks, attributes that are no plain values.
    """
    parameters = [id(p) for _, p in module.named_parameters(remove_duplicate=False)]
    if len(set(parameters)) < len(parameters):
        return None
    found: list[object] = []
    for name, part in module.named_modules(remove_duplicate=False):
        if any(getattr(part, hooks) for hooks in _INTERNAL if hooks.endswith("hooks")):
            return None
        ignored = {*_INTERNAL, *(("p",) if type(part) in _DROPOUTS else ())}
        try:
            own = {k: _plain(v) for k, v in vars(part).items() if k not in ignored}
        except TypeError:
            return None
        tensors = [
            (n, t.shape, t.dtype, t.requires_grad)
            for n, t in (*part.named_parameters(recurse=False), *part.named_buffers(recurse=False))
        ]
        found.append((name, type(part), tuple(sorted(own.items())), tuple(tensors)))
    return tuple(found)


def _plain(value: Any) -> object:
    """A value that can be compared, or TypeError."""
    if isinstance(value, _PLAIN):
        return type(value), repr(value)
    if isinstance(value, list | tuple):
        return type(value), tuple(_plain(v) for v in value)
    if isinstance(value, dict):
        return dict, tuple((_plain(k), _plain(v)) for k, v in value.items())
    name = getattr(value, "__qualname__", "")
    for home in (getattr(value, "__module__", None), "torch"):
        if name and getattr(sys.modules.get(home or ""), name, None) is value:
            return "function", home, name
    raise TypeError(type(value))


def rates_of(module: torch.nn.Module) -> tuple[float, ...]:
    """The rates of a module's dropout layers, in order."""
    return tuple(float(m.p) for m in module.modules() if isinstance(m, _DROPOUTS))


def set_rates(template: torch.nn.Module, each: Sequence[tuple[float, ...]]) -> None:
    """Let the dropout layers of a stack's module have the rates of every member."""
    layers = [m for m in template.modules() if isinstance(m, _DROPOUTS)]
    for at, layer in enumerate(layers):
        layer.p = Rates.of([rates[at] for rates in each])
