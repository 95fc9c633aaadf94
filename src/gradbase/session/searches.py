"""SHOW SEARCHES, SHOW TRIALS and ALTER SEARCH: searches of this database and of others."""

from __future__ import annotations

import datetime as dt
import json
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from gradbase.errors import BindError, near
from gradbase.frontend.search_statements import (
    AddTrial,
    AlterSearch,
    CloneTrial,
    ResumeTrials,
    SearchOf,
    ShowSearches,
    ShowTrials,
    StopTrials,
)
from gradbase.store.following import RUNNING, Run, runs, runs_in

if TYPE_CHECKING:
    from gradbase.session.session import Session


def show(session: Session, statement: ShowSearches | ShowTrials) -> pa.Table:
    """The searches of a database, or the trials of one as they are now."""
    if isinstance(statement, ShowTrials):
        return _columns(_found(session, statement.search).trials)
    if statement.path is None:
        return session.store.searches()
    return _searches(runs(statement.path))


def alter(session: Session, statement: AlterSearch) -> pa.Table:
    """Leave a message to the process that trains; it takes effect when an epoch ends.

    Raises
    ------
    BindError
        There is no such search or trial.
    StoreError
        The search does not run.
    """
    run = _found(session, statement.search)
    match statement.change:
        case StopTrials(trials):
            run.stop(*trials)
        case ResumeTrials(trials):
            run.resume(*trials)
        case AddTrial(configuration):
            run.add(configuration)
        case CloneTrial(trial, changes, weights):
            run.clone(trial, changes, weights=weights)
    return pa.table({"search": [run.model], "run": [run.id], "status": [run.status]})


def _found(session: Session, search: SearchOf) -> Run:
    """The latest search for a model, or a run by its id; one that runs before others."""
    path = search.path
    known = runs_in(session.store.runs.path) if path is None else runs(path)
    names = {run: run.model for run in known}
    wanted = search.model.lower()
    found = [run for run, model in names.items() if wanted in (model.lower(), run.id)]
    if not found:
        where, there = ("here", "") if path is None else (f"in {path}", f" IN '{path}'")
        raise BindError(
            f"there is no search for a model `{search.model}` {where}",
            at=search.at,
            hint=near(search.model, list(dict.fromkeys(names.values())))
            or f"SHOW SEARCHES{there} lists them",
        )
    running = [run for run in found if run.status == RUNNING]
    return (running or found)[-1]


def _searches(found: list[Run]) -> pa.Table:
    """As `Store.searches`, from journals."""
    text, time = pa.string(), pa.timestamp("us")
    ends = [run.end for run in found]
    return pa.table(
        {
            "model": pa.array([run.model for run in found], text),
            "run": pa.array([run.id for run in found], text),
            "status": pa.array([run.status for run in found], text),
            "started": pa.array([_time(run.started) for run in found], time),
            "finished": pa.array([_time(end.get("at")) for end in ends], time),
            "version": pa.array([end.get("version") for end in ends], pa.int64()),
            "error": pa.array([end.get("error") for end in ends], text),
        }
    )


def _time(seconds: float | None) -> dt.datetime | None:
    if seconds is None:
        return None
    return dt.datetime.fromtimestamp(seconds, dt.UTC).replace(tzinfo=None)


def _columns(rows: list[dict[str, Any]]) -> pa.Table:
    """A column for each name; values of several types as JSON."""
    names = dict.fromkeys(["trial", "status", "epochs", *(name for row in rows for name in row)])
    return pa.table({name: _array([row.get(name) for row in rows]) for name in names})


def _array(values: list[Any]) -> pa.Array:
    try:
        return pa.array(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        return pa.array([None if v is None else json.dumps(v) for v in values], pa.string())
