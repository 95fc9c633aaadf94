"""Memory of training steps: traced, kept under a limit, laid out by a plan.

For any PyTorch step, with or without the rest of gradbase; see ``docs/memory.md``.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gradbase.resources.lifetimes import Access, Interval, Operation, Storage, Trace
    from gradbase.runtime.memory.budget import budget
    from gradbase.runtime.memory.report import Report
    from gradbase.runtime.memory.tracing import trace

__all__ = [
    "Access",
    "Interval",
    "Operation",
    "Report",
    "Storage",
    "Trace",
    "budget",
    "trace",
]

_HOMES = {
    "Access": "gradbase.resources.lifetimes",
    "Interval": "gradbase.resources.lifetimes",
    "Operation": "gradbase.resources.lifetimes",
    "Report": "gradbase.runtime.memory.report",
    "Storage": "gradbase.resources.lifetimes",
    "Trace": "gradbase.resources.lifetimes",
    "budget": "gradbase.runtime.memory.budget",
    "trace": "gradbase.runtime.memory.tracing",
}


def __getattr__(name: str) -> Any:
    """Load what is asked for on first use: planning alone needs no torch."""
    if name not in _HOMES:
        raise AttributeError(f"module 'gradbase.memory' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
