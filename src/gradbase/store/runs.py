"""Rows of `gradbase.runs` and the journals they stand for."""

from __future__ import annotations

import logging
import os
import shutil
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from gradbase.engines.base import Transaction
from gradbase.errors import GradbaseError
from gradbase.store.catalog import Catalog, now
from gradbase.store.journal import Journal

log = logging.getLogger("gradbase.store")

RUNNING, DONE, FAILED, INTERRUPTED = "RUNNING", "DONE", "FAILED", "INTERRUPTED"

_PROCESS = uuid.uuid4().hex


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
        run counts as interrupted later.
        """
        event = {"event": "end", "status": status, "version": version, "error": error}
        try:
            journal.append(event)
            with self._catalog.write() as handle:
                handle.execute(
                    f"UPDATE {self._catalog.schema}.runs SET status = ?, finished = ?, "
                    "version = ?, error = ? WHERE run_id = ?",
                    [status, now(), version, error, journal.run_id],
                )
        except GradbaseError as problem:
            log.warning("the end of run %s could not be written: %s", journal.run_id, problem)
        finally:
            journal.close()

    def record_units(self, run_id: str, units: Sequence[Sequence[Any]]) -> None:
        """Copy units from the journal: (trial, epoch, shard, attempt, worker, seconds) each."""
        with self._catalog.write() as handle:
            self._catalog.insert(handle, "units", [(run_id, *unit) for unit in units])

    def interrupted(self) -> list[str]:
        """Ids of runs whose process died."""
        rest = "FROM {g}.runs WHERE status = ? AND process <> ?"
        rows = self._catalog.rows(["run_id"], rest, [RUNNING, process()])
        return [row["run_id"] for row in rows]

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

    def remove(self, run_ids: Sequence[str]) -> None:
        """Delete the journals of runs."""
        for run_id in run_ids:
            shutil.rmtree(self.path / run_id, ignore_errors=True)

    def _mark_interrupted(self, handle: Transaction) -> None:
        handle.execute(
            f"UPDATE {self._catalog.schema}.runs SET status = ? WHERE status = ? AND process <> ?",
            [INTERRUPTED, RUNNING, process()],
        )
