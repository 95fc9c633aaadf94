"""The engine over PostgreSQL."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import os
from collections.abc import Generator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Self

import pyarrow as pa
from blake3 import blake3
from psycopg import pq

from gradbase.engines.base import (
    Function,
    NativeResult,
    Parameters,
    SideTable,
    View,
)
from gradbase.engines.compiler import OPERATORS
from gradbase.engines.moments import Ask
from gradbase.engines.postgres import side_tables
from gradbase.engines.postgres.compiler import (
    DIALECT,
    UNSUPPORTED,
    PostgresSpelling,
    compile_relation,
    refuse_functions,
)
from gradbase.engines.postgres.connections import Connection, Connections
from gradbase.engines.postgres.languages import why_no_functions
from gradbase.engines.postgres.parameters import written
from gradbase.engines.postgres.reading import Running, describe, streamed, table_of
from gradbase.engines.postgres.results import PostgresQuery, run_now
from gradbase.engines.postgres.statements import check_runnable, only_reads
from gradbase.engines.postgres.statistics import PostgresStatistics
from gradbase.engines.postgres.transactions import PostgresTransaction, execute
from gradbase.engines.postgres.types import Catalogue, Described, PostgresDialect
from gradbase.engines.postgres.views import drop_table, furnished, keep_rows
from gradbase.engines.results import BATCH_ROWS
from gradbase.engines.rows import Row
from gradbase.engines.sharing import EngineBase, Rows
from gradbase.engines.views import drained
from gradbase.errors import GradbaseError, StoreError
from gradbase.ir.facts import Capabilities
from gradbase.ir.node import Node
from gradbase.ir.relational import Relation
from gradbase.ir.types import Field, Schema, SqlType

CAPABILITIES = Capabilities(
    engine="postgresql",
    operators=OPERATORS,
    representations=("dl",),
    functions=False,
    unsupported={**UNSUPPORTED, "udf": "the server predicts nothing"},
    embedded=False,
    shared=True,
    holds_blobs=True,
    side_tables=True,
)
_LOCK = 0x6772_6164_6261_7365
"""Key of the advisory lock that writers of the catalog hold: the letters of our name."""


class PostgresEngine(EngineBase):
    """A database of a PostgreSQL server. Safe to use from several threads.

    Statements run side by side, each on a connection of its own with the session's settings. Those
    that touch temporary tables, or come inside the user's own transaction, take turns on the
    session's main connection. Rows come by binary COPY and go by COPY into temporary tables.

    Parameters
    ----------
    url : str
        As libpq takes it: ``postgresql://user@host/database``.
    read_only : bool
    """

    name = "postgresql"
    spelling = PostgresSpelling()

    def __init__(self, url: str, *, read_only: bool = False) -> None:
        self.read_only = read_only
        self._connections = Connections(url, read_only=read_only)
        self.state = side_tables.snapshot_of(url)  # empty: what is committed
        self._types = Catalogue()
        self._statistics = PostgresStatistics(self)
        self._folder: Path | None = None
        self._capabilities: Capabilities | None = None

    @property
    def dialect(self) -> PostgresDialect:
        """PostgreSQL's language."""
        return DIALECT

    @property
    def folder(self) -> Path:
        """Where this machine keeps journals and training states of the database."""
        if self._folder is None:
            query = (
                "SELECT system_identifier::text || '/' || d.oid FROM pg_control_system(), "
                "pg_database d WHERE d.datname = current_database()"
            )
            try:
                ((identity,),) = self.rows(query, None, None)
            except GradbaseError:  # a role may not ask for the first
                identity = self._connections.url
            home = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
            called = blake3(str(identity).encode()).hexdigest()[:16]
            self._folder = Path(home) / "gradbase" / f"postgresql-{called}"
        return self._folder

    @property
    def catalog(self) -> Self:
        """The server holds it itself."""
        return self

    @property
    def capabilities(self) -> Capabilities:
        """What PostgreSQL can run; why it predicts nothing itself is asked once."""
        if self._capabilities is None:
            reason = why_no_functions(lambda sql: self.rows(sql, None, None))
            unsupported = {**CAPABILITIES.unsupported, "udf": reason}
            self._capabilities = dataclasses.replace(CAPABILITIES, unsupported=unsupported)
        return self._capabilities

    @property
    def statistics(self) -> PostgresStatistics:
        """What PostgreSQL knows about its tables."""
        return self._statistics

    @property
    def writes(self) -> int:
        """Statements run through it that may have changed rows."""
        return self._connections.writes

    # -- looking at statements ---------------------------------------------------------------------

    def types(self, sql: str, parameters: Parameters = None) -> list[tuple[str, SqlType]]:
        """Column names (not necessarily distinct) and types of a query; nothing is executed."""
        try:
            return self._described(sql, parameters)
        except StoreError:  # the server may have been started again since the last statement
            return self._described(sql, parameters)

    def _described(self, sql: str, parameters: Parameters) -> list[tuple[str, SqlType]]:
        with self._using(sql) as connection:
            text = written(sql, parameters, connection, missing_is_null=True)
            return [(c.name, c.type) for c in describe(connection, text, self._types)]

    def has_table(self, database: str, schema: str, table: str) -> bool:  # noqa: ARG002
        """Whether there is such a table as committed now, whether it may be read or not."""
        query = (
            "SELECT 1 FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n "
            "ON n.oid = c.relnamespace WHERE n.nspname = %s AND c.relname = %s"
        )
        with self._connections.other() as connection:
            return bool(connection.execute(query, [schema, table]).fetchall())

    def explained(self, sql: str) -> Any:
        """The planner's plan of a query as JSON; parameters count as NULL."""
        with self._using(sql) as connection:
            text = written(sql, None, connection, missing_is_null=True)
            return connection.execute(f"EXPLAIN (FORMAT json) {text}".encode()).fetchall()[0][0]

    def compile(
        self,
        relation: Relation,
        names: Mapping[Relation, str] | None = None,
        functions: Mapping[Node, str] | None = None,
    ) -> str:
        """SQL of a relation, see `compile_relation`."""
        return compile_relation(relation, names or {}, functions or {})

    # -- running -----------------------------------------------------------------------------------

    def run(
        self,
        sql: str,
        parameters: Parameters = None,
        *,
        views: Mapping[str, View] | None = None,
    ) -> NativeResult:
        """A statement of PostgreSQL's own: a query runs when its rows are asked for, the rest now.

        With `views` (see `stream`) it runs now, whatever it is.
        """
        check_runnable(sql)
        if only_reads(sql) and not views:
            return PostgresQuery(self, sql, parameters, self.types(sql, parameters))
        if views:
            views = drained(views)
        with self._connections.on_main() as connection:
            try:
                if not views:
                    return run_now(connection, sql, parameters, self._types)
                with furnished(connection, views, read_only=self.read_only):
                    return run_now(connection, sql, parameters, self._types)
            finally:
                self._connections.ran(sql)

    def running(self) -> Running:
        """What can stop a statement of this engine."""
        return Running(self._connections)

    def rows(self, sql: str, parameters: Parameters, running: Running | None) -> list[Row]:
        """All rows of a query as the driver's Python values."""
        with self._using(sql, running) as connection:
            return execute(connection, sql, parameters).fetchall()

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
        with self._ready(sql, parameters, views, functions, running) as (connection, text, columns):
            return table_of(connection, text, columns)

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
        """Rows of a query as they come; `views` go into temporary tables first."""
        batch_rows = batch_rows or BATCH_ROWS
        if self._connections.needs_main(sql):
            rows = self.fetch(sql, parameters, views=views, functions=functions, running=running)
            yield rows.to_reader(batch_rows)
            return
        with (
            self._ready(sql, parameters, views, functions, running) as (connection, text, columns),
            streamed(connection, text, columns, batch_rows) as reader,
        ):
            yield reader

    @contextlib.contextmanager
    def transaction(self, *, writes: bool = False) -> Generator[PostgresTransaction]:
        """A transaction of its own, committed at the end of the block, rolled back by an error.

        Of those that `writes` one runs at a time: the others wait for an advisory lock.
        """
        with self._connections.other() as connection, connection.transaction():
            if writes:
                connection.execute("SELECT pg_advisory_xact_lock(%s)", [_LOCK])
            yield PostgresTransaction(connection)

    @contextlib.contextmanager
    def frozen(self) -> Generator[Self]:
        """This engine, but its queries read what is committed now."""
        with side_tables.exported(self._connections) as snapshot:
            reader = copy.copy(self)
            reader.state = snapshot
            yield reader

    def side_table(self, rows: pa.Table) -> AbstractContextManager[SideTable]:
        """Rows in a table that other connections see, at an address that reads the same state."""
        return side_tables.side_table(self._connections, rows, self.state)

    def why_not_targeted(self, sql: str) -> str:
        """Why other connections cannot be asked for rows of a query; empty where they can."""
        return side_tables.why_not(self._connections, sql)

    # -- the session's own -------------------------------------------------------------------------

    def register(self, name: str, rows: Any) -> None:
        """Make an Arrow table, pandas or Polars DataFrame a temporary table of this session."""
        with self._connections.on_main() as connection:
            keep_rows(connection, name, rows)
        self._connections.ran()

    def unregister(self, name: str) -> None:
        """Drop such a table; an unknown name is ignored."""
        with self._connections.on_main() as connection:
            drop_table(connection, name)
        self._connections.ran()

    def interrupt(self) -> None:
        """Stop everything that runs, from any thread; it ends with CancelledError."""
        self._connections.interrupt()

    def close(self) -> None:
        """Stop everything and close the connections; twice is allowed."""
        self._connections.close()

    # -- inside ------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _using(
        self, sql: str, running: Running | None = None, *, writes: bool = False
    ) -> Generator[Connection]:
        """The connection that sees what a query reads, in the state that this thread reads."""
        home = self._connections
        main = home.needs_main(sql)
        with contextlib.ExitStack() as stack:
            connection = stack.enter_context(home.on_main() if main else home.other())
            if running is not None:
                running.begin(connection)
                stack.callback(running.end, connection)
            if self.state and not main:
                stack.enter_context(side_tables.in_snapshot(connection, self.state, writes=writes))
            yield connection

    @contextlib.contextmanager
    def _ready(
        self,
        sql: str,
        parameters: Parameters,
        views: Mapping[str, View] | None,
        functions: Sequence[Function],
        running: Running | None = None,
    ) -> Generator[tuple[Connection, str, list[Described]]]:
        """A connection that has the views, the text with its values, and what it returns."""
        if functions:
            raise refuse_functions()
        if views and self._connections.needs_main(sql):
            views = drained(views)
        with (
            self._using(sql, running, writes=bool(views)) as connection,
            furnished(connection, views or {}, read_only=self.read_only),
        ):
            text = written(sql, parameters, connection)
            yield connection, text, describe(connection, text, self._types)

    @contextlib.contextmanager
    def snapshot(
        self, sql: str, parameters: Parameters, views: Rows
    ) -> Generator[tuple[Ask, str, Schema]]:
        """Run several queries over `sql` that all see the same rows."""
        with self._using(sql) as connection:
            alone = connection.pgconn.transaction_status == pq.TransactionStatus.IDLE
            with connection.transaction():
                if alone:
                    connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
                with furnished(connection, views or {}, read_only=False):
                    text = written(sql, parameters, connection)
                    found = describe(connection, text, self._types)
                    schema = Schema(tuple(Field(c.name, c.type) for c in found))
                    yield lambda query: execute(connection, query, None).fetchall(), text, schema
