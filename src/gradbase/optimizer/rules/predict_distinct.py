"""Rows with the same features are predicted once."""

from __future__ import annotations

from gradbase.ir.learning import Predict
from gradbase.ir.node import Node
from gradbase.optimizer.analyses.repeats import distinct_share, finding_seconds, is_comparable
from gradbase.optimizer.context import Context
from gradbase.optimizer.cost import estimate
from gradbase.optimizer.cost_predict import PLAIN_BATCH, row_seconds
from gradbase.optimizer.rule import rule

_ADVANTAGE = 1.5
"""How many times the work saved must exceed the work added: distinct values are estimates."""
_LEAST_S = 2e-3
_MOST = 0.3
"""Part of a batch that may be distinct: where it is 0.5, whoever predicts gives up."""


@rule(
    requires=("extract_predictions", "prune_columns", "push_predict_below_join"),
    source="indb inference 2.2 R12: duplicate elimination",
)
def predict_distinct(n: Node, ctx: Context) -> Node | None:
    """Predict -> Predict of the distinct rows of each batch, whose results all equal rows get.

    Where statistics expect few combinations of the features' values, and a row costs more than
    telling it from others. Rows are equal if all bits are: so are their predictions. Rows must come
    to this process: not where the engine's own processes predict, or a function inside it must.
    """
    if not isinstance(n, Predict) or n.representation or n.distinct:
        return None
    away = "executors" in ctx.capabilities.representations
    if away or ctx.settings.representation not in ("", "dl", "relational"):
        return None
    if not all(is_comparable(f.of) for f in n.model.reads):
        return None
    rows = estimate(n.child, ctx).rows
    share = distinct_share(n, ctx)
    saved = (1.0 - share) * row_seconds(n.model, PLAIN_BATCH, ctx)
    if share > _MOST or rows * saved < max(_LEAST_S, _ADVANTAGE * rows * finding_seconds(n)):
        return None
    return n.replace(distinct=True)
