"""Outputs of models that nobody reads are not computed."""

from __future__ import annotations

from gradbase.ir.learning import Predict
from gradbase.ir.node import Node
from gradbase.ir.relational import Aggregate, Project
from gradbase.optimizer.analyses.columns import columns_in
from gradbase.optimizer.context import Context
from gradbase.optimizer.rule import rule


@rule(requires=("extract_predictions",))
def drop_unused_predictions(n: Node, ctx: Context) -> Node | None:
    """Project or Aggregate over Predict -> Predict without unread outputs, or without Predict."""
    del ctx
    match n:
        case Project(child=Predict() as predict, exprs=exprs):
            read = columns_in(exprs)
        case Aggregate(child=Predict() as predict, keys=keys, aggregates=aggregates):
            read = columns_in(keys + aggregates)
        case _:
            return None
    pairs = zip(predict.methods, predict.names, strict=True)
    kept = [(method, name) for method, name in pairs if name in read]
    if len(kept) == len(predict.names):
        return None
    if not kept:
        return n.replace(child=predict.child)
    methods, names = zip(*kept, strict=True)
    return n.replace(child=predict.replace(methods=methods, names=names))
