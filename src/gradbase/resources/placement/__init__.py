"""Storages with known lifetimes placed in one block of memory (dynamic storage allocation)."""

from __future__ import annotations

from gradbase.resources.placement.plan import Plan
from gradbase.resources.placement.planning import plan
from gradbase.resources.placement.verify import verify

__all__ = ["Plan", "plan", "verify"]
