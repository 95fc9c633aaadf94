"""``ML.PREDICT``, ``ML.EVALUATE``, ``ML.TRIAL_INFO`` and ``ML.TRAINING_INFO`` as relations."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradbase.errors import BindError, near
from gradbase.frontend.calls import Call
from gradbase.frontend.features import METHOD, Given, feature_type_fits, predict_call
from gradbase.frontend.rich import Bound, Rich, literal_sql, type_sql
from gradbase.frontend.scopes import Scope, with_prefix
from gradbase.frontend.tokens import quote_identifier
from gradbase.ir.learning import Evaluate, Model
from gradbase.ir.relational import Project, Relation, Scan
from gradbase.ir.scalar import Column, Literal, Scalar, SqlScalar
from gradbase.ir.types import INT64, Schema

if TYPE_CHECKING:
    from gradbase.frontend.binder import Binder


def bind_table_call(binder: Binder, call: Call, scope: Scope) -> Bound:
    """The relation that a table function of ours gives."""
    match call.function:
        case "PREDICT":
            return _predict(binder, call, _data(binder, call, scope))
        case "EVALUATE" if call.data is not None:
            return _evaluate(binder, call, _data(binder, call, scope))
    at = binder.text.at(call.whole)
    if call.data is not None:
        raise BindError(f"ML.{call.function} takes no rows", at=at, hint="leave the relation out")
    if call.threshold is not None:
        raise BindError(
            "threshold needs rows", at=at, hint="ML.EVALUATE(MODEL m, TABLE t, STRUCT(…))"
        )
    binder.model(call)  # unknown names are reported with their span
    sql = binder.models.info(call.function, call.model.name, call.model.version)
    several = call.function == "TRIAL_INFO" or trials_of(binder, call) > 1
    if call.trial is not None and several:
        sql = f"SELECT * FROM ({sql}) WHERE trial_id = {call.trial}"
    return Rich((sql,)).bound(binder.asker.schema(sql))


def trials_of(binder: Binder, call: Call) -> int:
    """Trials of the version that a call names."""
    return binder.models.trial_count(call.model.name, call.model.version)


def _data(binder: Binder, call: Call, scope: Scope) -> Bound:
    span = call.data
    if span is None:
        raise BindError(
            f"ML.{call.function} needs rows",
            at=binder.text.at(call.whole),
            hint=f"ML.{call.function}(MODEL {call.model.name}, TABLE t) or (SELECT …)",
        )
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
    columns: list[tuple[str, Scalar]] = []
    if trials_of(binder, call) > 1:
        columns.append(("trial_id", Literal(model.trial, INT64)))
    if call.options.get("with_version"):
        columns.append(("model_version", Literal(model.version, INT64)))
    predicted = f"predicted_{model.label}" if model.label else "predicted"
    columns.append((predicted, value))
    if "probs" in {o.method for o in model.outputs}:
        probs = predict_call(model, "probs", given, by_name=True, at=at)
        columns.append((f"{predicted}_probs", probs))
    columns += [(f.name, Column(f.name, f.type)) for f in data.schema]
    names = distinct_names([n for n, _ in columns])
    project = Project(data.relation, tuple(names), tuple(v for _, v in columns))
    return Bound(project, _stub(project, data.stub))


def _stub(project: Project, child: str) -> str:
    """Columns pass through by name, so that the engine's own types stay."""
    items = [
        f"{quote_identifier(e.name)} AS {quote_identifier(n)}"
        if isinstance(e, Column)
        else f"CAST(NULL AS {type_sql(e.type)}) AS {quote_identifier(n)}"
        for n, e in zip(project.names, project.exprs, strict=True)
    ]
    return f"SELECT {', '.join(items)} FROM ({child})"


def _above(binder: Binder, call: Call, model: Model, given: list[Given], label: Scalar) -> Scalar:
    """The higher class where its probability is above the threshold."""
    at = binder.text.at(call.whole)
    if model.task != "binary":
        raise BindError(f"threshold is for two classes, `{model.name}` is {model.task}", at=at)
    proba = predict_call(model, "proba", given, by_name=True, at=at)
    low, high = (
        SqlScalar((f"CAST({literal_sql(c.value)} AS {type_sql(label.type)})",), (), label.type)
        for c in model.output("label").classes
    )
    text = f" > {call.threshold!r} THEN "
    parts = ("CASE WHEN ", text, " WHEN ", " IS NOT NULL THEN ", " END")
    return SqlScalar(parts, (proba, high, proba, low), label.type)


def _evaluate(binder: Binder, call: Call, data: Bound) -> Bound:
    model, at = binder.model(call), binder.text.at(call.whole)
    schema = data.schema
    if not model.label:
        raise BindError(f"model `{model.name}` has no label to be evaluated on", at=at)
    features = tuple(_column(schema, f.name, model, at) for f in model.features)
    for feature, column in zip(model.features, features, strict=True):
        found = schema.type_of(column)
        if not feature_type_fits(feature.of, found):
            raise BindError(
                f"model `{model.name}` was trained on `{feature.name}` of type {feature.of}, "
                f"found {found}",
                at=at,
            )
    label = _column(schema, model.label, model, at)
    threshold = 0.5 if call.threshold is None else call.threshold
    relation: Relation = Evaluate(data.relation, model, features, label, threshold)
    stub = ", ".join(
        f"CAST(NULL AS DOUBLE) AS {quote_identifier(n)}" for n in relation.schema.names
    )
    return Bound(relation, f"SELECT {stub}")


def _column(schema: Schema, name: str, model: Model, at: str | None) -> str:
    for found in (name, *(n for n in schema.names if n.casefold() == name.casefold())):
        if found in schema:
            return found
    raise BindError(
        f"model `{model.name}` reads column `{name}`, which is not there; there are "
        f"{', '.join(schema.names)}",
        at=at,
        hint=near(name, schema.names),
    )


def distinct_names(names: list[str]) -> list[str]:
    """`names` with the second ``a`` called ``a_1``, as DuckDB does in a subquery.

    Examples
    --------
    >>> distinct_names(["a", "b", "A"])
    ['a', 'b', 'A_1']
    """
    taken = {n.casefold() for n in names}
    seen: set[str] = set()
    found: list[str] = []
    for name in names:
        candidate, count = name, 0
        while candidate.casefold() in seen or (count and candidate.casefold() in taken):
            count += 1
            candidate = f"{name}_{count}"
        seen.add(candidate.casefold())
        found.append(candidate)
    return found
