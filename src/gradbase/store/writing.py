"""The rows of a model version, and the blobs that must be durable before them."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradbase.engines.base import Transaction
from gradbase.errors import InternalError, StoreError
from gradbase.ir.learning import Model
from gradbase.ir.node import walk
from gradbase.ir.printer import print_plan
from gradbase.ir.tensor import Param
from gradbase.store.blobs import Blobs, bytes_of
from gradbase.store.catalog import Catalog
from gradbase.store.folder import Lease
from gradbase.store.lineage import Environment
from gradbase.store.records import ModelRecord, TrialRecord

EVAL, TEST, FOLD, STDDEV, COMPONENT = "eval", "test", "fold", "stddev", "component"
EIGENVALUE, SHARE = "eigenvalue", "explained_variance_ratio"
OF_FOLD = ("rows", "epochs", "train_loss", "eval_loss")
"""What is kept of a fold beside its metrics."""


TILED_BYTES = 64 << 20
"""Larger arrays are stored as tiles: predicting with them needs less memory than they have."""
_PIECE = 1 << 20
"""Elements handed over at once."""
_BATCH_PAGES = 16
"""Smaller arrays are stored together: at most so many pages' bytes, as these follow the limit."""


def hashes_of(model: Model) -> list[str]:
    """Distinct blobs that a program names."""
    return list(dict.fromkeys(n.hash for n in walk(model) if isinstance(n, Param)))


def put_params(blobs: Blobs, record: ModelRecord, lease: Lease) -> None:
    """Make all arrays of a record durable."""
    params = {h: t.params for t in record.trials for h in t.params}
    batch: list[memoryview] = []
    names: list[str] = []
    for expected, arrays in params.items():  # some are made when they are asked for
        array = arrays[expected]
        if array.nbytes > TILED_BYTES:
            flat = np.ascontiguousarray(array).reshape(-1)
            pieces = (flat[i : i + _PIECE] for i in range(0, len(flat), _PIECE))
            made = blobs.put_tiles(pieces, array.shape, array.dtype.name, blobs.page_bytes)
            _check_hash(record, expected, made)
            continue
        names.append(expected)
        batch.append(bytes_of(array))
        if sum(map(len, batch)) > min(TILED_BYTES, _BATCH_PAGES * blobs.page_bytes):
            _put_batch(blobs, record, names, batch, lease)
    _put_batch(blobs, record, names, batch, lease)


def _put_batch(
    blobs: Blobs, record: ModelRecord, names: list[str], batch: list[memoryview], lease: Lease
) -> None:
    for expected, stored in zip(names, blobs.put_many(batch, lease), strict=True):
        _check_hash(record, expected, stored)
    names.clear()
    batch.clear()


def _check_hash(record: ModelRecord, expected: str, stored: str) -> None:
    if expected != stored:
        raise InternalError(
            f"parameter {expected} of model `{record.name}` has bytes with hash {stored}"
        )


def write_version(
    catalog: Catalog, blobs: Blobs, handle: Transaction, record: ModelRecord, *, model_id: int,
    version: int,
) -> None:  # fmt: skip
    """Insert all rows of a new version."""
    version_id = catalog.next_id(handle)
    programs: dict[int, Model] = {}
    for trial in record.trials:
        if trial.model is not None:
            programs[trial.trial] = _named(trial.model, record.name, version, trial.trial)
            _check_blobs(blobs, programs[trial.trial])
    rows = {
        "versions": [
            (version_id, model_id, version, record.model_type, record.task, record.label,
             record.metric, record.best_trial, utc(record.created), record.train_rows,
             record.eval_rows, record.test_rows)
        ],
        "lineage": [_lineage(version_id, record)],
        "trials": [_trial(version_id, t, record.metric, programs) for t in record.trials],
        "epochs": [r for t in record.trials for r in _epochs(version_id, t)],
        "trial_metrics": [r for t in record.trials for r in _metrics(version_id, t)],
        "blobs": [
            (version_id, number, blob) for number, m in programs.items() for blob in hashes_of(m)
        ],
        "groups": [
            (version_id, g.group, None if g.key is None else to_json(g.key), g.first_trial,
             g.last_trial, g.best_trial, g.train_rows, g.eval_rows, g.test_rows)
            for g in record.groups
        ],
        "features": [
            (version_id, position, *dataclasses.astuple(feature))
            for position, feature in enumerate(record.features, 1)
        ],
    }  # fmt: skip
    for table, values in rows.items():
        catalog.insert(handle, table, values)
    for table, counts in _counts(version_id, record).items():
        if counts:
            whole = [np.concatenate(parts) for parts in zip(*counts, strict=True)]
            catalog.insert_columns(handle, table, whole)


def _counts(version_id: int, record: ModelRecord) -> dict[str, list[list[NDArray[Any]]]]:
    """Columns of `scores` and of `confusion`, trial by trial."""
    found: dict[str, list[list[NDArray[Any]]]] = {"scores": [], "confusion": []}
    for trial in record.trials:
        for table, columns in (
            ("scores", trial.scores),
            ("confusion", None if trial.confusion is None else trial.confusion.T),
        ):
            if columns is not None and trial.model is not None:
                rows = len(columns[0])
                key = (np.full(rows, number) for number in (version_id, trial.trial))
                found[table].append([*key, *columns])
    return found


def _named(model: Model, name: str, version: int, trial: int) -> Model:
    return model.replace(name=name, version=version, trial=trial)


def _check_blobs(blobs: Blobs, model: Model) -> None:
    for blob in hashes_of(model):
        if not blobs.exists(blob):
            raise StoreError(
                f"model {model.address} names blob {blob}, which is not in {blobs.pieces.where}",
                hint="the model was not stored; run the statement again",
            )


def _trial(
    version_id: int, trial: TrialRecord, metric: str, programs: dict[int, Model]
) -> tuple[Any, ...]:
    objective = trial.eval_loss if metric == "loss" else trial.metrics.get(metric)
    program = programs.get(trial.trial)
    return (
        version_id, trial.trial, trial.status, to_json(trial.configuration), objective,
        trial.train_loss, trial.eval_loss, trial.error, program and print_plan(program),
        trial.traceback,
    )  # fmt: skip


def _epochs(version_id: int, trial: TrialRecord) -> Iterator[tuple[Any, ...]]:
    for e in trial.epochs:
        yield (
            version_id, trial.trial, e.epoch, e.train_loss, e.eval_loss, e.learn_rate, e.seconds,
            e.run,
        )  # fmt: skip


def _metrics(version_id: int, trial: TrialRecord) -> Iterator[tuple[Any, ...]]:
    for e in trial.epochs:
        for name, value in e.metrics.items():
            yield (version_id, trial.trial, e.epoch, EVAL, name, float(value), e.run)
    ends = ((EVAL, trial.metrics), (TEST, trial.test_metrics), (STDDEV, trial.deviations))
    for part, metrics in ends:
        for name, value in metrics.items():
            yield (version_id, trial.trial, None, part, name, float(value), 0)
    for fold in trial.folds:
        values = {n: getattr(fold, n) for n in OF_FOLD} | dict(fold.metrics)
        for name, value in values.items():
            if value is not None:
                row = (version_id, trial.trial, None, FOLD, name, float(value))
                yield (*row, fold.fold - 1)
    for number, (eigenvalue, share) in enumerate(trial.components):
        for name, value in ((EIGENVALUE, eigenvalue), (SHARE, share)):
            yield (version_id, trial.trial, None, COMPONENT, name, value, number)


def _lineage(version_id: int, record: ModelRecord) -> tuple[Any, ...]:
    here = Environment.here()
    return (
        version_id, record.relation_hash, record.query, record.sql, to_json(record.options),
        record.seed, record.code_version, record.engine, here.torch, here.processor,
    )  # fmt: skip


def to_json(value: object) -> str:
    """JSON of options; tuples become lists, NumPy scalars plain numbers, the rest its text."""
    return json.dumps(value, default=_plain, ensure_ascii=False)


def _plain(value: Any) -> Any:
    match value:
        case set() | frozenset():
            return sorted(value)
        case _ if hasattr(value, "item"):
            return value.item()
        case _ if hasattr(value, "items"):
            return dict(value.items())
    return str(value)


def utc(moment: dt.datetime) -> dt.datetime:
    """A time as the catalog keeps it."""
    if moment.tzinfo is None:
        return moment
    return moment.astimezone(dt.UTC).replace(tzinfo=None)
