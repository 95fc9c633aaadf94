"""Finds the operator below that computes a prediction already, and makes it pass it up."""

from __future__ import annotations

from collections.abc import Mapping

from gradbase.ir.learning import Model, Predict
from gradbase.ir.relational import Filter, Join, Limit, Project, Relation, Sort
from gradbase.ir.scalar import Column, Scalar
from gradbase.optimizer.analyses.columns import columns_in, expand
from gradbase.optimizer.analyses.lowering import columns_of
from gradbase.optimizer.context import Context

Features = tuple[Scalar, ...]

_LEFT_PRESERVED = ("inner", "cross", "left", "semi", "anti")
_RIGHT_PRESERVED = ("inner", "cross", "right")


def find_provider(relation: Relation, model: Model, features: Features) -> list[Relation] | None:
    """The operators from `relation` down to a `Predict` of `model` over `features`; None: none.

    `features` are over the columns of `relation` and followed down to what they are there.
    """
    path: list[Relation] = []
    current: Relation | None = relation
    read: Features | None = features
    while current is not None and read is not None:
        path.append(current)
        if isinstance(current, Predict) and _same(current, model, read):
            return path
        current, read = _below(current, read)
    return None


def _below(current: Relation, read: Features) -> tuple[Relation | None, Features | None]:
    match current:
        case Filter(child=x) | Sort(child=x) | Limit(child=x):
            return x, read
        case Predict(child=x, names=names) if columns_in(read).isdisjoint(names):
            return x, read
        case Project(child=x):
            return x, expand(current, read)
        case Join(left=left, right=right, kind=kind):
            if kind in _LEFT_PRESERVED and columns_in(read) <= set(left.schema.names):
                return left, read
            if kind in _RIGHT_PRESERVED and columns_in(read) <= set(right.schema.names):
                return right, read
        case _:
            pass
    return None, None


def _same(found: Predict, model: Model, read: Features) -> bool:
    """Whether `found` computes `model` of `read`, also where both are computed right below it."""
    if found.model is not model or not columns_in(read).isdisjoint(found.names):
        return False
    own: Features = tuple(Column(f, found.child.schema.type_of(f)) for f in found.features)
    if own == read:
        return True
    if not isinstance(found.child, Project):
        return False
    one, other = expand(found.child, own), expand(found.child, read)
    return one is not None and one == other


def provide(
    path: list[Relation], wanted: Mapping[str, str], context: Context
) -> tuple[Relation, dict[str, str]]:
    """The relation `path[0]` with the outputs `wanted` (method -> a name for it) as columns.

    Returns the relation and the column of each method.
    """
    predict = path[-1]
    assert isinstance(predict, Predict)
    taken = {name for relation in path for name in relation.schema.names}
    taken |= set(predict.child.schema.names)
    provided = dict(zip(predict.methods, predict.names, strict=True))
    for method, name in wanted.items():
        if method not in provided:
            provided[method] = context.fresh() if name in taken else name
    current: Relation = predict.replace(methods=tuple(provided), names=tuple(provided.values()))
    lower = predict
    for relation in reversed(path[:-1]):
        if isinstance(relation, Project):
            current, provided = _through(relation, current, provided, context)
        else:
            children = tuple(current if c is lower else c for c in relation.children)
            current = relation.with_children(children)
        lower = relation
    return current, {m: provided[m] for m in wanted}


def _through(
    project: Project, child: Relation, provided: Mapping[str, str], context: Context
) -> tuple[Project, dict[str, str]]:
    """`project` over `child`, passing the provided columns on."""
    names, exprs, passed = list(project.names), list(project.exprs), dict[str, str]()
    for method, name in provided.items():
        column = columns_of(child, (name,)).exprs[0]
        if column in exprs:
            passed[method] = names[exprs.index(column)]
            continue
        passed[method] = context.fresh() if name in names else name
        names.append(passed[method])
        exprs.append(column)
    return Project(child, tuple(names), tuple(exprs)), passed
