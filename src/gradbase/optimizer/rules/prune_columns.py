"""Columns that nobody reads are not scanned."""

from __future__ import annotations

from gradbase.ir.learning import Dataset, Evaluate
from gradbase.ir.node import Node
from gradbase.ir.relational import Aggregate, Project, Relation
from gradbase.optimizer.analyses.columns import columns_in, keep, narrow
from gradbase.optimizer.context import Context
from gradbase.optimizer.rule import rule


@rule(requires=("extract_predictions",), source="textbook")
def prune_columns(n: Node, ctx: Context) -> Node | None:
    """What reads some columns of `child` only -> the same over a `child` without the others.

    Projections move down step by step and end in the scans. One column always stays, so that
    ``count(*)`` has rows to count. A fragment of SQL is taken to read all columns of its inputs.
    """
    del ctx
    match n:
        case Project(child=child, exprs=exprs):
            narrowed = narrow(child, columns_in(exprs))
            return None if narrowed is None else n.replace(child=narrowed)
        case Aggregate(child=child, keys=keys, aggregates=aggregates):
            narrowed = narrow(child, columns_in(keys + aggregates))
            return None if narrowed is None else n.replace(child=narrowed)
        case Dataset(relation=relation):
            changed = _only(relation, frozenset(n.columns))
            return None if changed is relation else n.replace(relation=changed)
        case Evaluate(child=child, features=features, label=label):
            changed = _only(child, frozenset(features) | {label})
            return None if changed is child else n.replace(child=changed)
    return None


def _only(relation: Relation, needed: frozenset[str]) -> Relation:
    kept = keep(relation, needed)
    return kept if kept is not relation else narrow(relation, needed) or relation
