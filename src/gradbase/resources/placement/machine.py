"""Compiling hot loops with numba, where it is installed; who imports this is imported late."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

try:
    from numba import njit
except ImportError:
    njit = None

Function = Callable[..., Any]

COMPILED = njit is not None


def compiled(function: Function) -> Function:
    """Machine code of `function`, kept on disk where that is possible; itself without numba.

    What is kept does not see an edit of another file that is called: remove __pycache__ after one.
    """
    if njit is None:
        return function
    try:
        return njit(cache=True, error_model="numpy")(function)
    except RuntimeError:  # neither the package's folder nor a cache can be written
        return njit(error_model="numpy")(function)


def inner(function: Function) -> Function:
    """As `compiled`, for what is called from compiled functions only (compiles sooner)."""
    if njit is None:
        return function
    bare: Any = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}
    return njit(error_model="numpy", **bare)(function)


@inner
def meet(first: int, count: int, other: int, length: int, sections: int) -> bool:
    """Whether two arcs of the circle share a section."""
    ahead = other - first
    if ahead < 0:
        ahead += sections
    return ahead < count or (ahead > 0 and sections - ahead < length)
