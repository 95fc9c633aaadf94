"""From rows of the catalog back to models and records."""

from __future__ import annotations

import datetime as dt
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradbase.errors import BindError, GradbaseError, StoreError, near
from gradbase.ir.facts import Version
from gradbase.ir.learning import Model
from gradbase.ir.parser import parse_plan
from gradbase.store.catalog import Catalog, Row, now
from gradbase.store.lineage import Environment, Lineage
from gradbase.store.records import (
    EpochRecord,
    FeatureRecord,
    FoldRecord,
    GroupRecord,
    ModelRecord,
    Scores,
    TrialRecord,
)
from gradbase.store.tables import columns

LATEST = "latest"
"""The alias that every model has: its newest version."""


def names(catalog: Catalog) -> tuple[str, ...]:
    """All model names, sorted."""
    return tuple(r["name"] for r in catalog.rows(["name"], "FROM {g}.models ORDER BY name"))


def version_row(catalog: Catalog, name: str, version: Version = None) -> Row:
    """Row of `versions` for a model's current version, or the given number or alias.

    Also has the model's `current_version` and `expires`, and the version's `aliases`.

    Raises
    ------
    BindError
        There is no such model, version or alias (says which there are), or the model has expired.
    """
    found = catalog.rows(
        [*(f"v.{c}" for c in columns("versions")), "m.current_version", "m.expires", _ALIASES],
        "FROM {g}.versions v JOIN {g}.models m ON m.model_id = v.model_id "
        "WHERE m.name = ? ORDER BY v.version",
        [name],
    )
    if not found:
        raise unknown_model(name, names(catalog))
    refuse_expired(name, found[0]["expires"])
    aliases = {alias: row["version"] for row in found for alias in row["aliases"] or ()}
    number = chosen(
        name, version, [r["version"] for r in found], found[0]["current_version"], aliases
    )
    return next(row for row in found if row["version"] == number)


def described(catalog: Catalog, name: str, version: Version) -> tuple[Row, list[Row]]:
    """As `version_row`, with what is said of the model; and every version, oldest first."""
    row = version_row(catalog, name, version)
    said = catalog.rows(
        ["description", "labels"], "FROM {g}.models WHERE model_id = ?", [row["model_id"]]
    )
    versions = catalog.rows(
        ["v.version", "v.created", "v.metric", "t.objective AS value", _ALIASES],
        "FROM {g}.versions v LEFT JOIN {g}.trials t ON t.version_id = v.version_id "
        "AND t.trial = v.best_trial WHERE v.model_id = ? ORDER BY v.version",
        [row["model_id"]],
    )
    return row | said[0], versions


_ALIASES = (
    "(SELECT array_agg(a.alias ORDER BY a.alias) FROM {g}.aliases a "
    "WHERE a.version_id = v.version_id) AS aliases"
)


def chosen(
    name: str, version: Version, numbers: Sequence[int], current: int, aliases: Mapping[str, int]
) -> int:
    """The number that a version, an alias or None (the current one) stands for."""
    if version is None:
        if current in numbers:
            return current
        raise StoreError(
            f"the current version {current} of model `{name}` is not in the catalog",
            hint="run `gradbase fsck --repair`",
        )
    if version == LATEST:
        return numbers[-1]
    if version in numbers:
        return int(version)
    if isinstance(version, int):
        raise BindError(
            f"model `{name}` has no version {version}; it has {', '.join(map(str, numbers))}"
        )
    if version not in aliases:
        raise no_alias(name, version, aliases)
    return aliases[version]


def no_alias(name: str, alias: str, aliases: Mapping[str, int]) -> BindError:
    """The error for an alias that no version has."""
    there = ", ".join(f"`{a}` (version {n})" for a, n in sorted(aliases.items()))
    return BindError(
        f"model `{name}` has no alias `{alias}`; it has {there or 'none'}",
        hint=near(alias, aliases) or f"ALTER MODEL {name} SET ALIAS {alias} = … makes one",
    )


def refuse_expired(name: str, expires: dt.datetime | None) -> None:
    """BindError where a model's time is over."""
    if expires is not None and expires <= now():
        raise BindError(
            f"model `{name}` expired on {expires:%Y-%m-%d %H:%M:%S} UTC",
            hint=f"ALTER MODEL {name} SET OPTIONS (expiration_timestamp = NULL) keeps it",
        )


def unknown_model(name: str, known: Sequence[str]) -> BindError:
    """The error for a name that no model has."""
    said = f"there are {', '.join(f'`{n}`' for n in known[:20])}" if known else "there are none yet"
    return BindError(
        f"there is no model `{name}`; {said}",
        hint=near(name, known) or (None if known else "make one with CREATE MODEL"),
    )


def model(
    catalog: Catalog, name: str, version: Version, trial: int | None
) -> tuple[Model, dt.datetime | None]:
    """The program of a trial, by default the current version's best; and when it expires."""
    found = version_row(catalog, name, version)
    number = found["best_trial"] if trial is None else trial
    rows = catalog.rows(
        ["trial", "error", "status", "program"],
        "FROM {g}.trials WHERE version_id = ? ORDER BY trial",
        [found["version_id"]],
    )
    row = next((r for r in rows if r["trial"] == number), None)
    if row is None:
        span = f"trials {rows[0]['trial']} to {rows[-1]['trial']}" if rows else "no trials"
        raise BindError(f"model `{name}` has no trial {number}; it has {span}")
    if row["program"] is None:
        why = _unusable(rows)
        usable = [str(r["trial"]) for r in rows if r["program"] is not None][:10]
        raise BindError(
            f"trial {number} of model `{name}` cannot be used: {row['status']}, "
            f"{row['error'] or why}",
            hint=f"trials that can: {', '.join(usable)}" if usable else "train the model again",
        )
    program = parse_program(row["program"], f"{name}@{found['version']}#{number}")
    return program, found["expires"]


def _unusable(rows: Sequence[Row]) -> str:
    """Why a trial that succeeded has no program."""
    if rows[0]["trial"] == 0:
        return "of one model per group, only that of all groups together is kept: leave # out"
    return "only the best of a search over folds is trained on all rows"


def trial_count(catalog: Catalog, name: str, version: Version) -> int:
    """Trials of a version that may be named; one per group is one model."""
    version_id = version_row(catalog, name, version)["version_id"]
    rest = "FROM {g}.trials WHERE version_id = ?"
    count = "CASE WHEN min(trial) = 0 THEN 1 ELSE count(*) END AS n"
    return catalog.rows([count], rest, [version_id])[0]["n"]


def parse_program(text: str, address: str) -> Model:
    """A model from its plan text; StoreError where the text is none."""
    try:
        parsed = parse_plan(text)
    except (GradbaseError, ValueError, TypeError, AssertionError) as error:
        raise _unreadable(address, str(error)) from error
    if not isinstance(parsed, Model):
        raise _unreadable(address, f"its text is a {type(parsed).__name__}, not a Model")
    return parsed


def _unreadable(address: str, why: str) -> StoreError:
    return StoreError(
        f"the program of model {address} in the catalog cannot be read: {why}",
        hint="run `gradbase fsck`",
    )


def record(catalog: Catalog, name: str, version: Version) -> ModelRecord:
    """A version as it was committed, without the trials' programs and arrays."""
    found = version_row(catalog, name, version)
    version_id = found["version_id"]
    came = lineage(catalog, version_id)
    epochs = _of_version(catalog, "epochs", version_id, "ORDER BY training_run, epoch")
    metrics = _of_version(catalog, "trial_metrics", version_id)
    trials = _of_version(catalog, "trials", version_id, "ORDER BY trial")
    values: Values = {}
    for m in metrics:
        key = (m["trial"], m["training_run"], m["epoch"], m["part"])
        values.setdefault(key, {})[m["metric"]] = m["value"]
    of_trial: dict[int, list[EpochRecord]] = {}
    for e in epochs:
        of_trial.setdefault(e["trial"], []).append(_epoch(e, values))
    return ModelRecord(
        **{k: found[k] for k in _KEPT},
        name=name,
        created=found["created"].replace(tzinfo=dt.UTC),
        query=came.query,
        sql=came.statement,
        options=json.loads(came.options),
        seed=came.seed,
        relation_hash=came.relation_hash,
        code_version=came.code_version,
        engine=came.engine,
        trials=tuple(_trial(t, of_trial.get(t["trial"], []), values) for t in trials),
        features=features(catalog, version_id),
        groups=groups(catalog, version_id),
    )


_KEPT = (
    "model_type", "task", "label", "metric", "best_trial", "train_rows", "eval_rows", "test_rows",
)  # fmt: skip


def groups(catalog: Catalog, version_id: int) -> tuple[GroupRecord, ...]:
    """The groups of a model that has one per group."""
    rows = _of_version(catalog, "groups", version_id, "ORDER BY group_number")
    return tuple(
        GroupRecord(
            row["group_number"],
            None if row["key"] is None else json.loads(row["key"]),
            *(row[name] for name in columns("groups")[3:]),
        )
        for row in rows
    )


def features(catalog: Catalog, version_id: int) -> tuple[FeatureRecord, ...]:
    """The training rows' columns; none for versions made before they were kept."""
    rows = _of_version(catalog, "features", version_id, "ORDER BY position")
    for row in rows:
        del row["version_id"], row["position"]
    return tuple(FeatureRecord(**row) for row in rows)


def counts(catalog: Catalog, model: Model) -> Scores | NDArray[np.int64] | None:
    """How training counted the rows of a classifier (see `TrialRecord`); None where it did not."""
    version_id = version_row(catalog, model.name, model.version)["version_id"]
    where = "WHERE version_id = ? AND trial = ? ORDER BY"
    found: list[NDArray[Any]] = []
    for table, names in _COUNTED.items():
        order = ", ".join(names[:2])
        rest = f"FROM {{g}}.{table} {where} {order}"
        rows = catalog.rows(list(names), rest, [version_id, model.trial])
        found.append(np.array([[row[n] for n in names] for row in rows]).reshape(-1, len(names)))
    scores, confusion = found
    if len(scores):
        logit, negatives, positives = scores.T
        return Scores(logit, negatives.astype(np.int64), positives.astype(np.int64))
    return confusion.astype(np.int64) if len(confusion) else None


_COUNTED = {
    "scores": ("logit", "negatives", "positives"),
    "confusion": ("expected", "predicted", "cases"),
}


def _of_version(catalog: Catalog, table: str, version_id: int, order: str = "") -> list[Row]:
    rest = f"FROM {{g}}.{table} WHERE version_id = ? {order}"
    return catalog.rows(columns(table), rest, [version_id])


Values = dict[tuple[int, int, int | None, str], dict[str, float]]
"""Metrics by trial, training run, epoch (None at the end) and part."""


def _epoch(row: Row, values: Values) -> EpochRecord:
    return EpochRecord(
        epoch=row["epoch"],
        train_loss=row["train_loss"],
        eval_loss=row["eval_loss"],
        metrics=values.get((row["trial"], row["training_run"], row["epoch"], "eval"), {}),
        learn_rate=row["learn_rate"],
        seconds=row["seconds"],
        run=row["training_run"],
    )


def _folds(trial: int, values: Values) -> Iterator[FoldRecord]:
    for number in itertools.count():
        found = dict(values.get((trial, number, None, "fold"), {}))
        if not found:
            return
        rows, epochs = int(found.pop("rows")), int(found.pop("epochs"))
        losses = found.pop("train_loss", None), found.pop("eval_loss", None)
        yield FoldRecord(number + 1, rows, epochs, *losses, metrics=found)


def _trial(row: Row, epochs: list[EpochRecord], values: Values) -> TrialRecord:
    return TrialRecord(
        trial=row["trial"],
        status=row["status"],
        configuration=json.loads(row["configuration"]),
        metrics=values.get((row["trial"], 0, None, "eval"), {}),
        test_metrics=values.get((row["trial"], 0, None, "test"), {}),
        train_loss=row["train_loss"],
        eval_loss=row["eval_loss"],
        error=row["error"],
        traceback=row["traceback"],
        epochs=tuple(epochs),
        folds=tuple(_folds(row["trial"], values)),
    )


def lineage(catalog: Catalog, version_id: int) -> Lineage:
    """What made a version."""
    row = _of_version(catalog, "lineage", version_id)[0]
    environment = Environment(row.pop("torch"), row.pop("processor"))
    del row["version_id"]
    return Lineage(**row, environment=environment)
