"""What a data system must offer: few methods, SQL as text, rows as Arrow."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import pyarrow as pa

from gradbase.ir.facts import Capabilities, Dialect, Statistics
from gradbase.ir.node import Node
from gradbase.ir.relational import Relation
from gradbase.ir.types import Schema, SqlType

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl

Parameters: TypeAlias = Mapping[str, Any] | Sequence[Any] | None
"""Values of ``$name`` (a mapping) or of ``?`` and ``$1`` (a sequence)."""

SUFFIX = ".gradbase"
"""The folder that belongs to a database file has its name and this."""


class RowStream(Protocol):
    """Rows on their way: batches of one schema, and a way to stop whoever makes them."""

    @property
    def schema(self) -> pa.Schema: ...

    def __iter__(self) -> Iterator[pa.RecordBatch]: ...

    def close(self) -> None: ...


View: TypeAlias = pa.Table | pa.RecordBatchReader | RowStream
"""Rows that a statement sees as a view. All but a Table are read lazily, once, and then closed."""


@dataclass(frozen=True)
class Mapped:
    """Rows of a query with columns that Python code adds in processes of the engine's own.

    A view for an engine whose capabilities name ``executors``.

    Parameters
    ----------
    sql : str
        The query, with the parameters of the statement that sees the view.
    views : mapping
        What the query sees.
    function : callable
        Batches and `arguments` to batches of the columns `kept`, with ``added0``, ``added1``, …
        behind; of a module, found by its name. Columns are known by their place.
    arguments : tuple of str
    kept : tuple of int, places of columns that the statement reads
    added : pa.Schema
        Names and types of the new columns.
    shared : bool
        Whether the statement reads the rows several times.
    """

    sql: str
    views: Mapping[str, View | Mapped]
    function: Callable[..., Iterator[pa.RecordBatch]]
    arguments: tuple[str, ...]
    kept: tuple[int, ...]
    added: pa.Schema
    shared: bool = False


@dataclass(frozen=True)
class Function:
    """A Python function that a statement may call.

    Parameters
    ----------
    name : str
        Its SQL name; not in use by another statement at the same time.
    argument_types : list of SqlType
        One per argument; exactly as many arrays reach `call`.
    return_type : SqlType
    call : callable
        Arrow arrays of n values to one array of n values. NULLs arrive as nulls.
    volatile : bool
        The engine must call it once per row and place in the text. Otherwise it may call it once
        for equal arguments, or again where it copies an expression (a filter on its result).
    """

    name: str
    argument_types: Sequence[SqlType]
    return_type: SqlType
    call: Callable[[list[pa.Array]], pa.Array]
    volatile: bool = False


@dataclass(frozen=True)
class Moments:
    """Order-free statistics of one column, equal bit for bit whatever the order of its rows.

    `count`, `nulls`, `nan` and `inf` add up to the rows. The rest is of the `count` finite values,
    0.0 where there are none; `variance` is that of the population, `largest` the largest magnitude.
    """

    count: int
    nulls: int
    nan: int
    inf: int
    minimum: float
    maximum: float
    mean: float
    variance: float
    largest: float


@dataclass(frozen=True)
class SideTable:
    """Rows that we wrote into a database, where other connections see them.

    Parameters
    ----------
    name : str
        Of the table as it is written in SQL: qualified and quoted.
    address : str
        What `engines.connect` opens in another process, maybe on another machine, to read it and
        what this session reads: the same database as the same role, read-only.
    """

    name: str
    address: str


class SideTables(Protocol):
    """What an engine offers whose capabilities say `side_tables`: targeted queries.

    Workers of a search then ask the database for their shards by themselves. The coordinator writes
    (row key, place, shard) into a side table; a worker runs
    ``SELECT q.*, s.place FROM (query) q JOIN side s ON q.key = s.key WHERE s.shard = 3``.
    Where the side table is one of the engine that ``frozen()`` gives, workers read what that read.
    """

    def frozen(self) -> AbstractContextManager[Engine]:
        """The same engine, but all its queries read what is committed now; while the block lasts.

        So do connections to the address of a side table that it makes. The catalog is as it is.
        """
        ...

    def why_not_targeted(self, sql: str) -> str:
        """Why others cannot be asked for the rows of a query; empty where they can."""
        ...

    def side_table(self, rows: pa.Table) -> AbstractContextManager[SideTable]:
        """Write `rows` into a new table, committed when the block begins, dropped at its end.

        Should the process die, whoever makes the next side table drops what it left behind.

        Raises
        ------
        EngineError
            The role may create no table.
        UnsupportedError
            Other connections would not see what this session sees now (an open transaction).
        """
        ...


class Copies(Protocol):
    """What an engine offers whose capabilities name `writers`: rows through files of its own."""

    def copied(
        self, sql: str, parameters: Parameters, folder: Path, *, batch_rows: int
    ) -> AbstractContextManager[pa.RecordBatchReader]:
        """Rows of a query, written by all writers into the new `folder`, gone with the block."""
        ...


class NativeResult(Protocol):
    """What a statement of the engine's own returned; a query runs when its rows are asked for."""

    @property
    def columns(self) -> list[str]:
        """Column names."""
        ...

    @property
    def changed(self) -> int | None:
        """How many rows the statement changed; None for one that has rows or counts none."""
        ...

    def stream(self, batch_rows: int = 0) -> AbstractContextManager[pa.RecordBatchReader]:
        """The rows batch by batch (as many per batch as the engine likes where 0)."""
        ...

    def arrow(self) -> pa.Table:
        """All rows as an Arrow table."""
        ...

    def df(self) -> pd.DataFrame:
        """All rows as a pandas DataFrame."""
        ...

    def pl(self) -> pl.DataFrame:
        """All rows as a Polars DataFrame."""
        ...

    def fetchall(self) -> list[tuple[Any, ...]]:
        """All rows as tuples of Python values."""
        ...

    def cancel(self) -> None:
        """Stop this statement, from any thread; its reader gets a CancelledError."""
        ...


class Transaction(Protocol):
    """Statements that happen together or not at all."""

    def execute(self, sql: str, parameters: Parameters = None) -> Transaction:
        """Run a statement; its rows wait for `fetchall`."""
        ...

    def insert(self, table: str, rows: pa.Table) -> None:
        """Add rows to a table; `table` is quoted already, columns go by name."""
        ...

    def fetchall(self) -> list[tuple[Any, ...]]:
        """Rows of the last statement."""
        ...


class Engine(Protocol):
    """A data system: it holds the rows, we hand it SQL."""

    name: str
    read_only: bool

    @property
    def dialect(self) -> Dialect:
        """Its language."""
        ...

    @property
    def folder(self) -> Path | None:
        """Where files that belong to the database go; None: into a temporary folder."""
        ...

    @property
    def catalog(self) -> Engine:
        """The engine that holds the catalog: itself, where it has transactions."""
        ...

    @property
    def capabilities(self) -> Capabilities:
        """What it can run."""
        ...

    @property
    def statistics(self) -> Statistics:
        """What it knows about its tables."""
        ...

    @property
    def writes(self) -> int:
        """Statements run through it that may have changed rows."""
        ...

    def types(self, sql: str, parameters: Parameters = None) -> list[tuple[str, SqlType]]:
        """Column names (not necessarily distinct) and types of a query; nothing is executed."""
        ...

    def schema(self, sql: str, parameters: Parameters = None) -> Schema:
        """Schema of a query; nothing is executed."""
        ...

    def has_table(self, database: str, schema: str, table: str) -> bool:
        """Whether there is such a table as committed now, whether it may be read or not."""
        ...

    def compile(
        self,
        relation: Relation,
        names: Mapping[Relation, str] | None = None,
        functions: Mapping[Node, str] | None = None,
    ) -> str:
        """SQL of a relation; `names`: views holding sub-relations, `functions`: of predictions."""
        ...

    def run(
        self,
        sql: str,
        parameters: Parameters = None,
        *,
        views: Mapping[str, View] | None = None,
    ) -> NativeResult:
        """A statement of the engine's own: queries are lazy, everything else runs now."""
        ...

    def fetch(
        self,
        sql: str,
        parameters: Parameters = None,
        *,
        views: Mapping[str, View] | None = None,
        functions: Sequence[Function] = (),
    ) -> pa.Table:
        """All rows of a query; `views` and `functions` as in `stream`."""
        ...

    def stream(
        self,
        sql: str,
        parameters: Parameters = None,
        *,
        batch_rows: int = 0,
        views: Mapping[str, View] | None = None,
        functions: Sequence[Function] = (),
    ) -> AbstractContextManager[pa.RecordBatchReader]:
        """Rows of a query as they come; `views` and `functions` exist for this statement only."""
        ...

    def transaction(self, *, writes: bool = False) -> AbstractContextManager[Transaction]:
        """A transaction of its own, committed at the end of the block, rolled back by an error.

        Of those that `writes`, one runs at a time in the whole database, other processes included.
        """
        ...

    def exact_moments(
        self,
        sql: str,
        columns: Sequence[str],
        parameters: Parameters = None,
        *,
        views: Mapping[str, pa.Table] | None = None,
    ) -> dict[str, Moments]:
        """Order-free statistics of columns of a query."""
        ...

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
        ...

    def distinct_counts(
        self,
        sql: str,
        columns: Sequence[str],
        parameters: Parameters = None,
        *,
        views: Mapping[str, pa.Table] | None = None,
    ) -> dict[str, int]:
        """Distinct values (NULL not counted) of columns of a query, exactly."""
        ...

    def limit(self, *, threads: int = 0, memory_bytes: int = 0) -> None:
        """What an embedded engine may use; 0 leaves it as it is."""
        ...

    def register(self, name: str, rows: Any) -> None:
        """Make an Arrow table or data frame a view of this session."""
        ...

    def unregister(self, name: str) -> None:
        """Forget such a view."""
        ...

    def interrupt(self) -> None:
        """Stop everything that runs, from any thread; it ends with CancelledError."""
        ...

    def close(self) -> None:
        """Stop everything and give the database back."""
        ...


REFUSED = "gradbase refuses:"
"""How the text of an error starts that SQL of ours raises about a value: a `DataError`."""


def quote_identifier(name: str) -> str:
    """`name` as an SQL identifier, whatever it holds.

    Examples
    --------
    >>> print(quote_identifier('my "big" table'))
    "my ""big"" table"
    """
    return '"' + name.replace('"', '""') + '"'
