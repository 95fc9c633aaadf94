"""The same prediction is computed once."""

from __future__ import annotations

from gradbase.ir.learning import Predict
from gradbase.ir.node import Node
from gradbase.ir.relational import Project
from gradbase.ir.scalar import Column
from gradbase.optimizer.analyses.lowering import columns_of
from gradbase.optimizer.analyses.provider import find_provider, provide
from gradbase.optimizer.context import Context
from gradbase.optimizer.rule import rule


@rule(requires=("extract_predictions",), source="own; common sub-expressions")
def share_predictions(n: Node, ctx: Context) -> Node | None:
    """Predict over … over Predict of the same model and features -> one Predict of all outputs.

    Between the two may stand what passes rows on as they are: filters, sorts, limits, other
    predictions, projections that pass the features through, the preserved side of a join.
    """
    match n:
        case Predict(child=child, model=model, features=features):
            columns = tuple(Column(f, child.schema.type_of(f)) for f in features)
            path = find_provider(child, model, columns)
            if path is None:
                return None
            below, provided = provide(path, dict(zip(n.methods, n.names, strict=True)), ctx)
            kept = columns_of(below, child.schema.names)
            added = tuple(Column(provided[m], below.schema.type_of(provided[m])) for m in n.methods)
            return Project(below, kept.names + n.names, kept.exprs + added)
    return None
