"""Which expression feeds which feature of a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gradbase.errors import BindError
from gradbase.frontend.dialect import type_sql
from gradbase.frontend.misfits import Misfit, misfit_error
from gradbase.frontend.names import lookup
from gradbase.ir.derived import typed_columns
from gradbase.ir.learning import Feature, Model
from gradbase.ir.relational import Project, Relation
from gradbase.ir.scalar import (
    UNTYPED,
    Column,
    Literal,
    PredictCall,
    Scalar,
    SqlScalar,
    scalars,
    substituted,
)
from gradbase.ir.types import Schema, SqlType
from gradbase.ir.unlabelled import CLUSTERS, COMPONENTS

METHOD = {
    "binary": "label", "multiclass": "label", "regression": "value", "raw": "raw",
    CLUSTERS: "centroid", COMPONENTS: "raw", "reconstruction": "raw",
}  # fmt: skip
"""What PREDICT gives, by task."""


def check_predicts(model: Model, at: str | None = None) -> None:
    """BindError where a model has nothing to predict."""
    if model.task not in METHOD:
        raise BindError(
            f"model `{model.name}` predicts nothing, it is a TRANSFORM",
            at=at,
            hint=f"SELECT * FROM ML.TRANSFORM(MODEL {model.name}, TABLE …)",
        )


@dataclass(frozen=True)
class Given:
    """A value on offer: its name ('' by position) and expression."""

    name: str
    value: Scalar


def method_of(function: str, model: Model) -> str:
    """The model's output that a scalar function asks for."""
    return "proba" if function == "PREDICT_PROBA" else METHOD[model.task]


def predict_call(
    model: Model, method: str, given: Sequence[Given], *, by_name: bool, at: str | None
) -> PredictCall:
    """The prediction, its features chosen among `given` by name or by position.

    Raises
    ------
    BindError
        A feature is missing, ambiguous or of another type, or the number of arguments differs.
    """
    if method not in {o.method for o in model.outputs}:
        raise BindError(
            f"model `{model.name}` ({model.task}) has no probabilities"
            if method == "proba"
            else f"model `{model.name}` ({model.task}) has no output `{method}`",
            at=at,
            hint="use PREDICT" if method == "proba" else None,
        )
    if not by_name and len(given) != len(model.features):
        names = ", ".join(f.name for f in model.features)
        raise BindError(
            f"model `{model.name}` reads {len(model.features)} features ({names}), "
            f"{len(given)} were given",
            at=at,
            hint=_way_to_give(model, len(given)),
        )
    chosen = _chosen(model, model.features, given, at, by_name=by_name)
    return PredictCall(model, method, chosen)


def _way_to_give(model: Model, given: int) -> str:
    """How to call a model that was given another number of arguments than it has features."""
    of = model.features[0].of
    if len(model.features) == 1 and of.is_vector and of.size == (given,):
        return f"an array of {given} numbers is one argument: PREDICT({model.name}, [a, b, …])"
    return "PREDICT(model, *) takes them from the columns by name"


def transform_columns(
    model: Model, given: Sequence[Given], at: str | None = None
) -> dict[str, Scalar]:
    """What ML.TRANSFORM gives, by name, the columns it reads chosen among `given`.

    A label and the like that TRANSFORM only passes on are left out where they are not given.

    Raises
    ------
    BindError
        The model has no TRANSFORM, or a column that it reads is missing or of another type.
    """
    if not model.transform:
        raise BindError(
            f"model `{model.name}` was trained without TRANSFORM",
            at=at,
            hint="it reads the columns of its rows as they are",
        )
    features = {f.name for f in model.features}
    there = {g.name.casefold() for g in given}
    wanted = [
        d
        for d in model.transform
        if not isinstance(d.expr, Column)
        or d.expr.name in features
        or d.expr.name.casefold() in there
    ]
    read = tuple(dict.fromkeys(c for d in wanted for c in scalars(d.expr, Column)))
    chosen = _chosen(model, [Feature(c.name, c.of) for c in read], given, at)
    columns: dict[Scalar, Scalar] = dict(zip(read, chosen, strict=True))
    return {d.name: substituted(d.expr, columns) for d in wanted}


def _chosen(
    model: Model,
    features: Sequence[Feature],
    given: Sequence[Given],
    at: str | None,
    *,
    by_name: bool = True,
) -> tuple[Scalar, ...]:
    """The value for each of `features`; BindError lists all that do not fit."""
    chosen: list[Scalar] = []
    misfits: list[Misfit] = []
    typed = typed_columns((*model.columns, *model.transform))
    for i, feature in enumerate(features):
        value = _named(model, feature, given, at) if by_name else given[i].value
        if value is None or not feature_type_fits(feature.of, value.type):
            misfits.append(Misfit(feature.name, feature.of, None if value is None else value.type))
        else:
            chosen.append(_as_trained(feature, value, typed))
    if misfits:
        raise misfit_error(model, misfits, [g.name for g in given], at)
    return tuple(chosen)


def as_trained(model: Model, relation: Relation, names: Sequence[str]) -> Relation:
    """`relation` with its columns `names`, one per feature of `model`, as what is computed of them
    in the model takes them."""
    typed = typed_columns((*model.columns, *model.transform))
    casts: dict[str, Scalar] = {}
    for feature, name in zip(model.features, names, strict=True):
        column = Column(name, relation.schema.type_of(name))
        value = _as_trained(feature, column, typed)
        if value is not column:
            casts[name] = value
    if not casts:
        return relation
    exprs = (casts.get(f.name, Column(f.name, f.type)) for f in relation.schema)
    return Project(relation, relation.schema.names, tuple(exprs))


def _as_trained(feature: Feature, value: Scalar, typed: Mapping[Column, bool]) -> Scalar:
    """`value` cast to the type of the training where something is computed of the feature.

    Functions of ours take numbers of any type, and so does the network. A NULL without a type gets
    the one of the training.
    """
    if value is UNTYPED:
        return Literal(None, feature.of)
    in_sql = typed.get(Column(feature.name, feature.of))
    if value.type == feature.of or in_sql is None:
        return value
    if value.type.is_numeric and not in_sql:
        return value
    return SqlScalar(("CAST(", f" AS {type_sql(feature.of)})"), (value,), feature.of)


def _named(model: Model, feature: Feature, given: Sequence[Given], at: str | None) -> Scalar | None:
    exact = [g for g in given if g.name == feature.name]
    found = exact or [g for g in given if g.name.casefold() == feature.name.casefold()]
    values = list(dict.fromkeys(g.value for g in found))
    if len(values) > 1:
        raise BindError(
            f"model `{model.name}` reads column `{feature.name}`, which several tables have",
            at=at,
            hint=f"PREDICT({model.name}, t.*) or PREDICT({model.name}, *, t.{feature.name} "
            f"AS {feature.name})",
        )
    return values[0] if values else None


def feature_columns(
    model: Model, schema: Schema, *, at: str | None, with_label: bool = False
) -> tuple[str, ...]:
    """The columns for the model's features, and behind them that of its label `with_label`.

    Raises
    ------
    BindError
        Columns are missing or of other types; lists all of them.
    """
    features = model.features
    if with_label:
        features = (*features, Feature(model.label, label_type(model)))
    found: list[str] = []
    misfits: list[Misfit] = []
    for i, feature in enumerate(features):
        name = lookup(feature.name, schema.names)
        of = None if name is None else schema.type_of(name)
        is_label = i == len(model.features)
        if name is None or of is None or not (is_label or feature_type_fits(feature.of, of)):
            misfits.append(Misfit(feature.name, feature.of, of))
        else:
            found.append(name)
    if misfits:
        raise misfit_error(model, misfits, schema.names, at)
    return tuple(found)


def label_type(model: Model) -> SqlType:
    """The type of what a model predicts."""
    output = model.outputs[0]
    return output.classes[0].of if output.classes else output.type


def feature_type_fits(trained: SqlType, found: SqlType) -> bool:
    """Whether a column of type `found` can stand for one of type `trained`.

    Numbers interchange; text and enums; dates and timestamps; arrays of fixed length need an equal
    one, the length of a list is checked row by row; elements and fields by the same rules. NULL
    fits everything.

    Examples
    --------
    >>> from gradbase.ir.types import FLOAT64, INT64, TEXT
    >>> feature_type_fits(INT64, FLOAT64), feature_type_fits(INT64, TEXT)
    (True, False)
    """
    if found.kind == "null" or trained == found:
        return True
    if trained.is_numeric and found.is_numeric:
        return True
    if trained.is_text and found.is_text:
        return True
    if trained.is_temporal and found.is_temporal:
        return True
    if trained.element is not None and found.element is not None:
        same_length = "list" in (trained.kind, found.kind) or trained.size == found.size
        return same_length and feature_type_fits(trained.element, found.element)
    fields = dict(found.fields)
    return trained.kind == found.kind == "struct" and all(
        name in fields and feature_type_fits(of, fields[name]) for name, of in trained.fields
    )
