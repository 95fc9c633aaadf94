"""Filters move below projections."""

from __future__ import annotations

from gradbase.ir.node import Node
from gradbase.ir.relational import Filter, Project
from gradbase.ir.scalar import Column, conjunction, conjuncts
from gradbase.optimizer.analyses.columns import expand
from gradbase.optimizer.context import Context
from gradbase.optimizer.rule import rule


@rule(requires=("extract_predictions",), source="textbook")
def push_filter_below_project(n: Node, ctx: Context) -> Node | None:
    """Filter(Project(x)) -> Filter(Project(Filter(x))) for conjuncts over columns passed through.

    Nothing moves where the projection computes something volatile, nor does a volatile conjunct.
    """
    del ctx
    match n:
        case Filter(child=Project(child=x) as project, predicate=predicate):
            if any(e.volatile for e in project.exprs):
                return None
            pairs = zip(project.names, project.exprs, strict=True)
            passed = {name for name, e in pairs if isinstance(e, Column)}
            parts = conjuncts(predicate)
            moving = tuple(p for p in parts if p.columns <= passed and not p.volatile)
            below = expand(project, moving)
            if not moving or below is None:
                return None
            moved = project.replace(child=Filter(x, conjunction(below)))
            kept = tuple(p for p in parts if p not in moving)
            return Filter(moved, conjunction(kept)) if kept else moved
    return None
