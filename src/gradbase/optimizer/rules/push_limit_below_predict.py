"""LIMIT moves below predictions."""

from __future__ import annotations

from gradbase.ir.learning import Predict
from gradbase.ir.node import Node
from gradbase.ir.relational import Limit
from gradbase.optimizer.context import Context
from gradbase.optimizer.rule import rule


@rule(requires=("extract_predictions",))
def push_limit_below_predict(n: Node, ctx: Context) -> Node | None:
    """Limit(Predict(x)) -> Predict(Limit(x)); a prediction keeps the order of its rows.

    A filter between the two stops the limit: its pattern does not match.
    """
    del ctx
    match n:
        case Limit(child=Predict(child=x) as predict):
            return predict.replace(child=n.replace(child=x))
    return None
