"""Filters move below predictions they do not read."""

from __future__ import annotations

from gradbase.ir.learning import Predict
from gradbase.ir.node import Node
from gradbase.ir.relational import Filter
from gradbase.ir.scalar import conjunction, conjuncts
from gradbase.optimizer.context import Context
from gradbase.optimizer.rule import rule


@rule(requires=("extract_predictions",), source="indb inference 2.2: selection pushdown")
def push_filter_below_predict(n: Node, ctx: Context) -> Node | None:
    """Filter(Predict(x)) -> Filter(Predict(Filter(x))): conjuncts that read no prediction go below.

    A volatile conjunct stays where it is.
    """
    del ctx
    match n:
        case Filter(child=Predict(child=x, names=names) as predict, predicate=predicate):
            parts = conjuncts(predicate)
            moving = tuple(p for p in parts if p.columns.isdisjoint(names) and not p.volatile)
            if not moving:
                return None
            moved = predict.replace(child=Filter(x, conjunction(moving)))
            kept = tuple(p for p in parts if p not in moving)
            return Filter(moved, conjunction(kept)) if kept else moved
    return None
