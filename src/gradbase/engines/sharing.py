"""What engines do alike; an engine inherits it and says the rest."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TypeAlias

import pyarrow as pa

from gradbase.engines import moments
from gradbase.engines.base import Moments, Parameters
from gradbase.engines.moments import DUCKDB, Ask, Spelling
from gradbase.ir.types import Field, Schema, SqlType

Rows: TypeAlias = Mapping[str, pa.Table] | None
"""Rows that a query sees as views."""


class EngineBase(ABC):
    """Schemas from types, statistics from queries over rows that stand still."""

    spelling: Spelling = DUCKDB
    """How it writes what exact sums need."""

    @abstractmethod
    def types(self, sql: str, parameters: Parameters = None) -> list[tuple[str, SqlType]]:
        """Column names (not necessarily distinct) and types of a query; nothing is executed."""

    @abstractmethod
    def snapshot(
        self, sql: str, parameters: Parameters, views: Rows
    ) -> AbstractContextManager[tuple[Ask, str, Schema]]:
        """What asks queries over `sql` that all see the same rows; its text in them, its schema."""

    def schema(self, sql: str, parameters: Parameters = None) -> Schema:
        """Schema of a query; BindError where two columns share a name."""
        return Schema(tuple(Field(n, t) for n, t in self.types(sql, parameters)))

    def exact_moments(
        self, sql: str, columns: Sequence[str], parameters: Parameters = None, *, views: Rows = None
    ) -> dict[str, Moments]:
        """Order-free statistics of columns of a query, see `moments.exact_moments`."""
        with self.snapshot(sql, parameters, views) as (ask, text, schema):
            return moments.exact_moments(ask, text, schema, columns, self.spelling)

    def vocabulary(
        self,
        sql: str,
        columns: Sequence[str],
        limit: int,
        parameters: Parameters = None,
        *,
        views: Rows = None,
    ) -> dict[str, list[tuple[str, int]]]:
        """Most frequent values as text with their counts; ties in order of their UTF-8 bytes."""
        with self.snapshot(sql, parameters, views) as (ask, text, schema):
            schema.select(tuple(columns))
            return moments.vocabulary(ask, text, columns, limit, self.spelling)

    def distinct_counts(
        self, sql: str, columns: Sequence[str], parameters: Parameters = None, *, views: Rows = None
    ) -> dict[str, int]:
        """Distinct values (NULL not counted) of columns of a query, exactly."""
        with self.snapshot(sql, parameters, views) as (ask, text, schema):
            return moments.distinct_counts(ask, text, schema, columns, self.spelling)

    def limit(self, *, threads: int = 0, memory_bytes: int = 0) -> None:  # noqa: B027
        """Nothing: a server's threads and memory are its own affair."""
