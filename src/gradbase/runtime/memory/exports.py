"""The few methods that reach a tensor's memory past the dispatcher.

``x.numpy()``, ``x.data_ptr()`` and what is built on them (pickling, ``numpy.asarray``) hand it out,
``x.tolist()`` and printing read it, the latter with all modes off. While a budget is active they
are wrapped, so that the memory is there. A function mode of PyTorch would not do: it does not see
calls from inside other methods.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Generator
from typing import Any

import torch
from torch import Tensor
from torch.utils import dlpack

__all__ = ["watching"]

_READ = ("__repr__", "tolist")
_HANDED_OUT = ("__dlpack__", "data_ptr", "numpy", "untyped_storage")
_FUNCTIONS: tuple[tuple[Any, str], ...] = ((torch, "to_dlpack"), (dlpack, "to_dlpack"))


@contextlib.contextmanager
def watching(reached: Callable[[Tensor, bool], None]) -> Generator[None]:
    """Call ``reached(tensor, kept)`` first; `kept` says whether a pointer outlives the method."""
    places: list[tuple[Any, str]] = [(Tensor, name) for name in (*_READ, *_HANDED_OUT)] + list(
        _FUNCTIONS
    )
    before = [(owner, name, vars(owner).get(name)) for owner, name in places]
    for owner, name in places:
        setattr(owner, name, _told(getattr(owner, name), reached, kept=name not in _READ))
    try:
        yield
    finally:
        for owner, name, own in before:
            if own is None:
                delattr(owner, name)  # it was inherited
            else:
                setattr(owner, name, own)


def _told(
    method: Callable[..., Any], reached: Callable[[Tensor, bool], None], *, kept: bool
) -> Callable[..., Any]:
    @functools.wraps(method)
    def told(tensor: Tensor, *args: Any, **kwargs: Any) -> Any:
        reached(tensor, kept)
        return method(tensor, *args, **kwargs)

    return told
