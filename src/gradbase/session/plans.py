"""Plans kept for statements that come again, each used only while what it rests on still holds."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Hashable, Mapping
from typing import Generic, TypeVar

from gradbase.engines.base import Engine
from gradbase.errors import GradbaseError
from gradbase.ir.facts import Dialect, Promises, TableStatistics
from gradbase.ir.types import Schema, SqlType

T = TypeVar("T")

KEPT = 256
"""Plans that a session keeps."""
CHANGED = 2.0
"""A table that grew or shrank by this factor is planned anew."""
TRUSTED_S = 60.0
"""Estimates of rows are asked for again after so long, and after a statement that writes."""


class Kept(Generic[T]):
    """The `KEPT` values used last, by key. Thread-safe."""

    def __init__(self) -> None:
        self._values: OrderedDict[Hashable, T] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable) -> T | None:
        with self._lock:
            found = self._values.get(key)
            if found is not None:
                self._values.move_to_end(key)
            return found

    def put(self, key: Hashable, value: T) -> None:
        with self._lock:
            self._values[key] = value
            self._values.move_to_end(key)
            if len(self._values) > KEPT:
                self._values.popitem(last=False)


class AskedTypes:
    """The engine's answers about names and types (`ir.facts.Relations`), remembered as asked.

    Parameters of a question are remembered by name: the answer is compared for other values too.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._answers: dict[tuple[str, tuple[str, ...]], object] = {}

    @property
    def dialect(self) -> Dialect:
        """The engine's language."""
        return self._engine.dialect

    def types(
        self, sql: str, parameters: Mapping[str, object] | None = None
    ) -> list[tuple[str, SqlType]]:
        question = (sql, tuple(parameters or ()))
        try:
            answer = self._engine.types(sql, parameters)
        except GradbaseError:
            self._answers[question] = None
            raise
        self._answers[question] = answer
        return answer

    def schema(self, sql: str, parameters: Mapping[str, object] | None = None) -> Schema:
        self.types(sql, parameters)
        return self._engine.schema(sql, parameters)

    def hold(self, parameters: Mapping[str, object]) -> bool:
        """Whether the engine would answer the same now, with these values."""
        for (sql, names), before in self._answers.items():
            try:
                now = self._engine.types(sql, {n: parameters[n] for n in names} or None)
            except GradbaseError:
                now = None
            if now != before:
                return False
        return True


class AskedRows:
    """The engine's estimates and promises (`ir.facts.Statistics`), remembered as asked.

    Estimates may be a little old, promises may not: a plan that rests on one is used only while it
    is still given, whoever has written since.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._tables: dict[str, TableStatistics | None] = {}
        self._queries: dict[str, int | None] = {}
        self._promises: dict[tuple[str, tuple[str, ...]], Promises | None] = {}
        self._trust()

    def table(self, table: str) -> TableStatistics | None:
        if table not in self._tables:
            self._tables[table] = self._engine.statistics.table(table)
        return self._tables[table]

    def query_rows(self, sql: str) -> int | None:
        if sql not in self._queries:
            self._queries[sql] = self._engine.statistics.query_rows(sql)
        return self._queries[sql]

    def promises(self, table: str, columns: tuple[str, ...] = ()) -> Promises | None:
        question = (table, columns)
        if question not in self._promises:
            self._promises[question] = self._engine.statistics.promises(table, columns)
        return self._promises[question]

    def hold(self) -> bool:
        """Whether promises are given as they were, and tables are about as large.

        Sizes are asked for only where they may have changed.
        """
        given = self._engine.statistics.promises
        if any(given(*question) != found for question, found in self._promises.items()):
            return False
        if self._writes == self._engine.writes and time.monotonic() < self._until:
            return True
        self._trust()
        statistics = self._engine.statistics
        tables = ((statistics.table(t), found) for t, found in self._tables.items())
        return all(_alike(_rows(now), _rows(found)) for now, found in tables) and all(
            _alike(statistics.query_rows(q), rows) for q, rows in self._queries.items()
        )

    def _trust(self) -> None:
        self._writes, self._until = self._engine.writes, time.monotonic() + TRUSTED_S


def _rows(of: TableStatistics | None) -> int | None:
    return None if of is None else of.rows


def _alike(now: int | None, before: int | None) -> bool:
    if now is None or before is None:
        return now is before
    return now < CHANGED * (before + 1) and before < CHANGED * (now + 1)
