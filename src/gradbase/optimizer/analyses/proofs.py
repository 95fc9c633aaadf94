"""What is sure of every row of a relation, by declared constraints, filters and storage bounds.

Estimates prove nothing. What is asked here is remembered with the plan, which is used again only
while the answers stay the same.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from gradbase.ir.facts import Promises
from gradbase.ir.learning import Predict
from gradbase.ir.relational import Aggregate, Filter, Join, Limit, Project, Relation, Scan, Sort
from gradbase.ir.scalar import Column
from gradbase.optimizer.analyses.joins import PRESERVED
from gradbase.optimizer.analyses.known import known_values
from gradbase.optimizer.context import Context


@dataclass(frozen=True)
class Source:
    """A column of a table, and whether an outer join may have put NULL in its place since."""

    scan: Scan
    column: str
    filled_up: bool


def is_unique(relation: Relation, columns: frozenset[str], context: Context) -> bool:
    """Whether no two rows are equal in all of `columns`, rows with a NULL there aside."""
    at, names = relation, columns
    while True:
        match at:
            case Filter(child=x) | Sort(child=x) | Limit(child=x):
                at = x
            case Join(left=x, kind="semi" | "anti"):
                at = x
            case Project(child=x):
                pairs = zip(at.names, at.exprs, strict=True)
                names = frozenset(e.name for n, e in pairs if n in names and isinstance(e, Column))
                at = x
            case Aggregate(key_names=keys):
                return names >= {*keys}
            case Scan():
                given = context.statistics.promises(at.table)
                own = frozenset(at.source(n) for n in names)
                return given is not None and any(key <= own for key in given.unique)
            case _:
                return False


def whole_table(relation: Relation) -> Scan | None:
    """The scan whose rows `relation` has, every one; None: it may have fewer."""
    while isinstance(relation, (Project, Sort)):
        relation = relation.child
    return relation if isinstance(relation, Scan) else None


def source(relation: Relation, column: str) -> Source | None:
    """Where `column` is read; None where it is computed."""
    at, filled_up = relation, False
    while not isinstance(at, Scan):
        match at:
            case Filter(child=x) | Sort(child=x) | Limit(child=x):
                at = x
            case Predict(child=x) if column in x.schema:
                at = x
            case Project(child=x):
                expr = at.exprs[at.names.index(column)]
                if not isinstance(expr, Column):
                    return None
                at, column = x, expr.name
            case Join(left=left, right=right, kind=kind):
                side = 0 if column in left.schema else 1
                filled_up = filled_up or not PRESERVED[kind][side]
                at = (left, right)[side]
            case _:
                return None
    return Source(at, at.source(column), filled_up)


def refers(
    relation: Relation, own: tuple[str, ...], to: Relation, columns: tuple[str, ...], ctx: Context
) -> bool:
    """Whether `own` of each row of `relation`, none NULL, are `columns` of some row of `to`."""
    table = whole_table(to)
    found = [s for s in (source(relation, c) for c in own) if s is not None]
    others = [s for s in (source(to, c) for c in columns) if s is not None]
    complete = len(found) == len(own) and len(others) == len(columns)
    if table is None or not complete or len({s.scan for s in found}) != 1:
        return False
    pairs = {(s.column, o.column) for s, o in zip(found, others, strict=True)}
    given = ctx.statistics.promises(found[0].scan.table)
    other = ctx.statistics.promises(table.table)
    if given is None or other is None:
        return False
    return any(
        r.identity == other.identity and {*zip(r.columns, r.referenced, strict=True)} == pairs
        for r in given.references
    )


def never_null(relation: Relation, column: str, context: Context) -> bool:
    """Whether `column` holds no NULL."""
    if column in known_values(relation):
        return True
    given = promised(relation, column, context)
    return given is not None and not given[0].filled_up and given[0].column in given[1].filled


def finite(relation: Relation, column: str, context: Context) -> bool:
    """Whether `column`, numbers, holds neither NaN nor ±Inf (NULL it may)."""
    if not relation.schema.type_of(column).is_float:
        return True
    known = known_values(relation).get(column)
    if known is not None and math.isfinite(known.low) and math.isfinite(known.high):
        return True
    given = promised(relation, column, context)
    return given is not None and given[0].column in given[1].ranges


def promised(relation: Relation, column: str, context: Context) -> tuple[Source, Promises] | None:
    """Where `column` is read and what is promised of that table.

    Of all columns that are read at once: a question takes a millisecond.
    """
    found = source(relation, column)
    if found is None:
        return None
    scan = found.scan
    given = context.statistics.promises(scan.table, tuple(map(scan.source, scan.columns.names)))
    return None if given is None else (found, given)
