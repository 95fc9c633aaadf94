"""Fits over parts of the same rows read them once."""

from __future__ import annotations

from gradbase.ir.learning import Dataset, Fit, FusedFit, Search
from gradbase.ir.node import Node
from gradbase.ir.relational import Project, Relation, Scan
from gradbase.ir.scalar import Column
from gradbase.optimizer.context import Context
from gradbase.optimizer.rule import rule


@rule(source="own")
def share_scan(n: Node, ctx: Context) -> Node | None:
    """Search over datasets with different columns of one table or relation -> over all of them.

    Equal datasets are one node already and read once. A dataset names its features, so columns
    that only another one reads change nothing for it.
    """
    del ctx
    if not isinstance(n, Search):
        return None
    datasets = tuple(dict.fromkeys(f.data for f in n.fits))
    wide = _widest(tuple(dict.fromkeys(d.relation for d in datasets)))
    changed = {d: d.replace(relation=wide.get(d.relation, d.relation)) for d in datasets}
    if all(d is c for d, c in changed.items()):
        return None
    return n.replace(trials=tuple(_over(t, changed) for t in n.trials))


def _over(trial: Fit | FusedFit, changed: dict[Dataset, Dataset]) -> Fit | FusedFit:
    if isinstance(trial, FusedFit):
        return FusedFit(tuple(f.replace(data=changed[f.data]) for f in trial.fits))
    return trial.replace(data=changed[trial.data])


def _widest(relations: tuple[Relation, ...]) -> dict[Relation, Relation]:
    """Relation -> the one with all columns that relations over the same rows read."""
    by_rows: dict[object, list[Relation]] = {}
    for relation in relations:
        by_rows.setdefault(_rows_of(relation), []).append(relation)
    return {r: _union(group) for group in by_rows.values() if len(group) > 1 for r in group}


def _rows_of(relation: Relation) -> object:
    match relation:
        case Scan(table=table, prefix=prefix):
            return (table, prefix)
        case Project(child=child, names=names, exprs=exprs):
            plain = all(
                isinstance(e, Column) and e.name == n for n, e in zip(names, exprs, strict=True)
            )
            return child if plain else relation
        case _:
            return relation


def _union(group: list[Relation]) -> Relation:
    first = group[0]
    match first:
        case Scan():
            fields = dict.fromkeys(f for r in group for f in r.schema)
            return first.replace(columns=type(first.columns)(tuple(fields)))
        case Project(child=child):
            wanted = {n for r in group for n in r.schema.names}
            names = tuple(n for n in child.schema.names if n in wanted)
            return Project(child, names, tuple(Column(n, child.schema.type_of(n)) for n in names))
        case _:
            return first
