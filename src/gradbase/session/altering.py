"""ALTER, DROP, DESCRIBE and EXPORT MODEL on the session's store."""

from __future__ import annotations

import contextlib
import datetime as dt
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from gradbase.errors import BindError, EngineError
from gradbase.frontend.addresses import Address
from gradbase.frontend.model_statements import (
    AlterModel,
    DescribeModel,
    DropAlias,
    DropModel,
    PruneVersions,
    SetAlias,
    SetOptions,
    SetVersion,
)
from gradbase.ir.types import SqlType

if TYPE_CHECKING:
    from gradbase.ir.relational import Values
    from gradbase.session.session import Session

DONE = pa.table({"done": pa.array([True])})
EPOCH = dt.datetime(1970, 1, 1)  # noqa: DTZ001 (as the catalog keeps times)


def drop(session: Session, statement: DropModel) -> pa.Table:
    """Delete a model, or one of its versions."""
    model, store = statement.model, session.store
    with located(model):
        if model.version is None:
            store.drop(model.name, statement.if_exists)
        else:
            store.versions.drop(model.name, model.version, if_exists=statement.if_exists)
    return DONE


def export(session: Session, model: Address, path: Path, trial: int | None) -> pa.Table:
    """Write a model to a file; returns where and how large."""
    with located(model):
        handle = session.model(model.name, model.version, trial)
    made = handle.export(path)
    return pa.table({"file": [str(made)], "bytes": [made.stat().st_size]})


def alter(session: Session, statement: AlterModel) -> pa.Table:
    """Make one change; PRUNE VERSIONS returns the versions deleted."""
    name, versions = statement.model.name, session.store.versions
    session.store.catalog.check_writable()
    if statement.if_exists and not session.store.exists(name):
        return DONE
    with located(statement.model):
        match statement.change:
            case SetAlias(alias, version):
                versions.set_alias(name, alias, version)
            case DropAlias(alias, if_exists):
                versions.drop_alias(name, alias, if_exists=if_exists)
            case SetVersion(version):
                versions.set_current(name, version)
            case SetOptions(values, expires):
                time = {"expiration_timestamp": _time(session, expires)} if expires else {}
                versions.set_options(name, values | time)
            case PruneVersions(keep):
                return pa.table({"version": pa.array(versions.prune(name, keep), pa.int64())})
    return DONE


def describe(session: Session, statement: DescribeModel) -> Values:
    """The facts about a model."""
    with located(statement.model):
        return session.store.describe(statement.model.name, statement.model.version)


def _time(session: Session, expression: str) -> dt.datetime | None:
    """What the user's expression means, in UTC."""
    kind = session.engine.dialect.type_name(SqlType("timestamptz"))
    query = f"SELECT CAST(({expression}\n) AS {kind}) AS expires"
    try:
        column = session.engine.fetch(query).column(0)
    except EngineError as error:
        raise BindError(
            f"expiration_timestamp cannot be read: {error.message}",
            hint="a time such as '2030-01-31 18:00:00+00' or now() + INTERVAL 7 DAY, or NULL",
        ) from error
    micros = column.cast(pa.int64())[0].as_py()
    try:
        return None if micros is None else EPOCH + dt.timedelta(microseconds=micros)
    except OverflowError:
        raise BindError(
            "expiration_timestamp is infinite", hint="NULL: the model never expires"
        ) from None


@contextlib.contextmanager
def located(model: Address) -> Generator[None]:
    """Errors inside say where the model is named."""
    try:
        yield
    except BindError as error:
        raise BindError(error.message, at=error.at or model.at, hint=error.hint) from error
