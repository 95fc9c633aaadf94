"""Views and functions that exist for one statement, and what their errors become."""

from __future__ import annotations

import contextlib
import inspect
import threading
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any

import duckdb
import pyarrow as pa

from gradbase.engines.base import Function, RowStream, View
from gradbase.engines.duckdb.errors import translate, translated
from gradbase.engines.duckdb.types import type_name

# Functions live in the database's catalog: two cursors must not change it at once.
_catalog_lock = threading.Lock()


class Failures:
    """The first exception of Python code that DuckDB called; DuckDB keeps only its text."""

    def __init__(self) -> None:
        self._first: Exception | None = None

    def add(self, error: Exception) -> None:
        self._first = self._first or error

    @contextlib.contextmanager
    def translated(self) -> Generator[None]:
        """Raise what Python code raised as it was, the rest as ours."""
        try:
            yield
        except (duckdb.Error, pa.ArrowException, OSError) as error:
            if self._first is not None:
                raise self._first from None
            raise translate(error) from error


@contextlib.contextmanager
def furnished(
    connection: duckdb.DuckDBPyConnection,
    views: Mapping[str, View],
    functions: Sequence[Function],
) -> Generator[Failures]:
    """Give `connection` views and functions, and take them away again."""
    failures = Failures()
    with contextlib.ExitStack() as stack:
        for name, view in views.items():
            stack.enter_context(_view(connection, name, view, failures))
        for function in functions:
            stack.enter_context(_function(connection, function, failures))
        yield failures


@contextlib.contextmanager
def _view(
    connection: duckdb.DuckDBPyConnection, name: str, view: View, failures: Failures
) -> Generator[None]:
    source = None
    if not isinstance(view, pa.Table):
        source = _recorded(view, failures)
        view = pa.RecordBatchReader.from_batches(view.schema, source)
    try:
        with translated():
            connection.register(name, view)
        yield
    finally:
        # A connection that was closed meanwhile has no views any more.
        with contextlib.suppress(duckdb.Error):
            connection.unregister(name)
        if source is not None:
            source.close()


def _recorded(
    rows: pa.RecordBatchReader | RowStream, failures: Failures
) -> Generator[pa.RecordBatch]:
    try:
        yield from rows
    except Exception as error:
        failures.add(error)
        raise
    finally:
        rows.close()


@contextlib.contextmanager
def _function(
    connection: duckdb.DuckDBPyConnection, function: Function, failures: Failures
) -> Generator[None]:
    with _catalog_lock, translated():
        connection.create_function(
            function.name,
            _callable(function, failures),
            [type_name(t) for t in function.argument_types],
            type_name(function.return_type),
            type="arrow",  # type: ignore[arg-type]
            null_handling="special",  # type: ignore[arg-type]
            side_effects=function.volatile,
        )
    try:
        yield
    finally:
        with _catalog_lock, contextlib.suppress(duckdb.Error):
            connection.remove_function(function.name)


def _callable(function: Function, failures: Failures) -> Callable[..., Any]:
    def call(*columns: pa.ChunkedArray) -> pa.Array:
        try:
            return function.call([c.combine_chunks() for c in columns])
        except Exception as error:
            failures.add(error)
            raise

    # DuckDB reads the number of parameters from the signature.
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    parameters = [inspect.Parameter(f"p{i}", kind) for i in range(len(function.argument_types))]
    call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    call.__name__ = function.name
    return call


@contextlib.contextmanager
def reading(
    connection: duckdb.DuckDBPyConnection, reader: pa.RecordBatchReader, failures: Failures
) -> Generator[pa.RecordBatchReader]:
    """`reader` with translated errors; leaving the block stops its query."""

    def batches() -> Generator[pa.RecordBatch]:
        with failures.translated():
            yield from reader

    source = batches()
    try:
        yield pa.RecordBatchReader.from_batches(reader.schema, source)
    finally:
        # Closing alone would first read the query, and the views below it, to their end.
        with contextlib.suppress(duckdb.Error):
            connection.interrupt()
        source.close()
        reader.close()
