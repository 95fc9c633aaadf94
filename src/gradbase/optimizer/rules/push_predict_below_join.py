"""Predictions over one side of a join move below it."""

from __future__ import annotations

from gradbase.ir.learning import Predict
from gradbase.ir.node import Node
from gradbase.ir.relational import Join, Project, Relation
from gradbase.ir.scalar import Column
from gradbase.optimizer.analyses.joins import (
    PRESERVED,
    may_fail,
    reads_back_cheaply,
    with_partner,
)
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
    if not reads_back_cheaply(ctx):
        return None
    match n:
        case Predict(child=Join() as join):
            kept = columns_of(join, join.schema.names)
        case Predict(child=Project(child=Join() as join) as kept) if _plain(kept):
            pass
        case _:
            return None
    source = {
        name: e.name
        for name, e in zip(kept.names, kept.exprs, strict=True)
        if isinstance(e, Column)
    }
    features = tuple(source[f] for f in n.features)
    for side, keeps in zip((join.left, join.right), PRESERVED[join.kind], strict=True):
        if keeps and {*features} <= {*side.schema.names} and _pays(n, side, join, ctx):
            rows = with_partner(join, side) if _may_fail(n, join, side) else side
            if rows is None or not {*n.names}.isdisjoint(join.schema.names):
                return None
            below = n.replace(child=rows, features=features)
            _note(below, n, side, ctx)
            both = join.replace(left=below) if side is join.left else join.replace(right=below)
            added = columns_of(both, n.names)
            return Project(both, (*kept.names, *added.names), (*kept.exprs, *added.exprs))
    return None


def _plain(n: Project) -> bool:
    return all(isinstance(e, Column) for e in n.exprs)


def _may_fail(n: Predict, join: Join, side: Relation) -> bool:
    whole = join.kind == "left" and side is join.left  # loses no row
    return not whole and may_fail(n.model, n.model.features)


def _note(below: Predict, n: Predict, side: Relation, ctx: Context) -> None:
    found = [estimate(r, ctx).rows for r in (side, n.child)]
    reason = f"{found[0]:,.0f} rows below the join, {found[1]:,.0f} above"
    ctx.chose(n, below, Choice("below the join", reason, _alternatives(n, side, ctx)))


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
