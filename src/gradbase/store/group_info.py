"""SQL text over the catalog for models that have one per group."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from gradbase.engines.base import quote_identifier
from gradbase.ir.facts import Dialect
from gradbase.ir.learning import METRICS
from gradbase.store import info
from gradbase.store.catalog import quote_text
from gradbase.store.info import stored_metric, structure_of
from gradbase.store.records import GroupRecord

BY_GROUP = "EVALUATE_BY_GROUP"


def query(
    function: str,
    dialect: Dialect,
    schema: str,
    version: Mapping[str, Any],
    *,
    configurations: Sequence[str],
    groups: Sequence[GroupRecord],
) -> str:
    """As `info.query`, for a version with `groups`; ``EVALUATE_BY_GROUP`` is a row per group."""
    version_id = int(version["version_id"])
    match function.upper():
        case "TRIAL_INFO":
            return _trial_info(dialect, schema, version, configurations, groups)
        case "TRAINING_INFO":
            return f"""\
SELECT e.trial AS trial_id, {_keys(groups)}, e.epoch AS iteration, e.train_loss AS loss,
 e.eval_loss, e.learn_rate AS learning_rate,
 CAST(round(e.seconds * 1000) AS BIGINT) AS duration_ms
FROM {schema}.epochs e {_join(schema, "e")}
WHERE e.version_id = {version_id} ORDER BY e.trial, e.epoch"""
        case _ if function == BY_GROUP:
            metrics = METRICS[version["task"]]
            picked = ",\n ".join(stored_metric(name) for name in metrics)
            return f"""\
SELECT {_keys(groups)}, any_value(g.train_rows) AS train_rows, any_value(g.eval_rows) AS eval_rows,
 {picked}
FROM {schema}.groups g LEFT JOIN {schema}.trial_metrics x
 ON x.version_id = g.version_id AND x.trial = g.best_trial AND x.epoch IS NULL
WHERE g.version_id = {version_id} GROUP BY g.group_number, g.key ORDER BY g.group_number"""
    return info.query(function, dialect, schema, version, configurations[:1])


def _trial_info(
    dialect: Dialect,
    schema: str,
    version: Mapping[str, Any],
    configurations: Sequence[str],
    groups: Sequence[GroupRecord],
) -> str:
    structure = structure_of(json.loads(c) for c in configurations)
    tuned = dialect.from_json("t.configuration", structure) if structure != "{}" else "NULL"
    metric = dialect.struct({version["metric"]: "t.objective"})
    return f"""\
SELECT t.trial AS trial_id, {_keys(groups)}, g.train_rows, g.eval_rows, g.test_rows,
 {tuned} AS hyperparameters, {metric} AS hparam_tuning_evaluation_metrics,
 t.train_loss AS training_loss, t.eval_loss, t.status, t.error AS error_message,
 t.trial = g.best_trial AND t.status <> 'FAILED' AS is_optimal
FROM {schema}.trials t {_join(schema, "t")}
WHERE t.version_id = {int(version["version_id"])} AND t.trial > 0 ORDER BY t.trial"""


def _join(schema: str, of: str) -> str:
    """Each trial's group."""
    return (
        f"JOIN {schema}.groups g ON g.version_id = {of}.version_id "
        f"AND {of}.trial BETWEEN g.first_trial AND g.last_trial"
    )


def _keys(groups: Sequence[GroupRecord]) -> str:
    """The values of a group, a column each; all NULL of the model over all rows."""
    keys = [g.key for g in groups if g.key is not None]
    found: list[str] = []
    for name in keys[0]:
        values = {type(k[name]) for k in keys if k[name] is not None}
        of = _TYPES[values.pop()] if len(values) == 1 else "VARCHAR"
        text = f"CAST(g.key AS JSON) ->> {quote_text(name)}"
        found.append(f"CAST({text} AS {of}) AS {quote_identifier(name)}")
    return ", ".join(found)


_TYPES = {bool: "BOOLEAN", int: "BIGINT", float: "DOUBLE PRECISION", str: "VARCHAR"}
