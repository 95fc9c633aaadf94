"""Filters move below joins."""

from __future__ import annotations

from gradbase.ir.node import Node
from gradbase.ir.relational import Filter, Join, Relation
from gradbase.ir.scalar import Scalar, conjunction, conjuncts
from gradbase.optimizer.analyses.joins import PRESERVED
from gradbase.optimizer.context import Context
from gradbase.optimizer.rule import rule


@rule(requires=("extract_predictions",), source="textbook; indb inference 2.2 R1")
def push_filter_below_join(n: Node, ctx: Context) -> Node | None:
    """Filter(Join(x, y)) -> Filter(Join(Filter(x), Filter(y))) for conjuncts over one side.

    Only into a side whose rows the join does not fill up with NULL. Volatile conjuncts and those
    without columns stay.
    """
    del ctx
    match n:
        case Filter(child=Join(left=left, right=right, kind=kind) as join, predicate=predicate):
            parts = conjuncts(predicate)
            into_left, into_right = PRESERVED[kind]
            below_left = _over(parts, left) if into_left else ()
            below_right = _over(parts, right) if into_right else ()
            if not below_left and not below_right:
                return None
            moved = join.replace(
                left=_filtered(left, below_left), right=_filtered(right, below_right)
            )
            kept = tuple(p for p in parts if p not in (*below_left, *below_right))
            return Filter(moved, conjunction(kept)) if kept else moved
    return None


def _over(parts: tuple[Scalar, ...], side: Relation) -> tuple[Scalar, ...]:
    names = {*side.schema.names}
    return tuple(p for p in parts if p.columns and p.columns <= names and not p.volatile)


def _filtered(side: Relation, parts: tuple[Scalar, ...]) -> Relation:
    return Filter(side, conjunction(parts)) if parts else side
