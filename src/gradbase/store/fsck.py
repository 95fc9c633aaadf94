"""``gradbase fsck``: does everything the catalog names exist, and is nothing left over?"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from gradbase.errors import StoreError
from gradbase.store import gc, journal
from gradbase.store.blobs import Blobs
from gradbase.store.catalog import Catalog
from gradbase.store.pieces import Piece
from gradbase.store.reading import parse_program
from gradbase.store.runs import Runs
from gradbase.store.tables import NAMING, OF_VERSION
from gradbase.store.writing import hashes_of

DAMAGED = "fsck found its weights or program damaged or missing"


@dataclass
class Finding:
    """One thing that is not as it should be. `harmless`: a crash leaves such and nobody minds."""

    text: str
    harmless: bool = False
    repaired: bool = False

    def __str__(self) -> str:
        kind = "repaired" if self.repaired else "leftover" if self.harmless else "PROBLEM"
        return f"{kind}: {self.text}"


@dataclass
class Report:
    """What `examine` checked and found."""

    checked: list[str] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether every model can be used as it was committed, or was repaired."""
        return all(f.harmless or f.repaired for f in self.findings)

    @property
    def lines(self) -> list[str]:
        """The report as text, one fact a line."""
        verdict = "everything is in order" if not self.findings else "usable"
        return [*self.checked, *map(str, self.findings), verdict if self.ok else "DAMAGED"]

    def __str__(self) -> str:
        return "\n".join(self.lines)


def examine(catalog: Catalog, blobs: Blobs, runs: Runs, *, repair: bool) -> Report:
    """Verify a store; `repair` takes damaged trials out of use and removes what is left over.

    A missing folder is never repaired: it can still be copied to its place.
    """
    report = Report()
    try:
        there = catalog.ready()
    except StoreError as error:
        report.findings.append(Finding(error.message))
        return report
    if not there:
        report.checked.append("no catalog: no model was ever made here")
        if blobs.pieces.missing:
            return report
    check = _Check(catalog, blobs, runs, report, repair=repair)
    with blobs.folder.lock:
        for finding in check.all(folder_missing=bool(blobs.pieces.missing)):
            report.findings.append(finding)
    return report


class _Check:
    def __init__(
        self, catalog: Catalog, blobs: Blobs, runs: Runs, report: Report, *, repair: bool
    ) -> None:
        self.catalog, self.blobs, self.runs = catalog, blobs, runs
        self.report, self.repair = report, repair

    def all(self, *, folder_missing: bool) -> Iterator[Finding]:
        named = gc.named(self.catalog)
        if folder_missing and named:
            yield Finding(
                f"the folder {self.blobs.folder.root} is missing, and the catalog names "
                f"{len(named)} blobs in it: copy it from where the database came from"
            )
            return
        yield from self._dangling()
        yield from self._pointers()
        damaged = {h: why for h in sorted(named) if (why := self.blobs.damage(h)) is not None}
        self.report.checked.append(f"{len(named)} blobs verified")
        yield from self._trials(damaged)
        yield from self._caches(damaged)
        yield from self._journals()
        if not folder_missing:
            yield from self._nameless()
            yield from self._halves()

    def _dangling(self) -> Iterator[Finding]:
        """Rows whose model or version is not there (nothing of ours makes such)."""
        of_none = "version_id NOT IN (SELECT version_id FROM {g}.versions)"
        orphan: dict[str, str] = dict.fromkeys(OF_VERSION, of_none)
        orphan["versions"] = "model_id NOT IN (SELECT model_id FROM {g}.models)"
        orphan["models"] = "model_id NOT IN (SELECT model_id FROM {g}.versions)"
        # Versions first: what hangs on them is found in the same pass.
        for table in ("versions", *(t for t in orphan if t != "versions")):
            where = orphan[table]
            found = self.catalog.rows(["count(*) AS n"], f"FROM {{g}}.{table} WHERE {where}")
            count = sum(row["n"] for row in found)
            if count:
                text = f"{count} rows of gradbase.{table} belong to no model"
                yield self._mended(text, f"DELETE FROM {{g}}.{table} WHERE {where}")

    def _pointers(self) -> Iterator[Finding]:
        """Models whose name means no version, and aliases of several or of another's version."""
        newest = "(SELECT max(v.version) FROM {g}.versions v WHERE v.model_id = m.model_id)"
        dangling = (
            "NOT EXISTS (SELECT 1 FROM {g}.versions w WHERE w.model_id = m.model_id "
            "AND w.version = m.current_version)"
        )
        for column, wrong in (
            ("current_version", dangling),
            ("last_version", f"coalesce(m.last_version, 0) < {newest}"),
        ):
            where = f"FROM {{g}}.models m WHERE {wrong} ORDER BY m.name"
            for row in self.catalog.rows(["m.name", f"m.{column}"], where):
                text = f"model {row['name']}: {column} is {row[column]}, which cannot be"
                mend = f"UPDATE {{g}}.models AS m SET {column} = {newest} WHERE m.name = ?"
                yield self._mended(text, mend, [row["name"]])
        of_others = (
            "NOT EXISTS (SELECT 1 FROM {g}.versions v WHERE v.version_id = a.version_id "
            "AND v.model_id = a.model_id)"
        )
        twice = (
            "EXISTS (SELECT 1 FROM {g}.aliases b JOIN {g}.versions v "
            "ON v.version_id = b.version_id AND v.model_id = b.model_id "
            "WHERE b.model_id = a.model_id AND b.alias = a.alias AND b.version_id > a.version_id)"
        )
        for row in self.catalog.rows(
            ["a.alias", "a.model_id", "a.version_id"],
            f"FROM {{g}}.aliases a WHERE {of_others} OR {twice} ORDER BY a.alias",
        ):
            text = f"alias {row['alias']} names a version of another model, or several versions"
            mend = "DELETE FROM {g}.aliases WHERE alias = ? AND model_id = ? AND version_id = ?"
            yield self._mended(text, mend, list(row.values()))

    def _trials(self, damaged: dict[str, str]) -> Iterator[Finding]:
        hashes = (
            "(SELECT array_agg(b.hash) FROM {g}.blobs b WHERE b.version_id = t.version_id "
            "AND b.trial = t.trial) AS hashes"
        )
        rows = self.catalog.rows(
            ["m.name", "v.version", "v.version_id", "v.best_trial", "t.trial", "t.program", hashes],
            "FROM {g}.trials t JOIN {g}.versions v ON v.version_id = t.version_id "
            "JOIN {g}.models m ON m.model_id = v.model_id ORDER BY m.name, v.version, t.trial",
        )
        models = {(row["name"], row["version"]) for row in rows}
        self.report.checked.append(f"{len(models)} model versions with {len(rows)} trials read")
        for row in rows:
            why = self._why_unusable(row, damaged)
            if why is None:
                continue
            best = ", the best one" if row["trial"] == row["best_trial"] else ""
            yield self._taken_out(
                f"model {row['name']}@{row['version']}, trial {row['trial']}{best}: {why}",
                row["version_id"],
                row["trial"],
            )
        for name, version in sorted(self._without_best(), key=str):
            yield Finding(f"model {name}@{version} has no row for its best trial")

    def _why_unusable(self, row: dict[str, object], damaged: dict[str, str]) -> str | None:
        if row["program"] is None:
            return None
        try:
            model = parse_program(str(row["program"]), f"{row['name']}@{row['version']}")
        except StoreError as error:
            return error.message
        needed = hashes_of(model)
        unlisted = set(needed) - set(row["hashes"] or [])  # type: ignore[call-overload]
        if unlisted:
            return f"its program names {len(unlisted)} blobs that gradbase.blobs does not"
        for blob in needed:
            if blob in damaged:
                return f"blob {blob}: {damaged[blob]}"
        return None

    def _without_best(self) -> list[tuple[str, int]]:
        rows = self.catalog.rows(
            ["m.name", "v.version"],
            "FROM {g}.versions v JOIN {g}.models m "
            "ON m.model_id = v.model_id LEFT JOIN {g}.trials t ON t.version_id = v.version_id "
            "AND t.trial = v.best_trial WHERE t.trial IS NULL",
        )
        return [(r["name"], r["version"]) for r in rows]

    def _caches(self, damaged: dict[str, str]) -> Iterator[Finding]:
        """Views, tiles and results can be computed again: damaged ones are forgotten."""
        for table in (t for t in NAMING if t != "blobs"):
            for row in self.catalog.rows(["DISTINCT hash AS hash"], f"FROM {{g}}.{table}"):
                if row["hash"] in damaged:
                    text = f"gradbase.{table} names blob {row['hash']}: {damaged[row['hash']]}"
                    delete = f"DELETE FROM {{g}}.{table} WHERE hash = ?"
                    yield self._mended(text, delete, [row["hash"]])

    def _journals(self) -> Iterator[Finding]:
        paths = sorted(self.runs.path.glob(f"*/{journal.FILE}"))
        if paths:
            self.report.checked.append(f"{len(paths)} journals read")
        for path in paths:
            try:
                if journal.is_torn(path):
                    if self.repair:
                        journal.mend(path)
                    text = f"the last line of the journal {path} is torn"
                    yield Finding(text, harmless=True, repaired=self.repair)
            except StoreError as error:
                yield Finding(error.message)
        for run_id in self.runs.interrupted():
            if self.repair:
                self.runs.mark_interrupted()
            text = f"run {run_id} was interrupted"
            yield Finding(text, harmless=True, repaired=self.repair)

    def _nameless(self) -> Iterator[Finding]:
        pieces = list(gc.nameless(self.catalog, self.blobs))
        if pieces:
            size = sum(p.size_bytes for p in pieces)
            text = f"{len(pieces)} files of blobs ({size:,} bytes) that nothing names"
            yield self._deleted(text, pieces, self.blobs.pieces.delete)

    def _halves(self) -> Iterator[Finding]:
        halves = self.blobs.pieces.halves()
        if halves:
            text = f"{len(halves)} half-written files"
            yield self._deleted(text, halves, self.blobs.pieces.delete_halves)

    def _deleted(
        self, text: str, pieces: list[Piece], delete: Callable[[Iterable[str]], None]
    ) -> Finding:
        if not self.repair:
            return Finding(text, harmless=True)
        with self.blobs.pieces.alone() as alone:
            if alone:
                delete(p.name for p in pieces)
            return Finding(text, harmless=True, repaired=alone)

    def _mended(self, text: str, sql: str, params: list[object] | None = None) -> Finding:
        if self.repair:
            with self.catalog.write() as handle:
                handle.execute(sql.format(g=self.catalog.schema), params or [])
        return Finding(text, repaired=self.repair)

    def _taken_out(self, text: str, version_id: int, trial: int) -> Finding:
        """A trial that cannot be used is marked so; its damaged files go with the nameless."""
        if self.repair:
            g, of = self.catalog.schema, [version_id, trial]
            with self.catalog.write() as handle:
                handle.execute(
                    f"UPDATE {g}.trials SET status = 'FAILED', program = NULL, error = ? "
                    "WHERE version_id = ? AND trial = ?",
                    [DAMAGED, *of],
                )
                handle.execute(f"DELETE FROM {g}.blobs WHERE version_id = ? AND trial = ?", of)
        return Finding(text, repaired=self.repair)
