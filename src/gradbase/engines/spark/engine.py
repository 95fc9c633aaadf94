"""The engine over Spark."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import uuid
from collections.abc import Generator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pyarrow as pa

from gradbase.engines.base import (
    Engine,
    Function,
    Mapped,
    Parameters,
    Transaction,
    View,
)
from gradbase.engines.compiler import OPERATORS
from gradbase.engines.moments import Ask
from gradbase.engines.rows import Row, rows_of
from gradbase.engines.sharing import EngineBase, Rows
from gradbase.engines.spark import copies, reading
from gradbase.engines.spark.catalog import ManifestEngine
from gradbase.engines.spark.compiler import ELSEWHERE, SparkCompiler, SparkSpelling
from gradbase.engines.spark.errors import quiet, translated
from gradbase.engines.spark.results import SparkResult
from gradbase.engines.spark.sessions import adopted, started
from gradbase.engines.spark.statistics import SparkStatistics
from gradbase.engines.spark.texts import quoted, sparks, values_of
from gradbase.engines.spark.types import SparkDialect, from_spark, taken
from gradbase.engines.spark.views import seen
from gradbase.errors import BindError, StoreError, UnsupportedError
from gradbase.ir.facts import Capabilities
from gradbase.ir.node import Node
from gradbase.ir.relational import Relation
from gradbase.ir.types import Schema, SqlType

CAPABILITIES = Capabilities(
    engine="spark",
    operators=OPERATORS,
    representations=("executors", "dl"),
    functions=False,
    unsupported={
        **ELSEWHERE,
        "udf": "Spark's Python functions run in processes of their own",
        "targeted": "a Spark session is of one process",
    },
    embedded=False,
)

_GROUP = "spark.jobGroup.id"


class SparkEngine(EngineBase):
    """A Spark session with a store for models beside it. Safe to use from several threads.

    Parameters
    ----------
    session : str or pyspark.sql.SparkSession
        A master's URL (``local[2]``, ``spark://host:7077``), or a session that is there.
    store : str or Path
        Where catalog and weights lie: a folder that this process and the executors reach, or the
        URL of an object store.
    read_only : bool
        Models cannot be made; what Spark itself may write is Spark's affair.
    """

    name = "spark"
    dialect = SparkDialect()
    spelling = SparkSpelling()

    def __init__(
        self, session: Any, store: str | Path | None = None, *, read_only: bool = False
    ) -> None:
        if store is None:
            raise BindError(
                "Spark keeps no models: store= says where they go",
                hint="gb.connect('local[2]', store='models'), a folder that executors reach too, "
                "or the URL of an object store",
            )
        self.read_only = read_only
        self._catalog = ManifestEngine(store, read_only=read_only)
        if isinstance(session, str):
            self.session, self._owned = started(session)
        else:
            self.session, self._owned = adopted(session), False
        with translated():
            cores = int(self.session.sparkContext.defaultParallelism)
        # Files need a folder that executors and this process see.
        writers = 0 if self.folder is None else cores
        self._capabilities = dataclasses.replace(CAPABILITIES, writers=writers)
        self._tag = f"gradbase-{uuid.uuid4().hex}"
        self._numbers = itertools.count(1)
        self._statistics = SparkStatistics(self)
        self._registered: set[str] = set()
        self._running: set[str] = set()
        self._closed = False
        self.writes = 0

    @property
    def folder(self) -> Path | None:
        """The store's, where it is one."""
        return self._catalog.folder

    @property
    def catalog(self) -> Engine:
        """An engine of its own holds the catalog."""
        return self._catalog

    @property
    def capabilities(self) -> Capabilities:
        """What Spark can run."""
        return self._capabilities

    @property
    def statistics(self) -> SparkStatistics:
        """What Spark knows about its tables."""
        return self._statistics

    # -- looking at statements ---------------------------------------------------------------------

    def frame(self, sql: str, parameters: Parameters, *, missing_is_null: bool = False) -> Any:
        """A text of ours as Spark's frame; a query does not run."""
        self._check_open()
        text, names = sparks(sql)
        values = values_of(names, parameters, missing_is_null=missing_is_null)
        with translated():
            return self.session.sql(text, args=values or None)

    def types(self, sql: str, parameters: Parameters = None) -> list[tuple[str, SqlType]]:
        """Column names (not necessarily distinct) and types of a query; nothing is executed."""
        found = self.frame(sql, parameters, missing_is_null=True)
        return [(f.name, from_spark(f.dataType)) for f in found.schema.fields]

    def has_table(self, database: str, schema: str, table: str) -> bool:
        """Whether there is such a table."""
        self._check_open()
        with translated():
            name = ".".join(quoted(n) for n in (database, schema, table))
            return bool(self.session.catalog.tableExists(name))

    def compile(
        self,
        relation: Relation,
        names: Mapping[Relation, str] | None = None,
        functions: Mapping[Node, str] | None = None,
    ) -> str:
        """SQL of a relation, names in double quotes; the methods here take it so."""
        return SparkCompiler(self.dialect, names or {}, functions or {}).query(relation)

    # -- running -----------------------------------------------------------------------------------

    def run(
        self,
        sql: str,
        parameters: Parameters = None,
        *,
        views: Mapping[str, View | Mapped] | None = None,
    ) -> SparkResult:
        """A statement of Spark's own, byte for byte; with `views` it is one of ours."""
        self._check_open()
        self.writes += 1
        if views:
            with seen(self, views, parameters):
                frame = self.frame(sql, parameters)
                return SparkResult(self, frame, reading.whole(frame))
        given = parameters if isinstance(parameters, Mapping) else list(parameters or ())
        with self.tagged(self.new_tag()), translated():
            return SparkResult(self, self.session.sql(sql, args=given or None))

    def fetch(
        self,
        sql: str,
        parameters: Parameters = None,
        *,
        views: Mapping[str, View | Mapped] | None = None,
        functions: Sequence[Function] = (),
    ) -> pa.Table:
        """All rows of a query."""
        _refuse(functions)
        with seen(self, views, parameters), self.tagged(self.new_tag()):
            return reading.whole(self.frame(sql, parameters))

    @contextlib.contextmanager
    def stream(
        self,
        sql: str,
        parameters: Parameters = None,
        *,
        batch_rows: int = 0,
        views: Mapping[str, View | Mapped] | None = None,
        functions: Sequence[Function] = (),
    ) -> Generator[pa.RecordBatchReader]:
        """Rows of a query as they come; `views` are read to their end first."""
        _refuse(functions)
        with seen(self, views, parameters):
            frame = self.frame(sql, parameters)
            with self.streaming(frame, batch_rows, self.new_tag()) as reader:
                yield reader

    @contextlib.contextmanager
    def streaming(self, frame: Any, batch_rows: int, tag: str) -> Generator[pa.RecordBatchReader]:
        """The rows of a frame; leaving the block stops it."""
        self._check_open()
        with translated():
            schema = reading.arrow_schema(reading.readable(frame))

        def batches() -> Generator[pa.RecordBatch]:
            with self.tagged(tag):
                yield from reading.batches(frame, batch_rows or reading.BATCH_ROWS)

        source = batches()
        try:
            yield pa.RecordBatchReader.from_batches(schema, source)
        finally:
            self.stop(tag)
            source.close()

    def copied(
        self, sql: str, parameters: Parameters, folder: Path, *, batch_rows: int
    ) -> AbstractContextManager[pa.RecordBatchReader]:
        """Rows of a query, through files that executors write side by side (see `copies`)."""
        return copies.copied(self, sql, parameters, folder, batch_rows)

    def transaction(self, *, writes: bool = False) -> AbstractContextManager[Transaction]:  # noqa: ARG002
        """Spark has none."""
        raise UnsupportedError(
            "Spark has no transactions", hint="the catalog of models has: engine.catalog"
        )

    # -- cancelling --------------------------------------------------------------------------------

    def new_tag(self) -> str:
        """A name for the jobs of one statement."""
        return f"{self._tag}-{next(self._numbers)}"

    @contextlib.contextmanager
    def tagged(self, tag: str) -> Generator[None]:
        """Jobs begun in this thread inside the block are stopped by `stop(tag)`."""
        context = self.session.sparkContext
        with translated():
            before = context.getLocalProperty(_GROUP)
            context.setLocalProperty(_GROUP, tag)
        self._running.add(tag)
        try:
            yield
        finally:
            self._running.discard(tag)
            with contextlib.suppress(Exception):  # Spark may have ended meanwhile
                context.setLocalProperty(_GROUP, before)

    def stop(self, tag: str) -> None:
        """Stop the jobs of a statement, those that it has not begun too, from any thread."""
        with contextlib.suppress(Exception):  # Spark may have ended meanwhile
            self.session.sparkContext._jsc.sc().cancelJobGroupAndFutureJobs(tag)  # noqa: SLF001

    def interrupt(self) -> None:
        """Stop everything that runs, from any thread; it ends with CancelledError."""
        for tag in list(self._running):
            self.stop(tag)
        self._catalog.interrupt()

    # -- the session's own -------------------------------------------------------------------------

    def register(self, name: str, rows: Any) -> None:
        """Make an Arrow table, pandas or Polars DataFrame a temporary view of Spark's session."""
        self._check_open()
        from pyspark.sql.pandas.types import from_arrow_schema

        table = taken(rows)
        with translated(), quiet():
            # A time without a zone stays one, whatever zone the session is in.
            schema = from_arrow_schema(table.schema, prefer_timestamp_ntz=True)
            frame = self.session.createDataFrame(table, schema)
        self.show(name, frame)
        self.writes += 1

    def show(self, name: str, frame: Any) -> None:
        """Make a frame a temporary view."""
        with translated():
            frame.createOrReplaceTempView(quoted(name))
        self._registered.add(name)

    def unregister(self, name: str) -> None:
        """Forget such a view."""
        if name in self._registered:
            self._registered.discard(name)
            with translated():
                self.session.catalog.dropTempView(name)

    def close(self) -> None:
        """Stop what runs and forget the views; Spark ends if it was started here."""
        if self._closed:
            return
        self.interrupt()
        for name in list(self._registered):
            with contextlib.suppress(Exception):
                self.unregister(name)
        self._closed = True
        self._catalog.close()
        if self._owned:
            with contextlib.suppress(Exception):
                self.session.stop()

    # -- inside ------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def snapshot(
        self, sql: str, parameters: Parameters, views: Rows
    ) -> Generator[tuple[Ask, str, Schema]]:
        """Queries over `sql`; Spark has no snapshot: a file that changes meanwhile is an error."""

        def ask(query: str) -> list[Row]:
            return rows_of(reading.whole(self.frame(query, parameters)))

        with seen(self, views, parameters), self.tagged(self.new_tag()):
            yield ask, sql, self.schema(sql, parameters)

    def _check_open(self) -> None:
        if self._closed:
            raise StoreError("the session is closed", hint="connect again")


def _refuse(functions: Sequence[Function]) -> None:
    if functions:
        raise UnsupportedError(
            "Spark cannot call Python functions of this program",
            hint="predict in the SELECT list, WHERE or FROM of a query, not inside a correlated "
            "subquery",
        )
