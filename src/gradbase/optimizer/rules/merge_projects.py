"""A projection over a projection becomes one."""

from __future__ import annotations

from gradbase.ir.node import Node
from gradbase.ir.relational import Aggregate, Project
from gradbase.optimizer.analyses.columns import read_through
from gradbase.optimizer.context import Context
from gradbase.optimizer.rule import rule


@rule(source="textbook")
def merge_projects(n: Node, ctx: Context) -> Node | None:
    """Project or Aggregate over Project(x) -> the same over x.

    Only where nothing volatile is computed below, nothing would be computed twice, and nothing but
    columns and constants moves into a larger expression.
    """
    del ctx
    match n:
        case Project(child=Project() as inner, names=names, exprs=exprs):
            moved = read_through(inner, exprs)
            return None if moved is None else Project(inner.child, names, moved)
        case Aggregate(child=Project() as inner, keys=keys, aggregates=aggregates):
            moved = read_through(inner, keys + aggregates)
            if moved is None:
                return None
            at = len(keys)
            return n.replace(child=inner.child, keys=moved[:at], aggregates=moved[at:])
    return None
