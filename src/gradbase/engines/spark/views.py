"""Views that exist for one statement: rows of this process, and predictions on the executors."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from gradbase.engines.base import Mapped, Parameters, RowStream, View
from gradbase.engines.spark.errors import quiet, translated

if TYPE_CHECKING:
    from gradbase.engines.spark.engine import SparkEngine


class Call:
    """A function of a module and texts for it: all that is sent to executors.

    Parameters
    ----------
    function : callable
    arguments : tuple of str
    """

    def __init__(
        self, function: Callable[..., Iterator[pa.RecordBatch]], arguments: tuple[str, ...]
    ) -> None:
        self.function, self.arguments = function, arguments

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """What a Python process of Spark runs for a partition."""
        return self.function(batches, *self.arguments)


@contextlib.contextmanager
def seen(
    engine: SparkEngine, views: Mapping[str, View | Mapped] | None, parameters: Parameters
) -> Generator[None]:
    """Let the statements inside see `views`; rows of this process are read to their end first."""
    kept: list[Any] = []
    try:
        for name, view in (views or {}).items():
            if isinstance(view, Mapped):
                frame = _mapped(engine, view, parameters)
                kept += [frame.persist()] if view.shared else []
                engine.show(name, frame)
            else:
                engine.register(name, view if isinstance(view, pa.Table) else _drained(view))
        yield
    finally:
        with contextlib.suppress(Exception):  # Spark may have ended meanwhile
            for name in views or {}:
                engine.unregister(name)
            for frame in kept:
                frame.unpersist()


def _mapped(engine: SparkEngine, view: Mapped, parameters: Parameters) -> Any:
    """The frame of a query whose rows pass through Python on the executors."""
    from pyspark.sql.pandas.types import from_arrow_schema
    from pyspark.sql.types import StructField, StructType

    with seen(engine, view.views, parameters):
        frame = engine.frame(view.sql, parameters)
    with translated(), quiet():
        given, added = frame.schema.fields, from_arrow_schema(view.added).fields
        # Spark looks for the columns by name, and trips over dots and backticks in them.
        plain = [f"c{i}" for i in range(len(given))]
        back = [(plain[i], given[i]) for i in view.kept]
        back += [(f"added{i}", field) for i, field in enumerate(added)]
        schema = StructType([StructField(n, f.dataType) for n, f in back])
        call = Call(view.function, view.arguments)
        mapped = frame.toDF(*plain).mapInArrow(call, schema)
        return mapped.toDF(*(f.name for _, f in back))


def _drained(rows: pa.RecordBatchReader | RowStream) -> pa.Table:
    try:
        return pa.Table.from_batches(list(rows), schema=rows.schema)
    finally:
        rows.close()
