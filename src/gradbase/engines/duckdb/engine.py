"""The engine over DuckDB."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self
from weakref import WeakKeyDictionary

import duckdb
import pyarrow as pa

from gradbase.engines.base import SUFFIX, Function, Parameters, View
from gradbase.engines.compiler import OPERATORS
from gradbase.engines.duckdb.compiler import DuckDBDialect, compile_relation
from gradbase.engines.duckdb.connections import Connections
from gradbase.engines.duckdb.errors import translated
from gradbase.engines.duckdb.queries import (
    Described,
    Parsed,
    bind,
    changed,
    everything,
    given,
    plain_rows,
    reader,
    table,
    types_of,
)
from gradbase.engines.duckdb.results import DuckDBQuery
from gradbase.engines.duckdb.statistics import DuckDBStatistics
from gradbase.engines.duckdb.streaming import furnished, reading
from gradbase.engines.duckdb.transactions import DuckDBTransaction
from gradbase.engines.duckdb.using import Running, Using, told
from gradbase.engines.moments import Ask
from gradbase.engines.results import BATCH_ROWS, NativeCount, NativeRows
from gradbase.engines.rows import Row
from gradbase.engines.sharing import EngineBase, Rows
from gradbase.engines.views import drained
from gradbase.errors import BindError, near
from gradbase.ir.facts import Capabilities
from gradbase.ir.node import Node
from gradbase.ir.relational import Relation
from gradbase.ir.types import Field, Schema, SqlType

CAPABILITIES = Capabilities(
    engine="duckdb",
    operators=OPERATORS,
    representations=("dl", "udf", "sql"),
    functions=True,
    unsupported={
        "targeted": "while one process writes a DuckDB file no other can open it",
    },
)


class DuckDBEngine(EngineBase):
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
    dialect = DuckDBDialect()

    def __init__(self, path: Path | None = None, *, read_only: bool = False) -> None:
        self.path = path.absolute() if path else None
        self.read_only = read_only
        self._connections = Connections(self.path, read_only=read_only)
        self._statistics = DuckDBStatistics(self)
        self._texts: WeakKeyDictionary[Relation, str] = WeakKeyDictionary()

    @property
    def folder(self) -> Path | None:
        """The folder beside the file."""
        path = self.path and self.path.resolve()
        return path and path.with_name(path.name + SUFFIX)

    @property
    def catalog(self) -> Self:
        """DuckDB holds it itself."""
        return self

    @property
    def capabilities(self) -> Capabilities:
        """What DuckDB can run."""
        return CAPABILITIES

    @property
    def statistics(self) -> DuckDBStatistics:
        """What DuckDB knows about its tables."""
        return self._statistics

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
        parsed = self._connections.parse(sql)
        with Using(self._connections, sql, parameters) as connection:
            if not parsed.is_query:  # PIVOT, say
                found = connection.sql(sql, params=values)
                return types_of(found.columns, found.types)
            bound = bind(connection, parsed, sql, values)
        parsed.remember(bound)
        return types_of(bound.names, bound.types)

    def has_table(self, database: str, schema: str, table: str) -> bool:
        """Whether there is such a table as committed now."""
        query = (
            "SELECT 1 FROM information_schema.tables "
            "WHERE table_catalog = ? AND table_schema = ? AND table_name = ?"
        )
        with self.transaction() as handle:
            return bool(handle.execute(query, [database, schema, table]).fetchall())

    def parameter_names(self, sql: str) -> set[str]:
        """Names of the parameters in a statement (numbers for ``?`` and ``$1``)."""
        return set(self._connections.parse(sql).parameters)

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
    ) -> NativeRows:
        """A statement of DuckDB's own: a query runs when its rows are asked for, the rest now.

        With `views` (see `stream`) it runs now, whatever it is.
        """
        parsed = self._connections.parse(sql)
        if parsed.is_query and not views:
            if parsed.waits is None:
                self.types(sql, parameters)  # so that what is wrong with it is said now
            if parsed.waits:
                return DuckDBQuery(self, sql, parameters, parsed)
        if views and self._connections.has_local_state():
            views = drained(views)
        with self._connections.main_lock:
            try:
                if not views:
                    with translated():
                        return self._run_now(parsed, sql, parameters)
                with (
                    furnished(self._connections.main, views, ()) as failures,
                    failures.translated(),
                ):
                    return self._run_now(parsed, sql, parameters)
            finally:  # a script may have got half-way
                self._connections.ran(parsed.kinds, sql)

    def _run_now(self, parsed: Parsed, sql: str, parameters: Parameters) -> NativeRows:
        main, values = self._connections.main, given(parameters)
        if parsed.counts:
            return NativeCount(changed(main, parsed, sql, values))
        return NativeRows(*everything(main, sql, values))

    def fetch(
        self,
        sql: str,
        parameters: Parameters = None,
        *,
        views: Mapping[str, View] | None = None,
        functions: Sequence[Function] = (),
        running: Running | None = None,
    ) -> pa.Table:
        """All rows of a query; `running` is told where it runs."""
        values = self._values(sql, parameters)
        if views and self._connections.needs_main(sql, parameters):
            views = drained(views)
        with Using(self._connections, sql, parameters, running) as connection:
            if not views and not functions:
                return table(connection, sql, values)
            with (
                furnished(connection, views or {}, functions) as failures,
                failures.translated(),
            ):
                return table(connection, sql, values)

    def rows(
        self, sql: str, parameters: Parameters, parsed: Parsed, running: Running
    ) -> tuple[list[Row], Described]:
        """All rows of a query as DuckDB's tuples, see `plain_rows`."""
        values = self._values(sql, parameters)
        with Using(self._connections, sql, parameters, running) as connection:
            return plain_rows(connection, parsed, sql, values)

    @contextlib.contextmanager
    def stream(
        self,
        sql: str,
        parameters: Parameters = None,
        *,
        batch_rows: int = 0,
        views: Mapping[str, View] | None = None,
        functions: Sequence[Function] = (),
        running: Running | None = None,
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
        running : Running, optional
            Is told where the statement runs.
        """
        batch_rows = batch_rows or BATCH_ROWS
        views = views or {}
        if self._connections.needs_main(sql, parameters):
            rows = self.fetch(sql, parameters, views=views, functions=functions, running=running)
            yield rows.to_reader(batch_rows)
            return
        values = self._values(sql, parameters)
        with (
            self._connections.cursor(sql) as cursor,
            told(running, cursor),
            furnished(cursor, views, functions) as failures,
        ):
            with failures.translated():
                rows = reader(cursor, sql, values, batch_rows)
            with reading(cursor, rows, failures) as checked:
                yield checked

    @contextlib.contextmanager
    def transaction(self, *, writes: bool = False) -> Generator[DuckDBTransaction]:
        """See the protocol; only this process can write, and the store has a lock for `writes`."""
        if writes:
            self._connections.check_file()
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
    def snapshot(
        self, sql: str, parameters: Parameters, views: Rows
    ) -> Generator[tuple[Ask, str, Schema]]:
        """Run several queries over `sql` that all see the same rows."""
        values = self._values(sql, parameters)
        with (
            Using(self._connections, sql, parameters) as connection,
            furnished(connection, views or {}, ()) as failures,
            failures.translated(),
        ):
            # The main connection is locked, or in the user's transaction.
            own = connection is not self._connections.main
            if own:
                connection.begin()
            try:
                bound = bind(connection, self._connections.parse(sql), sql, values)
                found = types_of(bound.names, bound.types)
                yield (
                    lambda query: connection.sql(query, params=values).fetchall(),
                    sql,
                    Schema(tuple(Field(n, t) for n, t in found)),
                )
            finally:
                if own:
                    with contextlib.suppress(duckdb.Error):
                        connection.rollback()

    def _values(
        self, sql: str, parameters: Parameters, *, missing_is_null: bool = False
    ) -> dict[str, Any] | list[Any] | None:
        """Values of the parameters that occur in `sql`, and of no others."""
        if parameters is not None and not isinstance(parameters, Mapping):
            return list(parameters) or None
        if "$" not in sql and "?" not in sql:
            return None
        names = self.parameter_names(sql)
        given = parameters or {}
        missing = sorted(names - given.keys())
        if missing and not missing_is_null:
            raise BindError(
                f"parameter ${missing[0]} has no value; given are "
                f"{', '.join('$' + n for n in sorted(given)) or 'none'}",
                hint=near(missing[0], given),
            )
        return {name: given.get(name) for name in sorted(names)} or None
