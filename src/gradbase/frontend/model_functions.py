"""Table functions that tell about a model: `ML.CONFUSION_MATRIX`, `ML.WEIGHTS`, `ML.COMPARE`, …"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from gradbase.errors import BindError
from gradbase.frontend.calls import Call
from gradbase.frontend.dialect import type_sql
from gradbase.frontend.features import (
    METHOD,
    Given,
    as_trained,
    feature_columns,
    feature_type_fits,
    predict_call,
)
from gradbase.frontend.names import distinct_names, lookup
from gradbase.frontend.rich import Bound
from gradbase.frontend.tokens import quote_identifier
from gradbase.ir.inspection import (
    ClassCounts,
    CompareModels,
    ConfusionMatrix,
    DriftColumn,
    Keep,
    RocCurve,
    SchemaDrift,
    ScoreCounts,
    Weights,
    column_name,
)
from gradbase.ir.learning import Evaluate, Model
from gradbase.ir.relational import Project, Relation, SqlFragment
from gradbase.ir.scalar import Column, Literal
from gradbase.ir.types import Schema, SqlType
from gradbase.ir.unlabelled import (
    CLUSTERS,
    COMPONENTS,
    RECONSTRUCTION,
    ClusterQuality,
    Loadings,
    ReconstructionQuality,
)

if TYPE_CHECKING:
    from gradbase.frontend.binder import Binder

HALF = 0.5
_QUALITY = {CLUSTERS: ClusterQuality, RECONSTRUCTION: ReconstructionQuality}
"""How models without a label are evaluated, by task."""


def judged(
    kind: type[Evaluate], data: Relation, model: Model, threshold: float, at: str | None
) -> Evaluate:
    """`model` on the rows of `data`, in the way of `kind`; BindError where they do not fit."""
    if model.task == COMPONENTS:
        raise BindError(
            f"model `{model.name}` is of principal components, which are not evaluated on rows",
            at=at,
            hint=f"ML.EVALUATE(MODEL {model.name}), ML.PRINCIPAL_COMPONENT_INFO",
        )
    if model.task in _QUALITY and kind is Evaluate:
        names = feature_columns(model, data.schema, at=at)
        return _QUALITY[model.task](as_trained(model, data, names), model, names, "")
    if not model.label:
        raise BindError(f"model `{model.name}` has no label to be evaluated on", at=at)
    *features, label = feature_columns(model, data.schema, at=at, with_label=True)
    return kind(as_trained(model, data, features), model, tuple(features), label, threshold)


def label_column(model: Model, schema: Schema) -> str | None:
    """The column with the model's label."""
    return lookup(model.label, schema.names) if model.label else None


def confusion_matrix(binder: Binder, call: Call, data: Bound | None) -> Bound:
    """expected_label, then one count per class in ascending order."""
    model, at = binder.model(call), binder.text.at(call.whole)
    _check_task(model, ("binary", "multiclass"), "a confusion matrix is for classes", at)
    if call.threshold is not None and model.task != "binary":
        raise BindError(f"threshold is for two classes, `{model.name}` has more", at=at)
    threshold = HALF if call.threshold is None else call.threshold
    counts: Relation
    if data is not None:
        counts = judged(ClassCounts, data.relation, model, threshold, at)
    elif model.task == "binary":
        counts = RocCurve(_stored(binder, call, model), (threshold,))
    else:
        counts = _stored(binder, call, model)
    classes = model.output("label").classes
    names = distinct_names(["expected_label", *map(_class_column, classes)])[1:]
    return told(ConfusionMatrix(counts, classes, tuple(names)))


def _class_column(literal: Literal) -> str:
    value = literal.value
    return column_name(str(value).lower() if isinstance(value, bool) else str(value))


def roc_curve(binder: Binder, call: Call, data: Bound | None) -> Bound:
    """threshold, recall, false_positive_rate and the four counts."""
    model, at = binder.model(call), binder.text.at(call.whole)
    _check_task(model, ("binary",), "a ROC curve is for two classes", at)
    scores = (
        _stored(binder, call, model)
        if data is None
        else judged(ScoreCounts, data.relation, model, HALF, at)
    )
    return told(RocCurve(scores, call.thresholds))


def weights(binder: Binder, call: Call) -> Bound:
    """[trial_id,] processed_input, weight, category_weights, [class_label]."""
    name, version = call.model.name, call.model.version
    models = [binder.model(call)]
    several = binder.models.trial_count(name, version) > 1
    if several and call.trial is None:
        trials = binder.models.usable_trials(name, version)
        models = [binder.models.model(name, version, trial) for trial in trials]
    standardize = bool(call.options.get("standardize"))
    return told(Weights(tuple(models), standardize, several))


def loadings(binder: Binder, call: Call) -> Bound:
    """A row per centroid or component and column; of several trials with their numbers."""
    model, at = binder.model(call), binder.text.at(call.whole)
    wanted = CLUSTERS if call.function == "CENTROIDS" else COMPONENTS
    if model.task != wanted:
        what = {CLUSTERS: "centroids", COMPONENTS: "principal components"}
        hint = {CLUSTERS: "ML.CENTROIDS", COMPONENTS: "ML.PRINCIPAL_COMPONENTS"}.get(model.task)
        raise BindError(f"model `{model.name}` has no {what[wanted]}", at=at, hint=hint)
    name, version = call.model.name, call.model.version
    several = binder.models.trial_count(name, version) > 1
    trials = [model.trial]
    if several and call.trial is None:
        trials = list(binder.models.usable_trials(name, version))
    return told(Loadings(tuple(binder.models.model(name, version, t) for t in trials), several))


def compare(binder: Binder, call: Call, data: Bound) -> Bound:
    """metric, first, second, difference; the last rows say how much predictions differ."""
    assert call.other is not None
    models = [binder.model(call), binder.model(call, call.other)]
    at = binder.text.at(call.whole)
    threshold = HALF if call.threshold is None else call.threshold
    return told(compared(models, data.relation, threshold, at))


def compared(
    models: Sequence[Model], data: Relation, threshold: float, at: str | None
) -> CompareModels:
    """Two models on the same rows, which are computed once."""
    first, second = models
    if (first.task, first.label) != (second.task, second.label):
        what = (f"{m.task} of `{m.label}` ({m.name}@{m.version})" for m in models)
        raise BindError(f"models of different tasks cannot be compared: {' and '.join(what)}",
                        at=at)  # fmt: skip
    if any(m.output(METHOD[m.task]).type.is_vector for m in models):
        raise BindError(
            f"`{first.name}` gives several numbers a row ({first.task}), ML.COMPARE compares "
            "classes and single numbers",
            at=at,
            hint="ML.EVALUATE of each; or compare PREDICT(…) of both in a query of your own",
        )
    label = label_column(first, data.schema)
    columns = [c for m in models for c in feature_columns(m, data.schema, at=at)]
    names = tuple(dict.fromkeys([*columns, label] if label else columns))
    kept = Keep(Project(data, names, tuple(Column(n, data.schema.type_of(n)) for n in names)))
    metrics = tuple(judged(Evaluate, kept, m, threshold, at) for m in models) if label else ()
    given = [Given(f.name, Column(f.name, f.type)) for f in kept.schema]
    calls = tuple(predict_call(m, METHOD[m.task], given, by_name=True, at=at) for m in models)
    return CompareModels(metrics, Project(kept, ("first", "second"), calls))


def schema_drift(binder: Binder, call: Call, data: Bound) -> Bound:
    """A row per column; see `SchemaDrift`."""
    model = binder.model(call)
    statistics = binder.models.feature_statistics(call.model.name, call.model.version)
    return told(drifted(model, data.relation, statistics))


def drifted(
    model: Model, data: Relation, statistics: dict[str, tuple[float | None, float | None]]
) -> SchemaDrift:
    """The columns of `data` beside those that `model` was trained on.

    Parameters
    ----------
    statistics : dict
        Share of missing values and mean of each feature in training.
    """
    schema = data.schema
    columns: list[DriftColumn] = []
    for feature in model.features:
        name = lookup(feature.name, schema.names) or ""
        found = schema.type_of(name) if name else None
        status = _status(feature.of, found)
        known = statistics.get(feature.name, (None, None))
        columns.append(DriftColumn(feature.name, status, feature.of, found, name, *known))
    read = {c.name for c in columns} | {label_column(model, schema)}
    columns += [
        DriftColumn(f.name, "extra", None, f.type, f.name) for f in schema if f.name not in read
    ]
    return SchemaDrift(data, model, tuple(columns))


def _status(trained: SqlType, found: SqlType | None) -> str:
    if found is None:
        return "missing"
    if trained == found:
        return "ok"
    return "converted" if feature_type_fits(trained, found) else "type changed"


def _stored(binder: Binder, call: Call, model: Model) -> Relation:
    """What training counted on the evaluation rows."""
    try:
        sql = binder.models.counts_sql(call.model.name, call.model.version, model.trial)
    except BindError as error:
        raise BindError(error.message, at=call.model.at, hint=error.hint) from None
    return SqlFragment((sql,), (), binder.asker.schema(sql))


def _check_task(model: Model, tasks: Sequence[str], what: str, at: str) -> None:
    if model.task not in tasks:
        raise BindError(
            f"{what}, `{model.name}` is {model.task}",
            at=at,
            hint="ML.EVALUATE has the metrics of every task",
        )


def told(relation: Relation) -> Bound:
    """A relation of ours with a stub of its schema."""
    nulls = (
        f"CAST(NULL AS {type_sql(f.type)}) AS {quote_identifier(f.name)}" for f in relation.schema
    )
    return Bound(relation, f"SELECT {', '.join(nulls)}")
