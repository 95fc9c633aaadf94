"""Predictions in expressions become `Predict` operators."""

from __future__ import annotations

from gradbase.errors import UnsupportedError
from gradbase.ir.node import Node
from gradbase.ir.relational import Aggregate, Filter, Join, Project, Relation, Sort
from gradbase.ir.scalar import Scalar, conjunction, conjuncts
from gradbase.optimizer.analyses.lowering import columns_of, lower
from gradbase.optimizer.context import Context
from gradbase.optimizer.rule import rule


@rule(mandatory=True)
def extract_predictions(n: Node, ctx: Context) -> Node | None:
    """Compute each prediction in an operator's expressions by a `Predict` below that operator.

    Features that are not plain columns are computed by a `Project` below the `Predict`. Columns
    added on the way have internal names (``__gb_1``) and are projected away above. Predictions in
    the text of an `SqlFragment` stay: the engine calls them.
    """
    match n:
        case Filter(child=child, predicate=predicate) if predicate.predictions:
            below, (changed,) = lower(child, (predicate,), ctx)
            return columns_of(Filter(below, changed), n.schema.names)
        case Project(child=child, names=names, exprs=exprs) if _any(n):
            below, changed = lower(child, exprs, ctx)
            return Project(below, names, changed)
        case Aggregate(child=child, keys=keys, aggregates=aggregates) if _any(n):
            below, changed = lower(child, keys + aggregates, ctx)
            return Aggregate(
                below, n.key_names, changed[: len(keys)], n.aggregate_names, changed[len(keys) :]
            )
        case Sort(child=child, keys=keys, orders=orders) if _any(n):
            below, changed = lower(child, keys, ctx)
            return columns_of(Sort(below, changed, orders), n.schema.names)
        case Join(condition=condition) if condition is not None and condition.predictions:
            return _join(n, ctx)
    return None


def _any(n: Project | Aggregate | Sort) -> bool:
    scalars = n.exprs if isinstance(n, Project) else n.keys
    scalars += n.aggregates if isinstance(n, Aggregate) else ()
    return any(s.predictions for s in scalars)


def _join(n: Join, ctx: Context) -> Relation:
    """Predictions over one side are computed on that side, others above an inner join."""
    assert n.condition is not None
    left, right = n.left, n.right
    on = list(conjuncts(n.condition))
    above: list[Scalar] = []
    for at, part in enumerate(on):
        if not part.predictions:
            continue
        # A prediction may be compared with the other side, so it is its own columns that count.
        reads = frozenset[str]().union(*(p.columns for p in part.predictions))
        if reads <= set(left.schema.names):
            left, (on[at],) = lower(left, (part,), ctx)
        elif reads <= set(right.schema.names):
            right, (on[at],) = lower(right, (part,), ctx)
        else:
            above.append(part)
    if above and n.kind not in ("inner", "cross"):
        raise UnsupportedError(
            f"a {n.kind} join cannot be decided by a prediction over columns of both sides",
            hint="predict in a subquery on one side, or filter an inner join",
        )
    kept = tuple(part for part in on if part not in above)
    joined: Relation
    if kept:
        joined = Join(left, right, n.kind, conjunction(kept))
    else:
        joined = Join(left, right, "cross", None)
    for part in above:
        joined, (changed,) = lower(joined, (part,), ctx)
        joined = Filter(joined, changed)
    return columns_of(joined, n.schema.names)
