"""SQL text over the catalog, in BigQuery ML's column names and order."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from gradbase.engines.base import quote_identifier
from gradbase.errors import BindError, near
from gradbase.ir.facts import Dialect
from gradbase.ir.learning import METRICS
from gradbase.store.catalog import quote_text
from gradbase.store.tables import columns

FUNCTIONS = (
    "TRIAL_INFO", "TRAINING_INFO", "EVALUATE", "FOLD_INFO", "FEATURE_INFO",
    "PRINCIPAL_COMPONENT_INFO",
)  # fmt: skip

SHOW = """\
SELECT m.name AS model, v.version, v.model_type, v.label, t.trials, v.metric, b.objective AS value,
 v.best_trial, v.created, w.versions, a.aliases, m.description, m.expires
FROM {g}.models m
JOIN {g}.versions v ON v.model_id = m.model_id AND v.version = m.current_version
JOIN (SELECT version_id, count(nullif(trial, 0)) AS trials FROM {g}.trials GROUP BY version_id) t
 ON t.version_id = v.version_id
JOIN (SELECT model_id, count(*) AS versions FROM {g}.versions GROUP BY model_id) w
 ON w.model_id = m.model_id
LEFT JOIN {g}.trials b ON b.version_id = v.version_id AND b.trial = v.best_trial
LEFT JOIN (SELECT x.model_id,
 string_agg(x.alias || ' = ' || y.version, ', ' ORDER BY x.alias) AS aliases
 FROM {g}.aliases x JOIN {g}.versions y ON y.version_id = x.version_id GROUP BY x.model_id) a
 ON a.model_id = m.model_id
ORDER BY m.name"""

VERSIONS = """\
SELECT v.version, v.created, v.model_type, t.trials, v.metric, b.objective AS value, v.best_trial,
 v.version = m.current_version AS current,
 (SELECT string_agg(a.alias, ', ' ORDER BY a.alias) FROM {g}.aliases a
 WHERE a.version_id = v.version_id) AS aliases
FROM {g}.models m JOIN {g}.versions v ON v.model_id = m.model_id
JOIN (SELECT version_id, count(nullif(trial, 0)) AS trials FROM {g}.trials GROUP BY version_id) t
 ON t.version_id = v.version_id
LEFT JOIN {g}.trials b ON b.version_id = v.version_id AND b.trial = v.best_trial
WHERE m.name = ? ORDER BY v.version"""

_SEARCHES = """\
SELECT model, run_id AS run,
 CASE WHEN status = 'RUNNING' AND run_id IN ({dead}) THEN 'INTERRUPTED' ELSE status END AS status,
 started, finished, version, error
FROM {g}.runs ORDER BY started, run_id"""

SEARCHES_NONE = """\
SELECT CAST(NULL AS VARCHAR) AS model, CAST(NULL AS VARCHAR) AS run,
 CAST(NULL AS VARCHAR) AS status, CAST(NULL AS TIMESTAMP) AS started,
 CAST(NULL AS TIMESTAMP) AS finished, CAST(NULL AS BIGINT) AS version,
 CAST(NULL AS VARCHAR) AS error
WHERE false"""

SHOW_NONE = """\
SELECT CAST(NULL AS VARCHAR) AS model, CAST(NULL AS BIGINT) AS version,
 CAST(NULL AS VARCHAR) AS model_type, CAST(NULL AS VARCHAR) AS label,
 CAST(NULL AS BIGINT) AS trials, CAST(NULL AS VARCHAR) AS metric,
 CAST(NULL AS DOUBLE PRECISION) AS value, CAST(NULL AS BIGINT) AS best_trial,
 CAST(NULL AS TIMESTAMP) AS created, CAST(NULL AS BIGINT) AS versions,
 CAST(NULL AS VARCHAR) AS aliases, CAST(NULL AS VARCHAR) AS description,
 CAST(NULL AS TIMESTAMP) AS expires
WHERE false"""


def query(
    function: str,
    dialect: Dialect,
    schema: str,
    version: Mapping[str, Any],
    configurations: Sequence[str],
    *,
    folds: bool = False,
) -> str:
    """The query that answers ``ML.<function>`` for one version.

    Parameters
    ----------
    dialect : Dialect
        Of the engine.
    schema : str
        Quoted name of the catalog's schema.
    version : mapping
        Row of `versions`.
    configurations : sequence of str
        JSON, of every trial in order.
    folds : bool
        Whether it was cross-validated.
    """
    several, function = len(configurations) > 1, function.upper()
    if function != "FEATURE_INFO":
        _check_trained(version)
    match function:
        case "TRIAL_INFO":
            return _trial_info(dialect, schema, version, configurations, folds=folds)
        case "FOLD_INFO":
            return _fold_info(schema, version)
        case "TRAINING_INFO":
            return _training_info(schema, version, several=several)
        case "EVALUATE":
            return _evaluate(schema, version, several=several)
        case "PRINCIPAL_COMPONENT_INFO":
            return _component_info(schema, version)
        case "FEATURE_INFO":
            return _feature_info(schema, version)
    raise BindError(
        f"there is no stored ML.{function}; there are " + ", ".join(f"ML.{f}" for f in FUNCTIONS),
        hint=near(function, FUNCTIONS),
    )


def _check_trained(version: Mapping[str, Any]) -> None:
    if version["task"] == "transform":
        raise BindError(
            "a model that is nothing but a TRANSFORM has no trials and no metrics",
            hint="SELECT * FROM ML.TRANSFORM(MODEL …, TABLE …)",
        )
    if not version["metric"]:
        raise BindError(
            "a model that was imported has no trials, and no metrics of its training",
            hint="SELECT * FROM ML.EVALUATE(MODEL …, TABLE rows) with rows that hold the label",
        )


def _trial_info(
    dialect: Dialect,
    schema: str,
    version: Mapping[str, Any],
    configurations: Sequence[str],
    *,
    folds: bool,
) -> str:
    structure = structure_of(json.loads(c) for c in configurations)
    tuned = dialect.from_json("t.configuration", structure) if structure != "{}" else "NULL"
    metric = version["metric"]
    measured = {metric: "t.objective"} | ({f"{metric}_stddev": "d.value"} if folds else {})
    return f"""\
SELECT t.trial AS trial_id, {tuned} AS hyperparameters,
 {dialect.struct(measured)} AS hparam_tuning_evaluation_metrics,
 t.train_loss AS training_loss, t.eval_loss, t.status, t.error AS error_message,
 t.trial = {int(version["best_trial"])} AS is_optimal
FROM {schema}.trials t LEFT JOIN {schema}.trial_metrics d
 ON d.version_id = t.version_id AND d.trial = t.trial AND d.part = 'stddev'
 AND d.metric = {quote_text(metric)}
WHERE t.version_id = {int(version["version_id"])} ORDER BY t.trial"""


def _fold_info(schema: str, version: Mapping[str, Any]) -> str:
    metrics = METRICS.get(version["task"], ())
    picked = "".join(f",\n {_of_fold(n)} AS {quote_identifier(n)}" for n in metrics)
    return f"""\
SELECT x.trial AS trial_id, x.training_run + 1 AS fold,
 CAST({_of_fold("rows")} AS BIGINT) AS rows, CAST({_of_fold("epochs")} AS BIGINT) AS epochs,
 {_of_fold("train_loss")} AS training_loss, {_of_fold("eval_loss")} AS eval_loss{picked}
FROM {schema}.trial_metrics x
WHERE x.version_id = {int(version["version_id"])} AND x.part = 'fold'
GROUP BY x.trial, x.training_run ORDER BY x.trial, x.training_run"""


def _component_info(schema: str, version: Mapping[str, Any]) -> str:
    if version["task"] != "components":
        raise BindError(
            "only pca models have principal components",
            hint="CREATE MODEL … OPTIONS (model_type = 'pca') AS …",
        )
    eigenvalue, share = (_of_fold(n) for n in ("eigenvalue", "explained_variance_ratio"))
    return f"""\
SELECT x.training_run + 1 AS principal_component_id, {eigenvalue} AS eigenvalue,
 {share} AS explained_variance_ratio,
 sum({share}) OVER (ORDER BY x.training_run) AS cumulative_explained_variance_ratio
FROM {schema}.trial_metrics x
WHERE x.version_id = {int(version["version_id"])} AND x.part = 'component'
GROUP BY x.training_run ORDER BY x.training_run"""


def _of_fold(name: str) -> str:
    return f"max(x.value) FILTER (WHERE x.metric = {quote_text(name)})"


def _feature_info(schema: str, version: Mapping[str, Any]) -> str:
    return f"""\
SELECT name AS input, minimum AS min, maximum AS max, mean, median, stddev, category_count,
 null_count, dimension
FROM {schema}.features WHERE version_id = {int(version["version_id"])} ORDER BY position"""


def counts(task: str, schema: str, version_id: int, trial: int) -> str:
    """The query for how a trial's evaluation rows were predicted."""
    table = "scores" if task == "binary" else "confusion"
    names = columns(table)[2:]
    return (
        f"SELECT {', '.join(names)} FROM {schema}.{table} "
        f"WHERE version_id = {int(version_id)} AND trial = {int(trial)} ORDER BY {names[0]}"
    )


def _training_info(schema: str, version: Mapping[str, Any], *, several: bool) -> str:
    return f"""\
SELECT {"e.trial AS trial_id, " * several}e.training_run, e.epoch AS iteration,
 e.train_loss AS loss, e.eval_loss, e.learn_rate AS learning_rate,
 CAST(round(e.seconds * 1000) AS BIGINT) AS duration_ms
FROM {schema}.epochs e WHERE e.version_id = {int(version["version_id"])}
ORDER BY e.trial, e.training_run, e.epoch"""


def _evaluate(schema: str, version: Mapping[str, Any], *, several: bool) -> str:
    if version["task"] not in METRICS:
        raise BindError(
            f"a model of task `{version['task']}` has no stored metrics",
            hint="only models that were trained here have some",
        )
    picked = ",\n ".join(stored_metric(name) for name in METRICS[version["task"]])
    only_best = "" if several else f" AND t.trial = {int(version['best_trial'])}"
    return f"""\
SELECT {"t.trial AS trial_id, " * several}{picked}
FROM {schema}.trials t LEFT JOIN {schema}.trial_metrics x
 ON x.version_id = t.version_id AND x.trial = t.trial AND x.epoch IS NULL
WHERE t.version_id = {int(version["version_id"])} AND t.status <> 'FAILED'{only_best}
GROUP BY t.trial ORDER BY t.trial"""


def stored_metric(metric: str) -> str:
    """The metric on the test rows, on the evaluation rows where there are none."""
    of = f"max(x.value) FILTER (WHERE x.metric = {quote_text(metric)} AND x.part ="
    return f"coalesce({of} 'test'), {of} 'eval')) AS {quote_identifier(metric)}"


def structure_of(configurations: Iterable[Mapping[str, Any]]) -> str:
    """The type of a STRUCT that holds all `configurations`, as ``from_json`` takes it.

    Examples
    --------
    >>> structure_of([{"learn_rate": 0.1, "hidden_units": [64, 32]}, {"learn_rate": 1}])
    '{"learn_rate": "DOUBLE", "hidden_units": ["BIGINT"]}'
    """
    values: dict[str, list[Any]] = {}
    for configuration in configurations:
        for name, value in configuration.items():
            values.setdefault(name, []).append(value)
    return json.dumps({name: _type_of(found) for name, found in values.items()})


def _type_of(values: Sequence[Any]) -> Any:
    kinds = {type(v) for v in values if v is not None}
    if kinds == {list}:
        return [_type_of([x for v in values if v is not None for x in v])]
    if kinds == {bool}:
        return "BOOLEAN"
    if kinds == {int} and all(-(2**63) <= v < 2**63 for v in values if v is not None):
        return "BIGINT"
    if kinds and kinds <= {int, float}:
        return "DOUBLE"
    return "VARCHAR" if kinds <= {str} else "JSON"


def searches(schema: str, dead: int) -> str:
    """The query of ``SHOW SEARCHES``; its parameters are the ids of so many `dead` runs."""
    return _SEARCHES.format(g=schema, dead=", ".join("?" * dead) or "NULL")
