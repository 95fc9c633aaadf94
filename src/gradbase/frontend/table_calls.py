"""Table functions of ours as relations: ``ML.PREDICT``, ``ML.EVALUATE`` and what is stored."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from gradbase.errors import BindError
from gradbase.frontend import model_functions as functions
from gradbase.frontend.calls import Call
from gradbase.frontend.dialect import element_sql, literal_sql, type_sql
from gradbase.frontend.features import METHOD, Given, predict_call, transform_columns
from gradbase.frontend.names import distinct_names
from gradbase.frontend.rich import Bound, Rich
from gradbase.frontend.scopes import Scope, with_prefix
from gradbase.frontend.tokens import quote_identifier
from gradbase.ir.conversion import RECONSTRUCTION_ERRORS
from gradbase.ir.grouping import EvaluateGroups, keys_of_model
from gradbase.ir.learning import Evaluate, Model
from gradbase.ir.relational import Project, Relation, Scan
from gradbase.ir.scalar import Column, Literal, Scalar, SqlScalar
from gradbase.ir.types import FLOAT64, INT64, Schema
from gradbase.ir.unlabelled import CLUSTERS, COMPONENTS, RECONSTRUCTION

if TYPE_CHECKING:
    from gradbase.frontend.binder import Binder


_VECTORS = {COMPONENTS: "principal_component", RECONSTRUCTION: "latent_col"}
"""Tasks whose predictions are several columns, and what these are called."""


def bind_table_call(binder: Binder, call: Call, scope: Scope) -> Bound:
    """The relation that a table function of ours gives."""
    rows = None if call.data is None else _data(binder, call, scope)
    match call.function:
        case "PREDICT":
            return _predict(binder, call, _needed(binder, call, rows))
        case "TRANSFORM":
            return _transform(binder, call, _needed(binder, call, rows))
        case "RECONSTRUCTION_LOSS":
            return _reconstruction_loss(binder, call, _needed(binder, call, rows))
        case "EVALUATE" if rows is not None:
            return _evaluate(binder, call, rows)
        case "CONFUSION_MATRIX":
            return functions.confusion_matrix(binder, call, rows)
        case "ROC_CURVE":
            return functions.roc_curve(binder, call, rows)
        case "COMPARE":
            return functions.compare(binder, call, _needed(binder, call, rows))
        case "SCHEMA_DRIFT":
            return functions.schema_drift(binder, call, _needed(binder, call, rows))
    at = binder.text.at(call.whole)
    if rows is not None:
        raise BindError(f"ML.{call.function} takes no rows", at=at, hint="leave the relation out")
    if call.threshold is not None:
        raise BindError(
            "threshold needs rows", at=at, hint="ML.EVALUATE(MODEL m, TABLE t, STRUCT(…))"
        )
    return _told(binder, call)


def _told(binder: Binder, call: Call) -> Bound:
    """What is known without rows."""
    model = binder.model(call)  # unknown names are reported with their span
    name, version = call.model.name, call.model.version
    match call.function:
        case "WEIGHTS":
            return functions.weights(binder, call)
        case "CENTROIDS" | "PRINCIPAL_COMPONENTS":
            return functions.loadings(binder, call)
        case "DESCRIBE":
            return functions.told(binder.models.describe(name, version))
    function = call.function
    if call.options.get("by_group"):
        if not keys_of_model(model):
            raise _no_groups(model, binder.text.at(call.whole))
        function = "EVALUATE_BY_GROUP"
    sql = binder.models.info(function, name, version)
    several = call.function == "TRIAL_INFO" or trials_of(binder, call) > 1
    if call.trial is not None and several:
        sql = f"SELECT * FROM ({sql}) AS __gb_q WHERE trial_id = {call.trial}"
    return Rich((sql,)).bound(binder.asker.schema(sql))


def _evaluate(binder: Binder, call: Call, data: Bound) -> Bound:
    threshold = functions.HALF if call.threshold is None else call.threshold
    at = binder.text.at(call.whole)
    model = binder.model(call)
    if call.threshold is not None and not model.label:
        raise BindError(f"threshold is for two classes, `{model.name}` is {model.task}", at=at)
    if call.options.get("by_group"):
        if not keys_of_model(model):
            raise _no_groups(model, at)
        if call.threshold is not None:
            raise BindError("threshold and by_group exclude each other", at=at)
        judged = functions.judged(EvaluateGroups, data.relation, model, threshold, at)
        return functions.told(judged)
    judged: Relation = functions.judged(Evaluate, data.relation, model, threshold, at)
    if trials_of(binder, call) > 1:
        columns = [Column(f.name, f.type) for f in judged.schema]
        names = ("trial_id", *judged.schema.names)
        judged = Project(judged, names, (Literal(model.trial, INT64), *columns))
    return functions.told(judged)


def _no_groups(model: Model, at: str) -> BindError:
    return BindError(
        f"model `{model.name}` is one for all rows, not one per group", at=at,
        hint="leave by_group out, or train with OPTIONS (group_by = ['column'])",
    )  # fmt: skip


def _needed(binder: Binder, call: Call, rows: Bound | None) -> Bound:
    if rows is None:
        raise BindError(
            f"ML.{call.function} needs rows",
            at=binder.text.at(call.whole),
            hint="give TABLE t or (SELECT …) after the model",
        )
    return rows


def trials_of(binder: Binder, call: Call) -> int:
    """Trials of the version that a call names."""
    return binder.models.trial_count(call.model.name, call.model.version)


def _data(binder: Binder, call: Call, scope: Scope) -> Bound:
    span = call.data
    assert span is not None
    if binder.text.word(span[0]) != "TABLE":
        return binder.query(span, scope)
    name = binder.text.slice((span[0] + 1, span[1]))
    single = span[1] - span[0] == 2
    named = scope.get(binder.text.tokens[span[0] + 1].name.casefold()) if single else None
    if named is not None and named.bound is not None:
        return named.bound
    text = with_prefix(Rich((f"SELECT * FROM {name}",)), scope)
    schema = binder.asker.schema(text.stub)
    if named is None:
        return Bound(Scan(name, "", schema), text.stub)
    return text.bound(schema)


def _given(schema: Schema) -> list[Given]:
    return [Given(f.name, Column(f.name, f.type)) for f in schema]


def _predict(binder: Binder, call: Call, data: Bound) -> Bound:
    """[trial_id,] [model_version,] predicted_<label>, its probabilities, all input columns."""
    model, at = binder.model(call), binder.text.at(call.whole)
    given = _given(data.schema)
    method = METHOD[model.task]
    value: Scalar = predict_call(model, method, given, by_name=True, at=at)
    if call.threshold is not None:
        value = _above(binder, call, model, given, value)
    columns = _numbered(binder, call, model)
    if call.options.get("with_version"):
        columns.append(("model_version", Literal(model.version, INT64)))
    keeps = call.options.get("keep_original_columns")
    if keeps is not None and model.task != COMPONENTS:
        raise BindError("keep_original_columns is for pca models", at=at)
    columns += _predicted(model, value, given, at)
    return _beside(columns, data, keeps=keeps or model.task != COMPONENTS)


def _reconstruction_loss(binder: Binder, call: Call, data: Bound) -> Bound:
    """[trial_id,] how far an autoencoder is off for each row, all input columns."""
    model, at = binder.model(call), binder.text.at(call.whole)
    if model.task != RECONSTRUCTION:
        raise BindError(
            f"model `{model.name}` is {model.task}, a reconstruction is of autoencoders", at=at
        )
    columns = _numbered(binder, call, model)
    for method in RECONSTRUCTION_ERRORS:
        value = predict_call(model, method, _given(data.schema), by_name=True, at=at)
        columns.append((method, value))
    return _beside(columns, data)


def _numbered(binder: Binder, call: Call, model: Model) -> list[tuple[str, Scalar]]:
    """trial_id, where the version has several trials."""
    several = trials_of(binder, call) > 1
    return [("trial_id", Literal(model.trial, INT64))] if several else []


def _beside(columns: list[tuple[str, Scalar]], data: Bound, *, keeps: bool = True) -> Bound:
    """`columns`, then those of the rows where these are kept."""
    kept = [(f.name, Column(f.name, f.type)) for f in data.schema] if keeps else []
    all_of_them = [*columns, *kept]
    names = distinct_names([n for n, _ in all_of_them])
    project = Project(data.relation, tuple(names), tuple(v for _, v in all_of_them))
    return Bound(project, _stub(project, data.stub))


def _predicted(
    model: Model, value: Scalar, given: list[Given], at: str
) -> Iterator[tuple[str, Scalar]]:
    """The columns that ML.PREDICT adds."""
    if model.task in _VECTORS:
        for i in range(1, value.type.size[0] + 1):
            part = SqlScalar(element_sql(i), (value,), FLOAT64)
            yield f"{_VECTORS[model.task]}_{i}", part
        return
    if model.task == CLUSTERS:
        yield "centroid_id", value
        nearest = predict_call(model, "nearest", given, by_name=True, at=at)
        yield "nearest_centroids_distance", nearest
        return
    predicted = f"predicted_{model.label}" if model.label else "predicted"
    yield predicted, value
    if "probs" in {o.method for o in model.outputs}:
        probs = predict_call(model, "probs", given, by_name=True, at=at)
        yield f"{predicted}_probs", probs


def _stub(project: Project, child: str) -> str:
    """Columns pass through by name, so that the engine's own types stay."""
    items = [
        f"{quote_identifier(e.name)} AS {quote_identifier(n)}"
        if isinstance(e, Column)
        else f"CAST(NULL AS {type_sql(e.type)}) AS {quote_identifier(n)}"
        for n, e in zip(project.names, project.exprs, strict=True)
    ]
    return f"SELECT {', '.join(items)} FROM ({child}) AS __gb_q"


def _above(binder: Binder, call: Call, model: Model, given: list[Given], label: Scalar) -> Scalar:
    """The higher class where its probability is above the threshold."""
    at = binder.text.at(call.whole)
    if model.task != "binary":
        raise BindError(f"threshold is for two classes, `{model.name}` is {model.task}", at=at)
    proba = predict_call(model, "proba", given, by_name=True, at=at)
    low, high = (
        SqlScalar(
            (f"CAST({literal_sql(c.value, c.of)} AS {type_sql(label.type)})",), (), label.type
        )
        for c in model.output("label").classes
    )
    text = f" > {call.threshold!r} THEN "
    parts = ("CASE WHEN ", text, " WHEN ", " IS NOT NULL THEN ", " END")
    return SqlScalar(parts, (proba, high, proba, low), label.type)


def _transform(binder: Binder, call: Call, data: Bound) -> Bound:
    """The columns of the model's TRANSFORM."""
    found = transform_columns(binder.model(call), _given(data.schema), binder.text.at(call.whole))
    project = Project(data.relation, tuple(found), tuple(found.values()))
    return Bound(project, _stub(project, data.stub))
