"""Joins that change nothing are not made."""

from __future__ import annotations

from gradbase.ir.learning import Predict
from gradbase.ir.node import Node, walk
from gradbase.ir.relational import Aggregate, Filter, Join, Project, Relation
from gradbase.ir.scalar import Column, Compare, IsNull, Not, Scalar, conjunction, conjuncts
from gradbase.ir.types import SqlType
from gradbase.optimizer.analyses.columns import columns_in
from gradbase.optimizer.analyses.proofs import is_unique, never_null, refers, source
from gradbase.optimizer.context import Choice, Context
from gradbase.optimizer.rule import rule

Pair = tuple[Column, Column]

_EXACT = ("text", "date", "uuid", "bool")
"""Types of which equal values are the same, beside whole numbers."""


@rule(
    requires=("extract_predictions", "prune_columns"),
    source="indb inference 2.2 R2; Raven's elimination of joins",
)
def remove_joins(n: Node, ctx: Context) -> Node | None:
    """Project or Aggregate over a join whose one side it does not read -> over the other side.

    A left join goes where the side not read has a declared key among the columns compared: no row
    comes twice. An inner or semi join also needs a foreign key to the whole of that side: no row is
    lost, but for those whose own columns are NULL, which a filter leaves out. Keys are compared
    whose equal values are the same: whole numbers, dates, texts without a collation, UUIDs.
    """
    match n:
        case Join(kind="semi"):
            return _rows(n, n.left, n.right, ctx)
        case Project(child=Join() as join, exprs=exprs):
            read = columns_in(exprs)
        case Aggregate(child=Join() as join, keys=keys, aggregates=aggregates):
            read = columns_in(keys + aggregates)
        case _:
            return None
    for kept, gone in ((join.left, join.right), (join.right, join.left)):
        if read <= {*kept.schema.names}:
            rows = _rows(join, kept, gone, ctx)
            if rows is not None:
                return n.replace(child=rows)
    return None


def _rows(join: Join, kept: Relation, gone: Relation, ctx: Context) -> Relation | None:
    """What the join gives of `kept`; None where it may add or lose rows."""
    if join.condition is None or join.condition.volatile or not _quiet(gone):
        return None
    parts = conjuncts(join.condition)
    pairs = [p for p in (_pair(c, kept, gone) for c in parts) if p is not None]
    pairs = [(a, b) for a, b in pairs if a.of.kind != "text" or _plain_texts(kept, a, ctx)]
    own, others = tuple(a.name for a, _ in pairs), tuple(b.name for _, b in pairs)
    outer = join.kind == ("left" if gone is join.right else "right")
    if join.kind != "semi" and not is_unique(gone, frozenset(others), ctx):
        return None
    if outer:
        _note(kept, "a key: each row once", ctx)
        return kept
    whole = join.kind in ("inner", "semi") and len(pairs) == len(parts)
    if not whole or not refers(kept, own, gone, others, ctx):
        return None
    filled = [Not(IsNull(a)) for a, _ in pairs if not never_null(kept, a.name, ctx)]
    made = Filter(kept, conjunction(tuple(filled))) if filled else kept
    _note(made, "a foreign key: each row has its partner", ctx)
    return made


def _quiet(gone: Relation) -> bool:
    """Whether nobody would notice that `gone` is not computed."""
    return not any(
        isinstance(x, Predict) or (isinstance(x, Scalar) and x.volatile) for x in walk(gone)
    )


def _pair(part: Scalar, kept: Relation, gone: Relation) -> Pair | None:
    """The columns of the two sides that a conjunct sets equal."""
    match part:
        case Compare(op="=", left=Column() as a, right=Column() as b):
            a, b = (a, b) if a.name in kept.schema else (b, a)
            sides = a.name in kept.schema and b.name in gone.schema
            return (a, b) if sides and _same_kind(a.of, b.of) else None
    return None


def _same_kind(a: SqlType, b: SqlType) -> bool:
    return (a.is_integer and b.is_integer) or (a == b and a.kind in _EXACT)


def _plain_texts(kept: Relation, column: Column, ctx: Context) -> bool:
    """Whether texts of `column` are equal to themselves only: promises are of such tables."""
    found = source(kept, column.name)
    return found is not None and ctx.statistics.promises(found.scan.table) is not None


def _note(rows: Relation, why: str, ctx: Context) -> None:
    ctx.choices[rows] = Choice("without a join", f"nothing else is read of a side with {why}")
