"""Rows of `gradbase.runs` and the journals they stand for."""

from __future__ import annotations

import logging
import os
import shutil
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gradbase.engines.base import Transaction
from gradbase.errors import BindError, GradbaseError, StoreError
from gradbase.store.catalog import Catalog, now
from gradbase.store.following import Run
from gradbase.store.journal import FILE, Event, Journal, read

log = logging.getLogger("gradbase.store")

STATES = "states"
"""Folder of a run's training states."""
RUNNING, DONE, FAILED, INTERRUPTED = "RUNNING", "DONE", "FAILED", "INTERRUPTED"

_PROCESS = uuid.uuid4().hex
_ENDED: set[str] = set()
"""Runs of this process whose end could not be written into the catalog (a full disk)."""


def process() -> str:
    """Tells runs of this process from those of one that died; differs in a fork."""
    return f"{_PROCESS}-{os.getpid()}"


class Runs:
    """Searches under way, finished and interrupted, of one store."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog, self.path = catalog, catalog.folder.runs

    def start(self, model: str, header: Mapping[str, Any]) -> Journal:
        """Begin a run: its journal first, then its row."""
        self._catalog.check_writable()
        run_id = uuid.uuid4().hex[:12]
        journal = Journal.create(self.path, run_id, {"model": model, **header})
        try:
            with self._catalog.write() as handle:
                self._mark_interrupted(handle)
                row = (run_id, model, RUNNING, process(), now(), None, None, None)
                self._catalog.insert(handle, "runs", [row])
        except BaseException:
            journal.close()
            shutil.rmtree(journal.path.parent, ignore_errors=True)
            raise
        return journal

    def finish(
        self, journal: Journal, status: str, version: int | None = None, error: str | None = None
    ) -> None:
        """End a run as ``DONE``, ``FAILED`` or ``INTERRUPTED``; never fails.

        What the run was for has happened by now; should its end not be written (a full disk), the
        run counts as interrupted, at once.
        """
        event = {"event": "end", "status": status, "version": version, "error": error}
        try:
            journal.append(event)
        except GradbaseError as problem:
            log.warning("the journal of run %s lacks its end: %s", journal.run_id, problem)
            journal.close_mailbox()
        try:
            self._finished(journal, [status, now(), version, error, journal.run_id])
        except GradbaseError as problem:
            log.warning("the catalog lacks the end of run %s: %s", journal.run_id, problem)
            _ENDED.add(journal.run_id)
        finally:
            journal.close()

    def _finished(self, journal: Journal, values: Sequence[Any]) -> None:
        units = _units(read(journal.path)) if journal.path.exists() else None
        with self._catalog.write() as handle:
            if units is not None:
                self._record_units(handle, journal.run_id, units)
            handle.execute(
                f"UPDATE {self._catalog.schema}.runs SET status = ?, finished = ?, "
                "version = COALESCE(?, version), error = ? WHERE run_id = ?",
                list(values),
            )

    def made(self, handle: Transaction, run_id: str, version: int) -> None:
        """Write down which version a run is making, in the transaction that shows it."""
        handle.execute(
            f"UPDATE {self._catalog.schema}.runs SET version = ? WHERE run_id = ?",
            [version, run_id],
        )

    def committed(self, run_id: str) -> int | None:
        """The version that a run has made; None where it has made none."""
        rows = self._catalog.rows(["version"], "FROM {g}.runs WHERE run_id = ?", [run_id])
        return rows[0]["version"] if rows else None

    def resume(self, model: str, run_id: str = "") -> Journal:
        """Open the latest run of `model` that did not come to its end, or `run_id`, to go on.

        Raises
        ------
        BindError
            There is none, or it is running.
        StoreError
            Its journal is gone.
        """
        self._catalog.check_writable()
        with self._catalog.write() as handle:
            self._mark_interrupted(handle)
            handle.execute(
                f"SELECT run_id, status FROM {self._catalog.schema}.runs "
                "WHERE lower(model) = lower(?) AND ? IN ('', run_id) "
                "ORDER BY started DESC, run_id LIMIT 1",
                [model, run_id],
            )
            found = handle.fetchall()
            if not found or found[0][1] not in (INTERRUPTED, FAILED):
                raise _nothing_to_resume(model, found[0][1] if found else None)
            run_id = str(found[0][0])
            journal = Journal.resume(self.path, run_id)
            _ENDED.discard(run_id)
            handle.execute(
                f"UPDATE {self._catalog.schema}.runs SET status = ?, process = ?, "
                "finished = NULL, error = NULL WHERE run_id = ?",
                [RUNNING, process(), run_id],
            )
        return journal

    def of_version(self, model: str, version: int) -> Path:
        """The journal of the search that made a version of a model.

        Raises
        ------
        StoreError
            It is gone: the version was not trained here, or before there were journals.
        """
        rest = "FROM {g}.runs WHERE lower(model) = lower(?) AND version = ? ORDER BY started DESC"
        for row in self._catalog.rows(["run_id"], rest, [model, version]):
            path = self.path / row["run_id"] / FILE
            if path.exists():
                return path
        raise StoreError(
            f"there is no journal of the search that made version {version} of `{model}`",
            hint="imported and copied models have none",
        )

    def add_units(self, run_id: str, events: Sequence[Event]) -> None:
        """Copy the units of some events of a running search's journal."""
        with self._catalog.write() as handle:
            self._catalog.insert(handle, "units", [(run_id, *unit) for unit in _units(events)])

    def _record_units(
        self, handle: Transaction, run_id: str, units: Sequence[Sequence[Any]]
    ) -> None:
        """Copy units from the journal, instead of those of before."""
        handle.execute(f"DELETE FROM {self._catalog.schema}.units WHERE run_id = ?", [run_id])
        self._catalog.insert(handle, "units", [(run_id, *unit) for unit in units])

    def interrupted(self) -> list[str]:
        """Ids of runs that the catalog calls running, but that ended or whose process died."""
        rows = self._catalog.rows(
            ["run_id", "process"], "FROM {g}.runs WHERE status = ?", [RUNNING]
        )
        return self._dead([(row["run_id"], row["process"]) for row in rows])

    def _dead(self, running: Sequence[tuple[str, str]]) -> list[str]:
        """Of `running` (ids and their processes) those that run no more."""
        return [run_id for run_id, owner in running if self._is_dead(run_id, owner)]

    def _is_dead(self, run_id: str, owner: str) -> bool:
        """Where a database is shared other processes live: their journals say so, if here."""
        if owner == process():
            return run_id in _ENDED
        if not self._catalog.engine.capabilities.shared:
            return True
        folder = self.path / run_id
        return (folder / FILE).exists() and Run(folder).status != RUNNING

    def mark_interrupted(self) -> None:
        """Say in the catalog which runs died with their process."""
        with self._catalog.write() as handle:
            self._mark_interrupted(handle)

    def forget(self, handle: Transaction, model: str) -> list[str]:
        """Delete the rows of a model's ended runs; returns their ids, for `remove`."""
        mine = f"FROM {self._catalog.schema}.runs WHERE model = ? AND status <> ?"
        handle.execute(f"SELECT run_id {mine}", [model, RUNNING])
        ids = [row[0] for row in handle.fetchall()]
        units = f"DELETE FROM {self._catalog.schema}.units WHERE run_id IN (SELECT run_id {mine})"
        handle.execute(units, [model, RUNNING])
        handle.execute(f"DELETE {mine}", [model, RUNNING])
        return ids

    def drop_states(self, model: str) -> None:
        """Delete the training states of a model's runs: there is a version now."""
        rest = "FROM {g}.runs WHERE lower(model) = lower(?) AND status <> ?"
        for row in self._catalog.rows(["run_id"], rest, [model, RUNNING]):
            shutil.rmtree(self.path / row["run_id"] / STATES, ignore_errors=True)

    def remove(self, run_ids: Sequence[str]) -> None:
        """Delete the journals of runs."""
        for run_id in run_ids:
            shutil.rmtree(self.path / run_id, ignore_errors=True)

    def _mark_interrupted(self, handle: Transaction) -> None:
        table = f"{self._catalog.schema}.runs"
        running = handle.execute(f"SELECT run_id, process FROM {table} WHERE status = ?", [RUNNING])
        ended = "CASE WHEN version IS NULL THEN ? ELSE ? END"
        update = f"UPDATE {table} SET status = {ended} WHERE status = ? AND run_id = ?"
        for run_id in self._dead(running.fetchall()):
            handle.execute(update, [INTERRUPTED, DONE, RUNNING, run_id])


def _units(events: Sequence[Event]) -> list[tuple[Any, ...]]:
    """(trial, epoch, shard, attempt, worker, seconds) of every unit in a journal."""
    return [
        (int(trial), event["epoch"], unit["shard"], unit.get("attempt", 1),
         str(unit.get("worker", event.get("worker"))), unit["seconds"])
        for event in events if event["event"] in ("epoch", "saved")
        for unit in event.get("units", ()) for trial in event["trials"]
    ]  # fmt: skip


def _nothing_to_resume(model: str, status: str | None) -> BindError:
    if status == RUNNING:
        return BindError(f"the search for model `{model}` is running", hint="wait until it ends")
    ended = "has come to its end" if status else "was never begun"
    return BindError(
        f"there is nothing to resume: the search for model `{model}` {ended}",
        hint="SHOW SEARCHES lists them; CREATE MODEL … WARM_START continues a model",
    )
