"""Features that a network reads without effect are not read."""

from __future__ import annotations

from gradbase.ir.learning import Feature, Predict
from gradbase.ir.node import Node
from gradbase.ir.tensor import Linear, Tensor
from gradbase.optimizer.analyses.networks import (
    Entry,
    FirstLayer,
    FirstTrees,
    column_of,
    entries,
    with_outputs,
)
from gradbase.optimizer.analyses.proofs import finite, never_null
from gradbase.optimizer.context import Choice, Context
from gradbase.optimizer.rule import rule


@rule(
    requires=("extract_predictions", "fold_known_values"),
    exactness="tolerance",
    source="indb inference 2.2 R2; Raven's projection push-down through the model",
)
def drop_idle_features(n: Node, ctx: Context) -> Node | None:
    """Predict -> Predict without features whose weights are all 0 or that no tree tests.

    0 times NaN is not 0, and an infinite value is an error in a model of our own: features go only
    where that cannot be, by their type, a filter, or what the engine promises of the column. NULL
    in a feature of an imported network makes the result NULL, so there it must not be NULL either.
    """
    if not isinstance(n, Predict) or n.representation or ctx.weights is None:
        return None
    found = entries(n.model, n.methods)
    idle = _idle(found, ctx) if found else frozenset[str]()
    columns = dict(zip((f.name for f in n.model.features), n.features, strict=True))
    harmless = [f for f in n.model.features if f.name in idle]
    harmless = [f for f in harmless if _harmless(n, f, columns[f.name], ctx)]
    names = _but_one({f.name for f in harmless}, found)
    if not names:
        return None
    changes: dict[Node, Tensor | None] = {e.node: _without(e, names) for e in found}
    model = n.model.replace(
        features=tuple(f for f in n.model.features if f.name not in names),
        outputs=with_outputs(n.model, n.methods, changes.get),
    )
    changed = n.replace(model=model, features=tuple(columns[f.name] for f in model.features))
    ctx.chose(n, changed, Choice("narrowed", f"without effect: {', '.join(sorted(names))}"))
    return changed


def _idle(found: tuple[Entry, ...], ctx: Context) -> frozenset[str]:
    """The columns that no entry lets through."""
    read: set[str] = set()
    every: set[str] = set()
    for entry in found:
        places = _silent(entry, ctx)
        for part, start in zip(entry.parts, entry.starts, strict=True):
            every.add(column_of(part))
            if not places.issuperset(range(start, start + part.shape[-1])):
                read.add(column_of(part))
    return frozenset(every - read)


def _but_one(names: set[str], found: tuple[Entry, ...]) -> set[str]:
    """`names` without one of each entry that would have nothing left to read."""
    for entry in found:
        own = sorted({column_of(p) for p in entry.parts})
        if names.issuperset(own):
            names = names - {own[0]}
    return names


def _silent(entry: Entry, ctx: Context) -> frozenset[int]:
    """The places of an entry's input that have no effect."""
    assert ctx.weights is not None
    if isinstance(entry, FirstLayer):
        return ctx.weights.idle(entry.layer.weight) or frozenset()
    tested = ctx.weights.tested(entry.trees)
    if tested is None:
        return frozenset()
    return frozenset(range(entry.trees.x.shape[-1])) - frozenset[int]().union(*tested)


def _harmless(n: Predict, feature: Feature, column: str, ctx: Context) -> bool:
    """Whether no value of the column could show."""
    if feature.of.kind == "array":  # nothing is known of elements
        return not n.model.imported and not (feature.of.element or feature.of).is_float
    if n.model.imported and not never_null(n.child, column, ctx):
        return False
    return finite(n.child, column, ctx)


def _without(entry: Entry, gone: set[str]) -> Tensor | None:
    kept = [i for i, p in enumerate(entry.parts) if column_of(p) not in gone]
    if len(kept) == len(entry.parts):
        return None
    match entry:
        case FirstTrees():
            return entry.trees.replace(x=entry.inputs(kept), places=entry.places(kept))
        case FirstLayer():
            return Linear(entry.inputs(kept), entry.weight(kept), entry.layer.bias)
