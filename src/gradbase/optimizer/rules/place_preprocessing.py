"""Where preprocessing functions are computed: in the engine's SQL or in the program."""

from __future__ import annotations

from gradbase.ir.derived import Derived, as_columns
from gradbase.ir.learning import Evaluate, Feature, Model, Predict, Preprocess
from gradbase.ir.node import Node
from gradbase.ir.preprocessing import Preprocessing
from gradbase.ir.relational import Project, Relation, SqlFragment
from gradbase.ir.scalar import Column, PredictCall, Scalar, scalars, substituted
from gradbase.optimizer.analyses.lowering import columns_of
from gradbase.optimizer.context import Context
from gradbase.optimizer.cost_preprocess import cheapest_cut, engine_seconds, handing_seconds
from gradbase.optimizer.rule import rule


@rule(mandatory=True, requires=("extract_predictions", "extract_analytics"))
def place_preprocessing(n: Node, ctx: Context) -> Node | None:
    """Compute what a model reads, and preprocessing in projections, where it takes least time.

    Parts for the engine become a `Project` below; parts for the program stay in the model, or
    become a `Preprocess`. With the optimiser off the engine does all it can. Same bits either way.
    """
    match n:
        case Predict(model=model) if model.columns and n not in ctx.placed:
            return _predict(n, ctx)
        case Evaluate(model=model) if model.columns and n not in ctx.placed:
            return _below(n, ctx)
        case SqlFragment(calls=calls) if any(_reads_more(c) for c in calls) and n not in ctx.placed:
            made = n.replace(calls=tuple(_call(c, ctx) for c in calls))
            ctx.placed.add(made)
            return made
        case Project(exprs=exprs) if any(_preprocesses(e) for e in exprs) and n not in ctx.placed:
            return _project(n, ctx)
    return None


def _preprocesses(scalar: Scalar) -> bool:
    return next(scalars(scalar, Preprocessing), None) is not None


def _plain(ctx: Context) -> bool:
    return not ctx.settings.optimizer


# -- what a model reads --------------------------------------------------------------------------


def _predict(n: Predict, ctx: Context) -> Node | None:
    made = _below(n, ctx)
    return None if made is None else columns_of(made, n.schema.names)


def _below(n: Predict | Evaluate, ctx: Context) -> Predict | Evaluate | None:
    """The same over a child with a column for each part that the engine computes."""
    given = tuple(Column(f, n.child.schema.type_of(f)) for f in n.features)
    model, features, parts = _divided(n.model, given, ctx)
    if model is n.model:
        return None
    kept = columns_of(n.child, n.child.schema.names)
    child: Relation = n.child
    if parts:
        child = Project(child, (*kept.names, *parts), (*kept.exprs, *parts.values()))
        ctx.placed.add(child)
    names = tuple(f.name for f in features if isinstance(f, Column))
    made = n.replace(child=child, model=model, features=names)
    ctx.placed.add(made)
    return made


def _divided(
    model: Model, given: tuple[Scalar, ...], ctx: Context
) -> tuple[Model, tuple[Scalar, ...], dict[str, Scalar]]:
    """`model` without the parts that the engine computes; its features; these parts by name.

    `given` are the expressions of the model's features.
    """
    exprs = tuple(c.expr for c in model.columns)
    cut = cheapest_cut(exprs, ctx, plain=_plain(ctx))
    columns, rest = as_columns(exprs, cut.engine, ctx.fresh)
    raw: dict[Scalar, Scalar] = {
        Column(f.name, f.of): g for f, g in zip(model.features, given, strict=True)
    }
    parts = {column.name: substituted(part, raw) for part, column in columns.items()}
    made = {c: Column(c.name, c.of) for c in columns.values()}
    known: dict[Scalar, Scalar] = {**raw, **made}
    if all(isinstance(r, Column) for r in rest):
        # Nothing is left to compute: the network reads the columns as they are.
        names = tuple(c.name for c in model.columns)
        features = tuple(Feature(n, r.type) for n, r in zip(names, rest, strict=True))
        bare = model.replace(features=features, columns=(), transform=())
        return bare, tuple(known[r] for r in rest if isinstance(r, Column)), parts
    if not cut.engine:
        return model, given, {}
    read = dict.fromkeys(c for r in rest for c in scalars(r, Column))
    pairs = zip(model.columns, rest, strict=True)
    divided = model.replace(
        features=tuple(Feature(c.name, c.of) for c in read),
        columns=tuple(Derived(c.name, r) for c, r in pairs),
        transform=(),
    )
    return divided, tuple(known[c] for c in read), parts


# -- predictions in the text of a query ----------------------------------------------------------


def _reads_more(scalar: Scalar) -> bool:
    return any(c.model.columns for c in scalar.predictions)


def _call(scalar: Scalar, ctx: Context) -> Scalar:
    """A prediction that the engine calls, over expressions of the engine's."""
    if not isinstance(scalar, PredictCall) or not scalar.model.columns:
        return scalar
    model, features, parts = _divided(scalar.model, scalar.features, ctx)
    found = (parts[f.name] if isinstance(f, Column) and f.name in parts else f for f in features)
    return PredictCall(model, scalar.output, tuple(found))


# -- projections ---------------------------------------------------------------------------------


def _project(n: Project, ctx: Context) -> Node | None:
    """The program computes what the engine cannot, or what is worth handing all rows over for."""
    wanted = tuple(e for e in n.exprs if _preprocesses(e))
    handed = 2 * sum(handing_seconds(f.type, ctx) for f in n.child.schema)
    cut = cheapest_cut(wanted, ctx, plain=_plain(ctx))
    if engine_seconds(wanted, ctx) <= cut.seconds + handed or set(cut.engine) == set(wanted):
        return None
    return _through_program(n, wanted, cut.engine, ctx)


def _through_program(
    n: Project, wanted: tuple[Scalar, ...], parts: tuple[Scalar, ...], ctx: Context
) -> Project:
    columns, rest = as_columns(wanted, parts, ctx.fresh)
    child: Relation = n.child
    if columns:
        kept = columns_of(child, child.schema.names)
        names = tuple(c.name for c in columns.values())
        child = Project(child, (*kept.names, *names), (*kept.exprs, *columns))
        ctx.placed.add(child)
    names = tuple(ctx.fresh() for _ in wanted)
    below = Preprocess(child, names, rest)
    found = {e: Column(name, e.type) for e, name in zip(wanted, names, strict=True)}
    return Project(below, n.names, tuple(found.get(e, e) for e in n.exprs))
