"""From an older format of the catalog to the current one, step by step in one transaction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gradbase.engines.base import Transaction
from gradbase.errors import StoreError
from gradbase.store import tables

_NEWEST = "(SELECT max(v.version) FROM {g}.versions v WHERE v.model_id = {g}.models.model_id)"
_FEATURES_2 = (
    "CREATE TABLE {g}.features (version_id BIGINT, position BIGINT, name VARCHAR, type VARCHAR, "
    "minimum DOUBLE, maximum DOUBLE, mean DOUBLE, median DOUBLE, stddev DOUBLE, "
    "category_count BIGINT, null_count BIGINT, dimension BIGINT)"
)
_SCORES_2 = (
    "CREATE TABLE {g}.scores (version_id BIGINT, trial BIGINT, logit DOUBLE, negatives BIGINT, "
    "positives BIGINT)"
)
_CONFUSION_2 = (
    "CREATE TABLE {g}.confusion (version_id BIGINT, trial BIGINT, expected BIGINT, "
    "predicted BIGINT, cases BIGINT)"
)
_GROUPS_3 = (
    "CREATE TABLE {g}.groups (version_id BIGINT, group_number BIGINT, key VARCHAR, "
    "first_trial BIGINT, last_trial BIGINT, best_trial BIGINT, train_rows BIGINT, "
    "eval_rows BIGINT, test_rows BIGINT)"
)

STEPS: Mapping[int, Sequence[str]] = {
    1: (
        "ALTER TABLE {g}.models ADD COLUMN current_version BIGINT",
        "ALTER TABLE {g}.models ADD COLUMN last_version BIGINT",
        "ALTER TABLE {g}.models ADD COLUMN description VARCHAR",
        "ALTER TABLE {g}.models ADD COLUMN labels VARCHAR",
        "ALTER TABLE {g}.models ADD COLUMN expires TIMESTAMP",
        f"UPDATE {{g}}.models SET current_version = {_NEWEST}, last_version = {_NEWEST}",
        "ALTER TABLE {g}.versions ADD COLUMN train_rows BIGINT",
        "ALTER TABLE {g}.versions ADD COLUMN eval_rows BIGINT",
        "ALTER TABLE {g}.versions ADD COLUMN test_rows BIGINT",
        _FEATURES_2,
        _SCORES_2,
        _CONFUSION_2,
    ),
    2: (
        "ALTER TABLE {g}.epochs ADD COLUMN training_run BIGINT DEFAULT 0",
        "ALTER TABLE {g}.trial_metrics ADD COLUMN training_run BIGINT DEFAULT 0",
    ),
    3: (_GROUPS_3,),
    4: ("ALTER TABLE {g}.trials ADD COLUMN traceback VARCHAR",),
}
"""Version -> statements that make the next one of it, over ``{g}.<table>``."""


def check(version: int, *, read_only: bool) -> None:
    """StoreError where a catalog of `version` cannot be used."""
    if version > tables.FORMAT:
        raise StoreError(
            f"the models were written by a newer gradbase: their format is {version}, this one "
            f"reads up to {tables.FORMAT}",
            hint="pip install --upgrade gradbase",
        )
    if version < tables.FORMAT and read_only:
        raise StoreError(
            f"the models have format {version} and must be upgraded to {tables.FORMAT}, but the "
            "database is open read-only",
            hint="connect once without read_only=True",
        )


def run(version: int, handle: Transaction, schema: str) -> None:
    """Bring a catalog from `version` to the current format inside the transaction `handle`."""
    check(version, read_only=False)
    for number in range(version, tables.FORMAT):
        for statement in STEPS[number]:
            handle.execute(tables.portable(statement).format(g=schema))
    handle.execute(f"UPDATE {schema}.format SET version = ?", [tables.FORMAT])
