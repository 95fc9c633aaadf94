"""The catalog of a store that belongs to no database: tables in memory that follow manifests."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from gradbase.engines.base import Function, Parameters, View, quote_identifier
from gradbase.engines.duckdb.engine import DuckDBEngine
from gradbase.engines.duckdb.transactions import DuckDBTransaction
from gradbase.engines.objects import Objects, scheme_of
from gradbase.engines.spark.manifests import (
    FOLDER,
    FolderManifests,
    Manifests,
    ObjectManifests,
    local_folder,
    packed,
    unpacked,
)
from gradbase.errors import StoreError
from gradbase.ir.facts import Capabilities

SCHEMA = "gradbase"


class ManifestEngine(DuckDBEngine):
    """An embedded database that mirrors the newest manifest; each change puts the next one.

    Parameters
    ----------
    store : str or Path
        Folder of the store, or its URL.
    read_only : bool
    """

    def __init__(self, store: str | Path, *, read_only: bool = False) -> None:
        self._root: Path | None = None
        self._url = str(store) if scheme_of(store) else ""
        if self._url:
            manifests: Manifests = ObjectManifests(Objects(self._url))
        else:
            self._root = local_folder(store)
            manifests = FolderManifests(self._root / FOLDER)
        super().__init__(None)
        self.read_only, self._manifests = read_only, manifests
        self._number = 0
        self._turn = threading.RLock()

    @property
    def folder(self) -> Path | None:
        """The store, where it is one; files of a store at a URL are temporary."""
        return self._root

    @property
    def capabilities(self) -> Capabilities:
        """Other processes may change the catalog at any time; weights are files or objects."""
        return dataclasses.replace(
            super().capabilities, shared=True, embedded=False, objects=self._url
        )

    @property
    def number(self) -> int:
        """The manifest that is mirrored."""
        return self._number

    @contextlib.contextmanager
    def transaction(self, *, writes: bool = False) -> Generator[DuckDBTransaction]:
        """A transaction over the newest manifest; one that `writes` puts the next.

        Raises
        ------
        StoreError
            Another session changed the catalog at the same time.
        """
        with self._turn:
            self.follow()
            with super().transaction() as handle:
                yield handle
                if writes:
                    self._put(handle)
            if writes:
                self._number += 1

    def fetch(
        self,
        sql: str,
        parameters: Parameters = None,
        *,
        views: Mapping[str, View] | None = None,
        functions: Sequence[Function] = (),
        running: Any = None,
    ) -> pa.Table:
        """All rows of a query over the newest manifest."""
        with self._turn:
            self.follow()
            return super().fetch(sql, parameters, views=views, functions=functions, running=running)

    def follow(self) -> None:
        """Mirror the newest manifest, if it is not mirrored yet."""
        with self._turn:
            # One without a successor is the newest, unless both were swept.
            has, number = self._manifests.has, self._number
            if number and has(number) and not has(number + 1):
                return
            while True:
                numbers = self._manifests.numbers()
                newest = numbers[-1] if numbers else 0
                if newest <= self._number:
                    return
                try:
                    content = self._manifests.read(newest)
                except FileNotFoundError:  # swept meanwhile: there are newer ones
                    continue
                self._load(unpacked(content, f"manifest {newest} in {self._manifests.where}"))
                self._number = newest
                return

    def _load(self, tables: Mapping[str, pa.Table]) -> None:
        with super().transaction() as handle:
            handle.execute(f"DROP SCHEMA IF EXISTS {SCHEMA} CASCADE")
            handle.execute(f"CREATE SCHEMA {SCHEMA}")
            for name, rows in tables.items():
                handle.create(f"{SCHEMA}.{quote_identifier(name)}", rows)

    def _put(self, handle: DuckDBTransaction) -> None:
        names = handle.execute(
            "SELECT table_name FROM information_schema.tables WHERE table_schema = ? "
            "ORDER BY table_name",
            [SCHEMA],
        ).fetchall()
        tables = {n: handle.table(f"{SCHEMA}.{quote_identifier(n)}") for (n,) in names}
        number = self._number + 1
        if not self._manifests.put(number, packed(tables)):
            raise StoreError(
                "another session changed the catalog at the same time",
                hint="run the statement again",
            )
        self._manifests.sweep()
