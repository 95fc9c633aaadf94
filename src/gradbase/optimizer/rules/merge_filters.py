"""Two filters become one."""

from __future__ import annotations

from gradbase.ir.node import Node
from gradbase.ir.relational import Filter
from gradbase.ir.scalar import conjunction, conjuncts
from gradbase.optimizer.context import Context
from gradbase.optimizer.rule import rule


@rule(source="textbook")
def merge_filters(n: Node, ctx: Context) -> Node | None:
    """Filter[q](Filter[p](x)) -> Filter[p and q](x), unless one of them is volatile."""
    del ctx
    match n:
        case Filter(child=Filter(child=x, predicate=p), predicate=q) if not (
            p.volatile or q.volatile
        ):
            parts = dict.fromkeys(conjuncts(p) + conjuncts(q))
            return Filter(x, conjunction(tuple(parts)))
    return None
