"""ORDER BY with LIMIT moves below predictions it does not read."""

from __future__ import annotations

from gradbase.ir.learning import Predict
from gradbase.ir.node import Node
from gradbase.ir.relational import Limit, Sort
from gradbase.optimizer.analyses.columns import columns_in
from gradbase.optimizer.context import Context
from gradbase.optimizer.rule import rule


@rule(requires=("extract_predictions",))
def push_topk_below_predict(n: Node, ctx: Context) -> Node | None:
    """Limit(Sort(Predict(x))) -> Predict(Limit(Sort(x))) where the keys read no prediction of it.

    A prediction keeps the order of its rows. Volatile keys stay.
    """
    del ctx
    match n:
        case Limit(child=Sort(child=Predict(child=x, names=names) as predict, keys=keys) as sort):
            if not columns_in(keys).isdisjoint(names) or any(k.volatile for k in keys):
                return None
            return predict.replace(child=n.replace(child=sort.replace(child=x)))
    return None
