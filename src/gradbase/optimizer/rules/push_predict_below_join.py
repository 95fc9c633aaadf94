"""Predictions over one side of a join move below it."""

from __future__ import annotations

from gradbase.ir.learning import Predict
from gradbase.ir.node import Node
from gradbase.ir.relational import Join, Relation
from gradbase.optimizer.analyses.joins import PRESERVED, may_fail, with_partner
from gradbase.optimizer.analyses.lowering import columns_of
from gradbase.optimizer.context import Alternative, Choice, Context
from gradbase.optimizer.cost import estimate
from gradbase.optimizer.cost_predict import PLAIN_BATCH, row_seconds
from gradbase.optimizer.rule import rule

_ADVANTAGE = 1.2
_SETUP_S = 4e-3
"""What comes from a prediction is read by the join through a view."""


@rule(
    requires=("extract_predictions", "push_filter_below_predict", "push_filter_below_join"),
    source="indb inference 2.2 R12: one prediction per row of the dimension",
)
def push_predict_below_join(n: Node, ctx: Context) -> Node | None:
    """Predict(Join(x, y)) -> Join(Predict(x), y) where all features are of `x`.

    Where the join keeps the rows of `x` as they are and gives more rows than `x` has, by enough to
    pay for handing all of `x` over. Of a model of our own with numbers that may be infinite (an
    error in rows that are predicted) only rows of `x` with a partner are predicted.
    """
    match n:
        case Predict(child=Join(left=left, right=right, kind=kind) as join, features=features):
            for side, keeps in zip((left, right), PRESERVED[kind], strict=True):
                if keeps and {*features} <= {*side.schema.names} and _pays(n, side, join, ctx):
                    rows = with_partner(join, side) if _may_fail(n, join, side) else side
                    return None if rows is None else _moved(n, join, side, rows, ctx)
    return None


def _may_fail(n: Predict, join: Join, side: Relation) -> bool:
    whole = join.kind == "left" and side is join.left  # loses no row
    return not whole and may_fail(n.model, n.model.features)


def _moved(n: Predict, join: Join, side: Relation, rows: Relation, ctx: Context) -> Relation:
    below = n.replace(child=rows)
    both = join.replace(left=below) if side is join.left else join.replace(right=below)
    found = [estimate(r, ctx).rows for r in (side, join)]
    reason = f"{found[0]:,.0f} rows below the join, {found[1]:,.0f} above"
    ctx.choices[below] = Choice("below the join", reason, _alternatives(n, side, ctx))
    return columns_of(both, n.schema.names)


def _seconds(n: Predict, relation: Relation, ctx: Context) -> float:
    each = row_seconds(n.model, PLAIN_BATCH, ctx)
    values = len(n.model.features) + len(n.names)
    return estimate(relation, ctx).rows * (each + values * ctx.calibration.arrow_value_s)


def _pays(n: Predict, side: Relation, join: Join, ctx: Context) -> bool:
    return _seconds(n, join, ctx) > _ADVANTAGE * _seconds(n, side, ctx) + _SETUP_S


def _alternatives(n: Predict, side: Relation, ctx: Context) -> tuple[Alternative, ...]:
    return (
        Alternative("above", _seconds(n, n.child, ctx)),
        Alternative("below", _seconds(n, side, ctx)),
    )
