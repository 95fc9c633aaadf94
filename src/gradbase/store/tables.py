"""The catalog's tables as data: ordinary columns, the same in every engine.

Times are UTC. `options`, `configuration` and `labels` hold JSON, `program` plan text. A model's
bare name means its `current_version`; `last_version` is the highest number ever given.
`training_run` counts trainings of one trial. Of `trial_metrics`, `epoch` is NULL for what the trial
ended with, and `part` says on which rows: eval, test, or fold, the rows of fold `training_run` + 1;
stddev is over the folds. `features` describes the training rows, before anything was made of them.
`scores` (two classes) counts the evaluation rows by logit, `confusion` (more classes) by class
numbers; nothing was held out: the training rows. `groups` has the trials of each group of a model
that has one per group; `key` is JSON, NULL for the model over all rows.
"""

from __future__ import annotations

import re

FORMAT = 5
"""Version of tables and blobs. A change here needs a step in `upgrade.py` and a fixture."""

TABLES: dict[str, tuple[str, ...]] = {
    "format": (
        "version INTEGER",
        "next_id BIGINT",
        "created TIMESTAMP",
    ),
    "models": (
        "model_id BIGINT",
        "name VARCHAR",
        "created TIMESTAMP",
        "current_version BIGINT",
        "last_version BIGINT",
        "description VARCHAR",
        "labels VARCHAR",
        "expires TIMESTAMP",
    ),
    "versions": (
        "version_id BIGINT",
        "model_id BIGINT",
        "version BIGINT",
        "model_type VARCHAR",
        "task VARCHAR",
        "label VARCHAR",
        "metric VARCHAR",
        "best_trial BIGINT",
        "created TIMESTAMP",
        "train_rows BIGINT",
        "eval_rows BIGINT",
        "test_rows BIGINT",
    ),
    "aliases": (
        "model_id BIGINT",
        "alias VARCHAR",
        "version_id BIGINT",
    ),
    "trials": (
        "version_id BIGINT",
        "trial BIGINT",
        "status VARCHAR",
        "configuration VARCHAR",
        "objective DOUBLE",
        "train_loss DOUBLE",
        "eval_loss DOUBLE",
        "error VARCHAR",
        "program VARCHAR",
        "traceback VARCHAR",
    ),
    "epochs": (
        "version_id BIGINT",
        "trial BIGINT",
        "epoch BIGINT",
        "train_loss DOUBLE",
        "eval_loss DOUBLE",
        "learn_rate DOUBLE",
        "seconds DOUBLE",
        "training_run BIGINT",
    ),
    "trial_metrics": (
        "version_id BIGINT",
        "trial BIGINT",
        "epoch BIGINT",
        "part VARCHAR",
        "metric VARCHAR",
        "value DOUBLE",
        "training_run BIGINT",
    ),
    "features": (
        "version_id BIGINT",
        "position BIGINT",
        "name VARCHAR",
        "type VARCHAR",
        "minimum DOUBLE",
        "maximum DOUBLE",
        "mean DOUBLE",
        "median DOUBLE",
        "stddev DOUBLE",
        "category_count BIGINT",
        "null_count BIGINT",
        "dimension BIGINT",
    ),
    "scores": (
        "version_id BIGINT",
        "trial BIGINT",
        "logit DOUBLE",
        "negatives BIGINT",
        "positives BIGINT",
    ),
    "confusion": (
        "version_id BIGINT",
        "trial BIGINT",
        "expected BIGINT",
        "predicted BIGINT",
        "cases BIGINT",
    ),
    "groups": (
        "version_id BIGINT",
        "group_number BIGINT",
        "key VARCHAR",
        "first_trial BIGINT",
        "last_trial BIGINT",
        "best_trial BIGINT",
        "train_rows BIGINT",
        "eval_rows BIGINT",
        "test_rows BIGINT",
    ),
    "lineage": (
        "version_id BIGINT",
        "relation_hash VARCHAR",
        "query VARCHAR",
        "statement VARCHAR",
        "options VARCHAR",
        "seed BIGINT",
        "code_version VARCHAR",
        "engine VARCHAR",
        "torch VARCHAR",
        "processor VARCHAR",
    ),
    "blobs": (
        "version_id BIGINT",
        "trial BIGINT",
        "hash VARCHAR",
    ),
    "runs": (
        "run_id VARCHAR",
        "model VARCHAR",
        "status VARCHAR",
        "process VARCHAR",
        "started TIMESTAMP",
        "finished TIMESTAMP",
        "version BIGINT",
        "error VARCHAR",
    ),
    "units": (
        "run_id VARCHAR",
        "trial BIGINT",
        "epoch BIGINT",
        "shard BIGINT",
        "attempt BIGINT",
        "worker VARCHAR",
        "seconds DOUBLE",
    ),
    "views": (
        "key VARCHAR",
        "relation_hash VARCHAR",
        "query VARCHAR",
        "hash VARCHAR",
        "size_bytes BIGINT",
        "used TIMESTAMP",
    ),
    "tiles": (
        "param_hash VARCHAR",
        "tile BIGINT",
        "first_row BIGINT",
        "last_row BIGINT",
        "hash VARCHAR",
    ),
    "results": (
        "key VARCHAR",
        "hash VARCHAR",
        "size_bytes BIGINT",
        "used TIMESTAMP",
    ),
}

MEANINGS = {
    "format": "The version of these tables.",
    "models": "Names.",
    "versions": "Versions of models, and how many rows they were trained on.",
    "aliases": "What `churn@champion` means.",
    "trials": "Trials: what they were given, and what came of it (of a failed one its traceback).",
    "epochs": "Losses of every epoch.",
    "trial_metrics": "Metrics of every epoch, and at the end.",
    "features": "Columns of the training rows.",
    "scores": "Two classes: evaluation rows by score.",
    "confusion": "Several classes: evaluation rows by class.",
    "groups": "Groups of models that have one per group.",
    "lineage": "What a version was made of and by.",
    "blobs": "Files with weights.",
    "runs": "Trainings, finished or not.",
    "units": "Units, also of searches that run: a trial over a shard; the seconds of its group.",
    "views": "Intermediate results that are kept; empty yet.",
    "tiles": "Parts of large weights; empty yet.",
    "results": "Results that are kept; empty yet.",
}
"""What is in each, for the reference."""

OF_VERSION = (
    "aliases", "trials", "epochs", "trial_metrics", "features", "scores", "confusion", "groups",
    "lineage", "blobs", "versions",
)  # fmt: skip
"""Tables with rows of one model version, to be deleted with it."""
NAMING = ("blobs", "views", "tiles", "results")
"""Tables whose column `hash` keeps a blob alive."""


def columns(table: str) -> list[str]:
    """Column names of a table, in order."""
    return [column.split()[0] for column in TABLES[table]]


def types(table: str) -> list[str]:
    """Column types of a table, in order."""
    return [column.split()[1] for column in TABLES[table]]


def create(table: str, schema: str) -> str:
    """The CREATE TABLE statement; `schema` is quoted already."""
    return portable(f"CREATE TABLE {schema}.{table} ({', '.join(TABLES[table])})")


def portable(sql: str) -> str:
    """The statement with the names of types that every engine knows."""
    return re.sub(r"\bDOUBLE\b", "DOUBLE PRECISION", sql)
