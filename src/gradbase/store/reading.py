"""From rows of the catalog back to models and records."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Sequence
from typing import Any

from gradbase.errors import BindError, GradbaseError, StoreError, near
from gradbase.ir.learning import Model
from gradbase.ir.parser import parse_plan
from gradbase.store.catalog import Catalog, Row
from gradbase.store.lineage import Environment, Lineage
from gradbase.store.records import EpochRecord, ModelRecord, TrialRecord
from gradbase.store.tables import columns


def names(catalog: Catalog) -> tuple[str, ...]:
    """All model names, sorted."""
    return tuple(r["name"] for r in catalog.rows(["name"], "FROM {g}.models ORDER BY name"))


def version_row(catalog: Catalog, name: str, version: int | None) -> Row:
    """Row of `versions` for a model's newest, or given, version.

    Raises
    ------
    BindError
        There is no such model or version; says which there are.
    """
    found = catalog.rows(
        [f"v.{column}" for column in columns("versions")],
        "FROM {g}.versions v JOIN {g}.models m ON m.model_id = v.model_id "
        "WHERE m.name = ? ORDER BY v.version",
        [name],
    )
    if not found:
        raise _unknown(name, names(catalog))
    if version is None:
        return found[-1]
    for row in found:
        if row["version"] == version:
            return row
    raise BindError(
        f"model `{name}` has no version {version}; it has "
        + ", ".join(str(r["version"]) for r in found)
    )


def _unknown(name: str, known: Sequence[str]) -> BindError:
    said = f"there are {', '.join(f'`{n}`' for n in known[:20])}" if known else "there are none yet"
    return BindError(
        f"there is no model `{name}`; {said}",
        hint=near(name, known) or (None if known else "make one with CREATE MODEL"),
    )


def model(catalog: Catalog, name: str, version: int | None, trial: int | None) -> Model:
    """The program of a trial, by default the newest version's best."""
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
        usable = [str(r["trial"]) for r in rows if r["program"] is not None][:10]
        raise BindError(
            f"trial {number} of model `{name}` cannot be used: {row['status']}, {row['error']}",
            hint=f"trials that can: {', '.join(usable)}" if usable else "train the model again",
        )
    return parse_program(row["program"], f"{name}@{found['version']}#{number}")


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


def record(catalog: Catalog, name: str, version: int | None) -> ModelRecord:
    """A version as it was committed, without the trials' programs and arrays."""
    found = version_row(catalog, name, version)
    version_id = found["version_id"]
    came = lineage(catalog, version_id)
    epochs = _of_version(catalog, "epochs", version_id, "ORDER BY epoch")
    metrics = _of_version(catalog, "trial_metrics", version_id)
    trials = _of_version(catalog, "trials", version_id, "ORDER BY trial")
    values: dict[tuple[int, int | None, str], dict[str, float]] = {}
    for m in metrics:
        values.setdefault((m["trial"], m["epoch"], m["part"]), {})[m["metric"]] = m["value"]
    of_trial: dict[int, list[EpochRecord]] = {}
    for e in epochs:
        of_trial.setdefault(e["trial"], []).append(_epoch(e, values))
    return ModelRecord(
        **{k: found[k] for k in ("model_type", "task", "label", "metric", "best_trial")},
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
    )


def _of_version(catalog: Catalog, table: str, version_id: int, order: str = "") -> list[Row]:
    rest = f"FROM {{g}}.{table} WHERE version_id = ? {order}"
    return catalog.rows(columns(table), rest, [version_id])


def _epoch(row: Row, values: dict[tuple[int, int | None, str], dict[str, float]]) -> EpochRecord:
    return EpochRecord(
        epoch=row["epoch"],
        train_loss=row["train_loss"],
        eval_loss=row["eval_loss"],
        metrics=values.get((row["trial"], row["epoch"], "eval"), {}),
        learn_rate=row["learn_rate"],
        seconds=row["seconds"],
    )


def _trial(
    row: Row, epochs: list[EpochRecord], values: dict[tuple[int, int | None, str], Any]
) -> TrialRecord:
    return TrialRecord(
        trial=row["trial"],
        status=row["status"],
        configuration=json.loads(row["configuration"]),
        metrics=values.get((row["trial"], None, "eval"), {}),
        test_metrics=values.get((row["trial"], None, "test"), {}),
        train_loss=row["train_loss"],
        eval_loss=row["eval_loss"],
        error=row["error"],
        epochs=tuple(epochs),
    )


def lineage(catalog: Catalog, version_id: int) -> Lineage:
    """What made a version."""
    row = _of_version(catalog, "lineage", version_id)[0]
    environment = Environment(row.pop("torch"), row.pop("processor"))
    del row["version_id"]
    return Lineage(**row, environment=environment)
