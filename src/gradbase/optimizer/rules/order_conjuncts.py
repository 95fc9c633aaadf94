"""Cheap and selective conditions first."""

from __future__ import annotations

from gradbase.ir.node import Node
from gradbase.ir.relational import Filter
from gradbase.ir.scalar import conjunction, conjuncts
from gradbase.optimizer.context import Context
from gradbase.optimizer.cost import scalar_seconds
from gradbase.optimizer.rule import rule
from gradbase.optimizer.selectivity import selectivity


@rule(
    source="Hellerstein and Stonebraker 1993, predicate migration: rank = (selectivity - 1) / cost"
)
def order_conjuncts(n: Node, ctx: Context) -> Node | None:
    """Order the conjuncts of a filter by (selectivity - 1) / seconds per row, least first.

    Only where one of them predicts (engines order the rest themselves) and none is volatile.
    """
    match n:
        case Filter(child=child, predicate=predicate) if predicate.predictions:
            found = conjuncts(predicate)
            if predicate.volatile:
                return None

            def rank(index: int) -> float:
                part = found[index]
                return (selectivity(part, child, ctx) - 1.0) / scalar_seconds(part, ctx)

            ordered = tuple(found[i] for i in sorted(range(len(found)), key=rank))
            return None if ordered == found else Filter(child, conjunction(ordered))
    return None
