"""gradbase: deep-learning workloads as queries over the data system that already holds the data.

>>> import gradbase as gb
>>> gb.connect().sql("SELECT 40 + 2 AS answer").fetchall()
[(42,)]
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from gradbase import errors

if TYPE_CHECKING:
    from gradbase import memory
    from gradbase.frontend.space import choice, loguniform, randint, uniform
    from gradbase.runtime.export.feeding import onnx_inputs
    from gradbase.selection.api import autoencoder, kmeans, mlp, pca, search, wide_and_deep
    from gradbase.selection.own import maximize, minimize
    from gradbase.session import Session, connect
    from gradbase.store.following import runs

__version__ = "0.1.0"
__all__ = [
    "Session",
    "autoencoder",
    "choice",
    "connect",
    "errors",
    "kmeans",
    "loguniform",
    "maximize",
    "memory",
    "minimize",
    "mlp",
    "onnx_inputs",
    "pca",
    "randint",
    "runs",
    "search",
    "uniform",
    "wide_and_deep",
]

_HOMES = {
    "Session": "gradbase.session",
    "connect": "gradbase.session",
    "choice": "gradbase.frontend.space",
    "loguniform": "gradbase.frontend.space",
    "randint": "gradbase.frontend.space",
    "uniform": "gradbase.frontend.space",
    "autoencoder": "gradbase.selection.api",
    "kmeans": "gradbase.selection.api",
    "maximize": "gradbase.selection.own",
    "minimize": "gradbase.selection.own",
    "mlp": "gradbase.selection.api",
    "pca": "gradbase.selection.api",
    "onnx_inputs": "gradbase.runtime.export.feeding",
    "runs": "gradbase.store.following",
    "search": "gradbase.selection.api",
    "wide_and_deep": "gradbase.selection.api",
}


def __getattr__(name: str) -> Any:
    """Load what is asked for on first use, so that importing gradbase stays quick."""
    if name == "memory":
        return importlib.import_module("gradbase.memory")
    if name not in _HOMES:
        raise AttributeError(f"module 'gradbase' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
