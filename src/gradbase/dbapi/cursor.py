"""PEP 249's Cursor: a statement, its rows, and a place in them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeAlias

from gradbase.dbapi import errors
from gradbase.dbapi.types import Described, describe
from gradbase.engines.rows import rows_of
from gradbase.frontend.tokens import split_statements

if TYPE_CHECKING:
    import pyarrow as pa

    from gradbase.dbapi.connection import Connection

Parameters: TypeAlias = Sequence[Any] | Mapping[str, Any] | None
CHUNK_ROWS = 4096
"""Rows that become tuples at once."""


class Cursor:
    """Runs statements and walks over their rows.

    Parameters
    ----------
    connection : Connection
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.arraysize = 1
        self.description: list[Described] | None = None
        self.rowcount = -1
        self.lastrowid = None
        self._rows: Iterator[tuple[Any, ...]] | None = None
        self._table: pa.Table | None = None
        self._closed = False

    @property
    def connection(self) -> Connection:
        """The connection that made it."""
        return self._connection

    # -- running -----------------------------------------------------------------------------------

    def execute(self, operation: str, parameters: Parameters = None) -> Self:
        """Run a statement, or several; the rows of the last are there to be fetched.

        Parameters
        ----------
        operation : str
        parameters : sequence or mapping, optional
            Values for ``?`` (or ``$1``), or for ``$name``.
        """
        self._forget()
        with errors.translated():
            statements = split_statements(operation)
        if not statements:
            raise errors.ProgrammingError("there is no statement")
        for statement in statements[:-1]:
            self._run(statement, parameters)
        table, changed = self._run(statements[-1], parameters)
        if changed is not None:
            self.rowcount = changed
        elif table.num_columns:
            self._table, self.rowcount = table, table.num_rows
            self.description = describe(table.schema)
            self._rows = _tuples(table)
        return self

    def _run(self, statement: str, parameters: Parameters) -> tuple[pa.Table, int | None]:
        result = self._connection.run(statement, parameters)
        with errors.translated():
            return result.arrow(), result.changed

    def executemany(self, operation: str, seq_of_parameters: Sequence[Parameters]) -> Self:
        """Run a statement once for each set of values; `rowcount` is of all of them."""
        self._forget()
        total = 0
        for parameters in seq_of_parameters:
            self.execute(operation, parameters)
            if self.description is not None:
                self._forget()
                raise errors.ProgrammingError("executemany is for statements without rows")
            total = -1 if self.rowcount < 0 else total + self.rowcount
        self.rowcount = total
        return self

    def callproc(self, procname: str, parameters: Parameters = None) -> None:  # noqa: ARG002
        """There are no stored procedures."""
        raise errors.NotSupportedError(f"there are no stored procedures (`{procname}`)")

    def nextset(self) -> None:
        """A cursor has the rows of the last statement only."""
        raise errors.NotSupportedError("a cursor has the rows of the last statement only")

    def setinputsizes(self, sizes: Sequence[Any]) -> None:
        """Nothing needs to be known before."""

    def setoutputsize(self, size: int, column: int | None = None) -> None:
        """Nothing needs to be known before."""

    # -- rows --------------------------------------------------------------------------------------

    def fetchone(self) -> tuple[Any, ...] | None:
        """The next row; None after the last."""
        return next(self._open_rows(), None)

    def fetchmany(self, size: int | None = None) -> list[tuple[Any, ...]]:
        """The next `size` rows (`arraysize` if left out), fewer at the end."""
        return list(itertools.islice(self._open_rows(), self.arraysize if size is None else size))

    def fetchall(self) -> list[tuple[Any, ...]]:
        """All rows that are left."""
        return list(self._open_rows())

    def fetch_arrow_table(self) -> pa.Table:
        """All rows of the statement as an Arrow table, fetched before or not."""
        self._open_rows()
        assert self._table is not None
        return self._table

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        return self

    def __next__(self) -> tuple[Any, ...]:
        return next(self._open_rows())

    # -- end ---------------------------------------------------------------------------------------

    def close(self) -> None:
        """Forget the rows; the cursor cannot be used any more."""
        self._closed = True
        self._rows = self._table = None

    def _forget(self) -> None:
        self._check_open()
        self.description, self.rowcount = None, -1
        self._rows = self._table = None

    def _open_rows(self) -> Iterator[tuple[Any, ...]]:
        self._check_open()
        if self._rows is None:
            raise errors.ProgrammingError("there are no rows to fetch: no query has run")
        return self._rows

    def _check_open(self) -> None:
        if self._closed:
            raise errors.ProgrammingError("the cursor is closed")
        self._connection.session  # noqa: B018 (a closed connection raises)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _tuples(table: pa.Table) -> Iterator[tuple[Any, ...]]:
    for start in range(0, table.num_rows, CHUNK_ROWS):
        yield from rows_of(table.slice(start, CHUNK_ROWS))
