"""Memory of training steps: traced, kept under a limit, laid out by a plan.

For any PyTorch step, with or without the rest of gradbase; see ``docs/memory.md``.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gradbase.resources.lifetimes import Access, Interval, Operation, Storage, Trace
    from gradbase.resources.placement import Plan, plan, verify
    from gradbase.resources.swapping.check import check_swaps
    from gradbase.resources.swapping.frontier import Frontier, Point, frontier
    from gradbase.resources.swapping.link import LINKS, Link
    from gradbase.resources.swapping.plan import Decision, SwapPlan
    from gradbase.resources.swapping.planner import plan_swaps
    from gradbase.resources.swapping.roofline import roofline
    from gradbase.runtime.memory.arena import Arena, ArenaReport, arena
    from gradbase.runtime.memory.budget import budget
    from gradbase.runtime.memory.report import Report
    from gradbase.runtime.memory.tracing import trace

__all__ = [
    "LINKS",
    "Access",
    "Arena",
    "ArenaReport",
    "Decision",
    "Frontier",
    "Interval",
    "Link",
    "Operation",
    "Plan",
    "Point",
    "Report",
    "Storage",
    "SwapPlan",
    "Trace",
    "arena",
    "budget",
    "check_swaps",
    "frontier",
    "plan",
    "plan_swaps",
    "roofline",
    "trace",
    "verify",
]

_HOMES = {
    "Access": "gradbase.resources.lifetimes",
    "Interval": "gradbase.resources.lifetimes",
    "Operation": "gradbase.resources.lifetimes",
    "Plan": "gradbase.resources.placement",
    "Report": "gradbase.runtime.memory.report",
    "Storage": "gradbase.resources.lifetimes",
    "Trace": "gradbase.resources.lifetimes",
    "check_swaps": "gradbase.resources.swapping.check",
    "Frontier": "gradbase.resources.swapping.frontier",
    "Point": "gradbase.resources.swapping.frontier",
    "frontier": "gradbase.resources.swapping.frontier",
    "LINKS": "gradbase.resources.swapping.link",
    "Link": "gradbase.resources.swapping.link",
    "Decision": "gradbase.resources.swapping.plan",
    "SwapPlan": "gradbase.resources.swapping.plan",
    "plan_swaps": "gradbase.resources.swapping.planner",
    "roofline": "gradbase.resources.swapping.roofline",
    "Arena": "gradbase.runtime.memory.arena",
    "ArenaReport": "gradbase.runtime.memory.arena",
    "arena": "gradbase.runtime.memory.arena",
    "budget": "gradbase.runtime.memory.budget",
    "plan": "gradbase.resources.placement",
    "trace": "gradbase.runtime.memory.tracing",
    "verify": "gradbase.resources.placement",
}


def __getattr__(name: str) -> Any:
    """Load what is asked for on first use: planning alone needs no torch."""
    if name not in _HOMES:
        raise AttributeError(f"module 'gradbase.memory' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
