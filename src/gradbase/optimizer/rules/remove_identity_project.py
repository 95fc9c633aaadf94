"""Projections that change nothing go."""

from __future__ import annotations

from gradbase.ir.node import Node
from gradbase.ir.relational import Project
from gradbase.ir.scalar import Column
from gradbase.optimizer.context import Context
from gradbase.optimizer.rule import rule


@rule(source="textbook")
def remove_identity_project(n: Node, ctx: Context) -> Node | None:
    """Project[all columns as they are, in order](x) -> x."""
    del ctx
    match n:
        case Project(child=x, names=names, exprs=exprs) if names == x.schema.names:
            same = all(e is Column(f.name, f.type) for e, f in zip(exprs, x.schema, strict=True))
            return x if same else None
    return None
