"""From predictions inside expressions to `Predict` operators below them."""

from __future__ import annotations

from collections.abc import Callable

from gradbase.ir.learning import Predict
from gradbase.ir.node import Node
from gradbase.ir.relational import Project, Relation
from gradbase.ir.scalar import Column, PredictCall, Scalar
from gradbase.ir.types import Schema
from gradbase.optimizer.context import Context

Named = tuple[str, PredictCall]


def columns_of(relation: Relation, names: tuple[str, ...]) -> Project:
    """The columns `names` of `relation`, as they are."""
    return Project(relation, names, tuple(Column(n, relation.schema.type_of(n)) for n in names))


def lower(
    child: Relation, scalars: tuple[Scalar, ...], context: Context
) -> tuple[Relation, tuple[Scalar, ...]]:
    """`child` with a column per prediction in `scalars`, and `scalars` reading these columns.

    Each place where a prediction is written gets a column of its own (its features may be
    volatile); `share_predictions` merges what may be merged. Inner predictions come first.
    """
    while any(s.predictions for s in scalars):
        found: list[Named] = []

        def name_of(call: PredictCall, found: list[Named] = found) -> Scalar:
            found.append((context.fresh(), call))
            return Column(found[-1][0], call.type)

        scalars = tuple(_replace_innermost(s, name_of) for s in scalars)
        child = _predicted(child, found, context)
    return child, scalars


def _replace_innermost(root: Scalar, change: Callable[[PredictCall], Scalar]) -> Scalar:
    """`change` at every place of a prediction without predictions inside, left to right."""
    stack: list[tuple[Node, bool]] = [(root, False)]
    made: list[Node] = []
    while stack:
        node, expanded = stack.pop()
        if expanded:
            count = len(node.children)
            made[len(made) - count :] = [node.with_children(tuple(made[len(made) - count :]))]
        elif not isinstance(node, Scalar) or not node.predictions:
            made.append(node)
        elif isinstance(node, PredictCall) and not any(f.predictions for f in node.features):
            made.append(change(node))
        else:
            stack.append((node, True))
            stack.extend((c, False) for c in reversed(node.children))
    (done,) = made
    assert isinstance(done, Scalar)
    return done


def _predicted(child: Relation, calls: list[Named], context: Context) -> Relation:
    """A `Predict` per call over `child`, above one `Project` for the features to be computed."""
    computed: list[tuple[str, Scalar]] = []
    names: dict[Scalar, str] = {}

    def column(feature: Scalar, schema: Schema) -> str:
        if isinstance(feature, Column) and feature.name in schema:
            return feature.name
        if feature.volatile or feature not in names:
            computed.append((context.fresh(), feature))
            names[feature] = computed[-1][0]
        return names[feature]

    features = [tuple(column(f, child.schema) for f in call.features) for _, call in calls]
    if computed:
        kept = columns_of(child, child.schema.names)
        added, exprs = zip(*computed, strict=True)
        child = Project(child, kept.names + added, kept.exprs + exprs)
    for (name, call), columns in zip(calls, features, strict=True):
        child = Predict(child, call.model, columns, (call.output,), (name,))
    return child
