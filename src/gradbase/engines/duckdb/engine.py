"""The engine over DuckDB."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import duckdb
import pyarrow as pa

from gradbase.engines.base import Function, Moments, Parameters, View
from gradbase.engines.duckdb import moments
from gradbase.engines.duckdb.compiler import OPERATORS, compile_relation
from gradbase.engines.duckdb.connections import Connections
from gradbase.engines.duckdb.errors import translated
from gradbase.engines.duckdb.results import DuckDBResult
from gradbase.engines.duckdb.statistics import DuckDBStatistics
from gradbase.engines.duckdb.streaming import BATCH_ROWS, drained, furnished, reading
from gradbase.engines.duckdb.types import from_duckdb
from gradbase.errors import BindError, near
from gradbase.ir.facts import Capabilities
from gradbase.ir.node import Node
from gradbase.ir.relational import Relation
from gradbase.ir.types import Field, Schema, SqlType

CAPABILITIES = Capabilities(
    engine="duckdb",
    operators=OPERATORS,
    representations=("dl", "udf"),
    functions=True,
)


class DuckDBEngine:
    """A DuckDB file, or a database in memory. Safe to use from several threads.

    Statements that read committed tables run side by side, each on a connection of its own. Those
    that touch temporary tables, or come inside the user's own transaction, take turns on the
    session's main connection, and their rows are materialised. A variable of the calling Python
    code is never taken for a table: use `register`.

    Parameters
    ----------
    path : Path or None
        The file, made if missing; None: in memory.
    read_only : bool
    """

    name = "duckdb"

    def __init__(self, path: Path | None = None, *, read_only: bool = False) -> None:
        self.path = path.absolute() if path else None
        self.read_only = read_only
        self._connections = Connections(self.path, read_only=read_only)
        self._texts: WeakKeyDictionary[Relation, str] = WeakKeyDictionary()

    @property
    def capabilities(self) -> Capabilities:
        """What DuckDB can run."""
        return CAPABILITIES

    @functools.cached_property
    def statistics(self) -> DuckDBStatistics:
        """What DuckDB knows about its tables."""
        return DuckDBStatistics(self)

    @property
    def writes(self) -> int:
        """Statements, and frames registered, that may have changed rows."""
        return self._connections.writes

    # -- looking at statements ---------------------------------------------------------------------

    def types(self, sql: str, parameters: Parameters = None) -> list[tuple[str, SqlType]]:
        """Column names (not necessarily distinct) and types of a query; nothing is executed.

        Parameters without a value count as NULL.
        """
        values = self._values(sql, parameters, missing_is_null=True)
        with self._connection(sql, parameters) as connection, translated():
            if "nextval" in sql.casefold():  # binding it would take a number
                described = connection.sql(f"DESCRIBE {sql}", params=values).fetchall()
                return [(row[0], from_duckdb(connection.sqltype(row[1]))) for row in described]
            found = connection.sql(sql, params=values)
            return _types(found)

    def schema(self, sql: str, parameters: Parameters = None) -> Schema:
        """Schema of a query; BindError where two columns share a name."""
        return Schema(tuple(Field(n, t) for n, t in self.types(sql, parameters)))

    def parameter_names(self, sql: str) -> set[str]:
        """Names of the parameters in a statement (numbers for ``?`` and ``$1``)."""
        return {n for s in self._connections.statements(sql) for n in s.named_parameters}

    def compile(
        self,
        relation: Relation,
        names: Mapping[Relation, str] | None = None,
        functions: Mapping[Node, str] | None = None,
    ) -> str:
        """SQL of a relation, see `compile_relation`."""
        if names or functions:
            return compile_relation(relation, names or {}, functions or {})
        text = self._texts.get(relation)
        if text is None:
            text = self._texts[relation] = compile_relation(relation, {}, {})
        return text

    # -- running -----------------------------------------------------------------------------------

    def run(
        self,
        sql: str,
        parameters: Parameters = None,
        *,
        views: Mapping[str, View] | None = None,
    ) -> DuckDBResult:
        """A statement of DuckDB's own: a query runs when its rows are asked for, the rest now.

        With `views` (see `stream`) it runs now, whatever it is.
        """
        kinds = self._kinds(sql)
        if kinds == ["SELECT"] and not views:
            types = self.types(sql, parameters)
            return DuckDBResult(types, lambda rows: self.stream(sql, parameters, batch_rows=rows))
        connections = self._connections
        if views and connections.has_local_state():
            views = drained(views)
        with (
            connections.main_lock,
            furnished(connections.main, views or {}, ()) as failures,
            failures.translated(),
        ):
            try:
                # None where the text is a comment only.
                found: Any = connections.main.sql(sql, params=_bound(parameters))
                types = _types(found) if found else []
                table = found.to_arrow_table() if found else pa.table({})
            finally:  # a script may have got half-way
                connections.ran(kinds, sql)
        return DuckDBResult(types, lambda _: contextlib.nullcontext(table.to_reader()), table)

    def fetch(
        self,
        sql: str,
        parameters: Parameters = None,
        *,
        views: Mapping[str, View] | None = None,
        functions: Sequence[Function] = (),
    ) -> pa.Table:
        """All rows of a query."""
        values = self._values(sql, parameters)
        if views and self._connections.needs_main(sql, parameters):
            views = drained(views)
        with (
            self._connection(sql, parameters) as connection,
            furnished(connection, views or {}, functions) as failures,
            failures.translated(),
        ):
            return connection.sql(sql, params=values).to_arrow_table()

    @contextlib.contextmanager
    def stream(
        self,
        sql: str,
        parameters: Parameters = None,
        *,
        batch_rows: int = 0,
        views: Mapping[str, View] | None = None,
        functions: Sequence[Function] = (),
    ) -> Generator[pa.RecordBatchReader]:
        """Rows of a query as they come.

        Parameters
        ----------
        sql : str
        parameters : mapping or sequence, optional
        batch_rows : int
            Rows per batch at most; 0: 8,192.
        views : mapping of str to Table, RecordBatchReader or RowStream
            Visible to this statement only. All but tables are read as the statement consumes them,
            once, and closed at its end.
        functions : sequence of Function
            Callable by this statement only.
        """
        batch_rows = batch_rows or BATCH_ROWS
        views = views or {}
        if self._connections.needs_main(sql, parameters):
            table = self.fetch(sql, parameters, views=views, functions=functions)
            yield table.to_reader(batch_rows)
            return
        values = self._values(sql, parameters)
        with (
            self._connections.cursor(sql) as cursor,
            furnished(cursor, views, functions) as failures,
        ):
            with failures.translated():
                reader = cursor.sql(sql, params=values).to_arrow_reader(batch_rows)
            with reading(cursor, reader, failures) as checked:
                yield checked

    @contextlib.contextmanager
    def transaction(self) -> Generator[DuckDBTransaction]:
        """A transaction of its own, committed at the end of the block, rolled back by an error."""
        with self._connections.cursor() as cursor:
            with translated():
                cursor.begin()
            try:
                yield DuckDBTransaction(cursor)
            except BaseException:
                # A statement that failed may have ended the transaction already.
                with contextlib.suppress(duckdb.Error):
                    cursor.rollback()
                raise
            with translated():
                cursor.commit()

    # -- order-free statistics ---------------------------------------------------------------------

    def exact_moments(
        self,
        sql: str,
        columns: Sequence[str],
        parameters: Parameters = None,
        *,
        views: Mapping[str, pa.Table] | None = None,
    ) -> dict[str, Moments]:
        """Order-free statistics of columns of a query, see `moments.exact_moments`."""
        with self._snapshot(sql, parameters, views) as (ask, schema):
            return moments.exact_moments(ask, sql, schema, columns)

    def vocabulary(
        self,
        sql: str,
        columns: Sequence[str],
        limit: int,
        parameters: Parameters = None,
        *,
        views: Mapping[str, pa.Table] | None = None,
    ) -> dict[str, list[tuple[str, int]]]:
        """Most frequent values as text with their counts; ties in order of their UTF-8 bytes."""
        with self._snapshot(sql, parameters, views) as (ask, schema):
            schema.select(tuple(columns))
            return moments.vocabulary(ask, sql, columns, limit)

    def distinct_counts(
        self,
        sql: str,
        columns: Sequence[str],
        parameters: Parameters = None,
        *,
        views: Mapping[str, pa.Table] | None = None,
    ) -> dict[str, int]:
        """Distinct values (NULL not counted) of columns of a query, exactly."""
        with self._snapshot(sql, parameters, views) as (ask, schema):
            return moments.distinct_counts(ask, sql, schema, columns)

    # -- the session's own -------------------------------------------------------------------------

    def register(self, name: str, rows: Any) -> None:
        """Make an Arrow table, pandas or Polars DataFrame a view of this session."""
        self._connections.register(name, rows)

    def unregister(self, name: str) -> None:
        """Forget such a view."""
        self._connections.unregister(name)

    def limit(self, *, threads: int = 0, memory_bytes: int = 0) -> None:
        """What DuckDB itself may use; 0 leaves it as it is."""
        with self._connections.cursor() as cursor, translated():
            if threads:
                cursor.execute(f"SET GLOBAL threads = {threads:d}")
            if memory_bytes:
                cursor.execute(f"SET GLOBAL memory_limit = '{memory_bytes:d}B'")

    def interrupt(self) -> None:
        """Stop everything that runs, from any thread; it ends with CancelledError."""
        self._connections.interrupt()

    def close(self) -> None:
        """Stop everything and give the file back; twice is allowed."""
        self._connections.close()

    # -- inside ------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _connection(self, sql: str, parameters: Parameters) -> Generator[duckdb.DuckDBPyConnection]:
        """The connection that sees what the statement reads; the main one is locked."""
        if self._connections.needs_main(sql, parameters):
            with self._connections.main_lock:
                yield self._connections.main
        else:
            with self._connections.cursor(sql) as cursor:
                yield cursor

    @contextlib.contextmanager
    def _snapshot(
        self, sql: str, parameters: Parameters, views: Mapping[str, pa.Table] | None
    ) -> Generator[tuple[moments.Ask, Schema]]:
        """Run several queries over `sql` that all see the same rows."""
        values = self._values(sql, parameters)
        with (
            self._connection(sql, parameters) as connection,
            furnished(connection, views or {}, ()) as failures,
            failures.translated(),
        ):
            # The main connection is locked, or in the user's transaction.
            own = connection is not self._connections.main
            if own:
                connection.begin()
            try:
                found = _types(connection.sql(sql, params=values))
                yield (
                    lambda query: connection.sql(query, params=values).fetchall(),
                    Schema(tuple(Field(n, t) for n, t in found)),
                )
            finally:
                if own:
                    with contextlib.suppress(duckdb.Error):
                        connection.rollback()

    def _kinds(self, sql: str) -> list[str]:
        try:
            return [s.type.name for s in self._connections.statements(sql)]
        except ValueError:  # a kind that the Python client has no name for
            return ["OTHER"]

    def _values(
        self, sql: str, parameters: Parameters, *, missing_is_null: bool = False
    ) -> dict[str, Any] | list[Any] | None:
        """Values of the parameters that occur in `sql`, and of no others."""
        if not isinstance(parameters, Mapping) and parameters is not None:
            return list(parameters) or None
        names = self.parameter_names(sql) if "$" in sql or "?" in sql else set[str]()
        given = parameters or {}
        missing = sorted(names - given.keys())
        if missing and not missing_is_null:
            raise BindError(
                f"parameter ${missing[0]} has no value; given are "
                f"{', '.join('$' + n for n in sorted(given)) or 'none'}",
                hint=near(missing[0], given),
            )
        return {name: given.get(name) for name in sorted(names)} or None


class DuckDBTransaction:
    """Statements that happen together or not at all."""

    def __init__(self, cursor: duckdb.DuckDBPyConnection) -> None:
        self._cursor = cursor
        self._rows: list[tuple[Any, ...]] = []

    def execute(
        self,
        sql: str,
        parameters: Parameters = None,
        *,
        views: Mapping[str, pa.Table] | None = None,
    ) -> DuckDBTransaction:
        """Run a statement, which may read `views`; its rows wait for `fetchall`."""
        with furnished(self._cursor, views or {}, ()), translated():
            self._cursor.execute(sql, _bound(parameters))
            self._rows = self._cursor.fetchall()
        return self

    def fetchall(self) -> list[tuple[Any, ...]]:
        """Rows of the last statement, once."""
        rows, self._rows = self._rows, []
        return rows


def _bound(parameters: Parameters) -> dict[str, Any] | list[Any] | None:
    if isinstance(parameters, Mapping):
        return dict(parameters) or None
    return list(parameters) or None if parameters is not None else None


def _types(found: duckdb.DuckDBPyRelation) -> list[tuple[str, SqlType]]:
    kinds = (from_duckdb(t) for t in found.types)
    return list(zip(found.columns, kinds, strict=True))
