"""`Store`: the models of one database."""

from __future__ import annotations

import datetime as dt
import logging
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from gradbase.engines.base import Engine, Transaction
from gradbase.errors import BindError, StoreError
from gradbase.ir.facts import Version
from gradbase.ir.learning import Model
from gradbase.ir.relational import Values
from gradbase.store import describing, gc, group_info, info, reading
from gradbase.store.blobs import Blobs
from gradbase.store.catalog import Catalog, now
from gradbase.store.folder import Folder
from gradbase.store.fsck import Report, examine
from gradbase.store.journal import Journal
from gradbase.store.lineage import Lineage
from gradbase.store.records import ModelRecord, Scores
from gradbase.store.runs import Runs
from gradbase.store.shown import Shown
from gradbase.store.versions import Versions
from gradbase.store.writing import put_params, write_version

log = logging.getLogger("gradbase.store")

Address = tuple[str, Version, int | None]


class Store:
    """Models, their blobs and where they came from.

    Opening reads nothing but the database's name and changes nothing. Safe to use from several
    threads. Implements `gradbase.ir.facts.Models`.
    """

    def __init__(self, engine: Engine, *, read_only: bool = False) -> None:
        self.engine, self.read_only = engine.catalog, read_only or engine.read_only
        self._folder = Folder.at(self.engine.folder)
        self._folder.enter()
        self.catalog = Catalog(self.engine, self._folder, read_only=self.read_only)
        self.shown = Shown(self.catalog, engine)
        self.blobs = Blobs(self._folder, self.catalog.pieces(), self.read_only, self._users_of)
        self.runs = Runs(self.catalog)
        self.versions = Versions(self.catalog, self._sweep)
        self._cache: dict[Address, Model] = {}
        self._expires: dt.datetime | None = None
        """When the first of the models known here expires."""
        self._cached_at = -1
        self._cache_lock = threading.Lock()
        self._closed = self._swept = False

    @classmethod
    def open(cls, engine: Engine, *, read_only: bool = False) -> Self:
        """The store of a database."""
        return cls(engine, read_only=read_only)

    @property
    def path(self) -> Path:
        """The folder beside the database (made by the first write)."""
        return self._folder.root

    @property
    def changes(self) -> int:
        """Grows with every change of the catalog: what was read before one is read again."""
        if self._expires is not None and now() >= self._expires:
            self._expires, self._folder.changes = None, self._folder.changes + 1
        return self._folder.changes + self.catalog.changes_of_others()

    # -- reading -----------------------------------------------------------------------------------

    def model(self, name: str, version: Version = None, trial: int | None = None) -> Model:
        """The model; BindError with near matches where there is none. Default: current, best.

        `version` is a number or an alias; ``latest`` is the newest.
        """
        address = (name, version, trial)
        changes = self.changes
        with self._cache_lock:
            if self._cached_at != changes:
                self._cache.clear()
                self._cached_at = changes
            found = self._cache.get(address)
        if found is None:
            found, expires = reading.model(self.catalog, name, version, trial)
            with self._cache_lock:
                if self._cached_at == changes:
                    self._cache[address] = found
                if expires is not None:
                    self._expires = min(expires, self._expires or expires)
        return found

    def counts(self, model: Model) -> Scores | NDArray[np.int64] | None:
        """How training counted the evaluation rows of a classifier, all rows without such ones.

        See `TrialRecord`; None for other tasks, and for models of the first formats.
        """
        return reading.counts(self.catalog, model)

    def names(self) -> tuple[str, ...]:
        """All model names, sorted."""
        return reading.names(self.catalog)

    def trial_count(self, name: str, version: Version = None) -> int:
        """Trials that a version of a model has."""
        return reading.trial_count(self.catalog, name, version)

    def usable_trials(self, name: str, version: Version = None) -> tuple[int, ...]:
        """Numbers of the trials of a version that can predict."""
        version_id = reading.version_row(self.catalog, name, version)["version_id"]
        rest = "FROM {g}.trials WHERE version_id = ? AND program IS NOT NULL ORDER BY trial"
        return tuple(r["trial"] for r in self.catalog.rows(["trial"], rest, [version_id]))

    def feature_statistics(
        self, name: str, version: Version = None
    ) -> dict[str, tuple[float | None, float | None]]:
        """Share of missing values and mean of each column in training; {} where not kept."""
        row = reading.version_row(self.catalog, name, version)
        features, rows = reading.features(self.catalog, row["version_id"]), row["train_rows"]
        return {f.name: (f.null_count / rows if rows else None, f.mean) for f in features}

    def counts_sql(self, name: str, version: Version, trial: int) -> str:
        """SQL of how a trial's evaluation rows were predicted, see `info.counts`.

        Raises
        ------
        BindError
            Nothing was kept of them.
        """
        row = reading.version_row(self.catalog, name, version)
        sql = info.counts(row["task"], self.catalog.schema, row["version_id"], trial)
        if not self.catalog.rows(["1 AS found"], f"FROM ({sql}) AS found LIMIT 1"):
            raise _not_kept(f"{name}@{row['version']}", "predictions of its evaluation rows")
        return self.shown.query(sql)

    def exists(self, name: str) -> bool:
        """Whether there is a model of that name."""
        return name in self.names()

    def record(self, name: str, version: Version = None) -> ModelRecord:
        """What was committed, without the trials' programs and arrays."""
        with self._folder.lock:
            return reading.record(self.catalog, name, version)

    def lineage(self, name: str, version: Version = None) -> Lineage:
        """What made a version of a model."""
        with self._folder.lock:
            row = reading.version_row(self.catalog, name, version)
            return reading.lineage(self.catalog, row["version_id"])

    def info(self, function: str, name: str, version: Version = None) -> str:
        """SQL of the query that answers ``ML.<function>(MODEL name)``; see `info.query`."""
        row = reading.version_row(self.catalog, name, version)
        rest = "FROM {g}.trials WHERE version_id = ? ORDER BY trial"
        trials = self.catalog.rows(["configuration"], rest, [row["version_id"]])
        configurations = [t["configuration"] for t in trials]
        if function == "FEATURE_INFO" and not reading.features(self.catalog, row["version_id"]):
            raise _not_kept(f"{name}@{row['version']}", "statistics of its columns")
        folds = self.catalog.rows(
            ["trial"],
            "FROM {g}.trial_metrics WHERE version_id = ? AND part = 'fold' LIMIT 1",
            [row["version_id"]],
        )
        groups = reading.groups(self.catalog, row["version_id"])
        asked = (function, self.engine.dialect, self.catalog.schema, row)
        if groups:
            sql = group_info.query(*asked, configurations=configurations, groups=groups)
        else:
            sql = info.query(*asked, configurations, folds=bool(folds))
        return self.shown.query(sql)

    def describe(self, name: str, version: Version = None) -> Values:
        """What ``DESCRIBE MODEL`` says of a version, see `describing.COLUMNS`."""
        with self._folder.lock:
            row, versions = reading.described(self.catalog, name, version)
            number = row["version"]
            return describing.describe(
                self.model(name, number), row, self.record(name, number),
                self.lineage(name, number), versions,
            )  # fmt: skip

    def list_versions(self, name: str) -> pa.Table:
        """Every version of a model, oldest first; see `info.VERSIONS`."""
        reading.version_row(self.catalog, name)
        return self.engine.fetch(info.VERSIONS.format(g=self.catalog.schema), [name])

    def show_sql(self) -> str:
        """SQL of the query that answers ``SHOW MODELS``, for the engine of the catalog."""
        if not self.catalog.ready():
            return info.SHOW_NONE
        return info.SHOW.format(g=self.catalog.schema)

    def searches(self) -> pa.Table:
        """The rows of ``SHOW SEARCHES``; one whose process died counts as interrupted."""
        dead, there = self.runs.interrupted(), self.catalog.ready()
        sql = info.searches(self.catalog.schema, len(dead)) if there else info.SEARCHES_NONE
        return self.engine.fetch(sql, dead if there else None)

    # -- writing -----------------------------------------------------------------------------------

    def check_creatable(self, name: str, *, or_replace: bool, if_not_exists: bool) -> bool:
        """Whether CREATE MODEL has anything to do; ask before training.

        Raises
        ------
        StoreError
            The database is read-only, or its models are of a newer format.
        BindError
            There is such a model, and neither flag is given.
        """
        self.catalog.check_writable()
        if or_replace or not self.exists(name):
            return True
        if if_not_exists:
            return False
        raise _exists(name)

    def commit(
        self, record: ModelRecord, *, or_replace: bool = False, if_not_exists: bool = False,
        run_id: str = "",
    ) -> int:  # fmt: skip
        """Make a model visible, whole, in one transaction; returns its version.

        The run that made it, where there is one, gets the version in the same transaction. With
        `or_replace` it becomes the newest version of an existing model; with `if_not_exists` an
        existing model stays as it is and its version is returned.

        Raises
        ------
        BindError
            There is such a model, perhaps since a moment ago, and neither flag is given.
        StoreError
            Read-only, disk full, catalog damaged: nothing is visible then.
        """
        self.check_creatable(record.name, or_replace=or_replace, if_not_exists=if_not_exists)
        with self._folder.lease() as lease:
            put_params(self.blobs, record, lease)
            with self.catalog.write() as handle:
                known = self._known(handle, record.name)
                if known is not None and if_not_exists:
                    return known[1]
                if known is not None and not or_replace:
                    raise _exists(record.name)
                model_id, version = self._numbered(handle, record.name, known)
                write_version(
                    self.catalog, self.blobs, handle, record, model_id=model_id, version=version
                )
                if run_id:
                    self.runs.made(handle, run_id, version)
        self._after_commit()
        log.info("model %s version %d: %d trials", record.name, version, len(record.trials))
        return version

    def drop(self, name: str, if_exists: bool = False) -> bool:
        """Delete a model with all versions and free its blobs; whether there was one."""
        self.catalog.check_writable()
        if not self.exists(name):
            return self._nothing_to_drop(name, if_exists=if_exists)
        with self._folder.lock:
            with self.catalog.write() as handle:
                known = self._known(handle, name)
                if known is None:
                    return self._nothing_to_drop(name, if_exists=if_exists)
                freed = self._delete(handle, known[0])
                runs = self.runs.forget(handle, name)
            self._sweep(freed)
        self.runs.remove(runs)
        log.info("model %s dropped", name)
        return True

    def gc(self, grace_s: float = gc.GRACE_S) -> gc.Swept:
        """Drop expired models; delete blobs that nothing has named for `grace_s` seconds."""
        self.catalog.check_writable()
        self._drop_expired()
        return gc.collect(self.catalog, self.blobs, grace_s=grace_s)

    def start_run(self, model: str, header: Mapping[str, Any]) -> Journal:
        """Begin a search: a journal in ``<store>/runs/<id>/`` and a row of `gradbase.runs`."""
        return self.runs.start(model, header)

    def finish_run(
        self, journal: Journal, status: str, version: int | None = None, error: str | None = None
    ) -> None:
        """End a search as ``DONE``, ``FAILED`` or ``INTERRUPTED``."""
        self.runs.finish(journal, status, version, error)

    def fsck(self, repair: bool = False) -> Report:
        """Verify catalog, blobs and journals; with `repair` mend what can be mended."""
        if repair:
            self.catalog.check_writable()
        return examine(self.catalog, self.blobs, self.runs, repair=repair)

    def close(self) -> None:
        """Give everything back; a temporary store is removed. Closing twice is allowed."""
        if not self._closed:
            self._closed = True
            with self._folder.lock:
                self._folder.leases.discard(self.blobs.lease)
            self._folder.leave()

    # -- inside ------------------------------------------------------------------------------------

    def _known(self, handle: Transaction, name: str) -> tuple[int, int, int] | None:
        """(id, current version, last version) of a model inside a transaction."""
        rows = self.catalog.select(
            handle,
            "SELECT model_id, current_version, last_version FROM {g}.models WHERE name = ?",
            [name],
        )
        return rows[0] if rows else None  # type: ignore[return-value]

    def _numbered(
        self, handle: Transaction, name: str, known: tuple[int, int, int] | None
    ) -> tuple[int, int]:
        """(id, number) of a new version, current from now on; a time that is over is forgotten."""
        if known is None:
            model_id = self.catalog.next_id(handle)
            row = (model_id, name, now(), 1, 1, None, None, None)
            self.catalog.insert(handle, "models", [row])
            return model_id, 1
        model_id, _, last = known
        handle.execute(
            f"UPDATE {self.catalog.schema}.models SET current_version = ?, last_version = ?, "
            "expires = CASE WHEN expires > ? THEN expires END WHERE model_id = ?",
            [last + 1, last + 1, now(), model_id],
        )
        return model_id, last + 1

    def _delete(self, handle: Transaction, model_id: int) -> list[str]:
        """Delete all rows of a model; returns the hashes they named."""
        mine = "SELECT version_id FROM {g}.versions WHERE model_id = ?"
        rows = self.catalog.select(handle, mine, [model_id])
        freed = self.versions.delete(handle, [row[0] for row in rows])
        handle.execute(f"DELETE FROM {self.catalog.schema}.models WHERE model_id = ?", [model_id])
        self.catalog.next_id(handle)  # others see that something changed
        return freed

    def _drop_expired(self) -> None:
        for name in self.versions.expired():
            self.drop(name, if_exists=True)

    def _nothing_to_drop(self, name: str, *, if_exists: bool) -> bool:
        if not if_exists:
            reading.version_row(self.catalog, name, None)
        return False

    def _after_commit(self) -> None:
        """What the catalog names needs no lease; leavings of a crash go with the first commit."""
        with self._folder.lock:
            if self.blobs.lease.hashes:
                self.blobs.lease.hashes -= gc.expanded(self.blobs, gc.named(self.catalog))
        if not self._swept:
            self._swept = True
            self._drop_expired()
            self._sweep()

    def _sweep(self, freed: Sequence[str] = ()) -> None:
        # What was asked for is committed already: blobs that stay are for the next sweep.
        try:
            swept = gc.collect(self.catalog, self.blobs, freed)
            log.debug("%d files of blobs deleted, %d bytes", swept.files, swept.size_bytes)
        except StoreError as error:
            log.warning("blobs that nothing names could not be deleted: %s", error)

    def _users_of(self, blob_hash: str) -> Sequence[str]:
        try:
            rows = self.catalog.rows(
                ["m.name", "v.version", "min(b.trial) AS trial"],
                "FROM {g}.blobs b "
                "JOIN {g}.versions v ON v.version_id = b.version_id "
                "JOIN {g}.models m ON m.model_id = v.model_id WHERE b.hash = ? "
                "GROUP BY m.name, v.version ORDER BY m.name, v.version LIMIT 5",
                [blob_hash],
            )
        except StoreError:
            return []
        return [f"model `{r['name']}@{r['version']}` trial {r['trial']}" for r in rows]


def _exists(name: str) -> BindError:
    return BindError(
        f"model `{name}` exists already",
        hint="CREATE OR REPLACE MODEL makes a new version of it, DROP MODEL deletes it",
    )


def _not_kept(address: str, what: str) -> BindError:
    return BindError(
        f"of model `{address}` no {what} were kept",
        hint="it was imported, or made by an older gradbase: give rows, or train a new version",
    )
