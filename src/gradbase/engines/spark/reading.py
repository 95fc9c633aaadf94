"""Rows of Spark as Arrow: small results at once, large ones partition by partition."""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator
from typing import Any

import pyarrow as pa
from py4j.protocol import Py4JError
from pyspark.errors import PySparkException

from gradbase.engines.spark.errors import translated
from gradbase.engines.spark.statistics import estimate
from gradbase.engines.spark.types import UNREADABLE

BATCH_ROWS = 8192
_TOO_MANY = re.compile(r"result lost from block manager|maxResultSize")
"""What Spark says of results that its driver cannot hold at once."""
AT_ONCE_BYTES = 64 << 20
"""Results expected to be smaller are collected by one job, all partitions side by side."""


def readable(frame: Any) -> Any:
    """The frame, columns that have no Arrow form as text."""
    kinds = [type(f.dataType).__name__ for f in frame.schema.fields]
    if not any(k in UNREADABLE for k in kinds):
        return frame
    from pyspark.sql import functions

    # By position: names need not differ.
    numbered = frame.toDF(*(f"c{i}" for i in range(len(kinds))))
    columns = (
        functions.col(f"c{i}").cast("string") if k in UNREADABLE else functions.col(f"c{i}")
        for i, k in enumerate(kinds)
    )
    return numbered.select(*columns).toDF(*frame.columns)


def arrow_schema(frame: Any) -> pa.Schema:
    """Arrow's schema of a frame; nothing runs."""
    from pyspark.sql.pandas.types import to_arrow_schema

    with translated():
        found = to_arrow_schema(frame.schema, timezone="UTC")
    return pa.schema([pa.field(f.name, plain_type(f.type)) for f in found])


def plain_type(of: pa.DataType) -> pa.DataType:
    """The type as other engines have it: times of microseconds, everything nullable."""
    if pa.types.is_time(of):
        return pa.time64("us")
    if pa.types.is_list(of):
        return pa.list_(plain_type(of.value_type))
    if pa.types.is_struct(of):
        return pa.struct([pa.field(f.name, plain_type(f.type)) for f in of.fields])
    if pa.types.is_map(of):
        return pa.map_(plain_type(of.key_type), plain_type(of.item_type))
    return of


def whole(frame: Any) -> pa.Table:
    """All rows: by one job, as `toArrow`, unless they are too many for Spark's driver."""
    frame = readable(frame)
    schema = arrow_schema(frame)
    with translated():
        try:
            found = frame._collect_as_arrow()  # noqa: SLF001
        except (PySparkException, Py4JError) as error:
            if not _TOO_MANY.search(str(error)):
                raise
            found = list(_by_partition(frame))
    if not found:
        return schema.empty_table()
    table = pa.Table.from_batches(found)  # as a whole: batches are many
    return pa.Table.from_arrays(_columns(table, schema), schema=schema)


def batches(frame: Any, batch_rows: int) -> Generator[pa.RecordBatch]:
    """Rows as they come, at most `batch_rows` a batch."""
    frame = readable(frame)
    schema = arrow_schema(frame)
    size_bytes = estimate(frame)[1]
    if size_bytes is not None and size_bytes < AT_ONCE_BYTES:
        with translated():
            found = iter(frame._collect_as_arrow())  # noqa: SLF001
    else:
        found = _by_partition(frame)
    for batch in found:
        made = cast(batch, schema)
        for start in range(0, made.num_rows, batch_rows):
            yield made.slice(start, batch_rows)


def _by_partition(frame: Any) -> Iterator[pa.RecordBatch]:
    """One partition is read while the next is computed."""
    from pyspark.serializers import NoOpSerializer
    from pyspark.sql.pandas.types import to_arrow_schema
    from pyspark.util import _local_iterator_from_socket

    with translated():
        given = to_arrow_schema(frame.schema, timezone="UTC")
        messages = frame._jdf.toArrowBatchRdd()  # noqa: SLF001
        jvm = frame.sparkSession._jvm  # noqa: SLF001
        served = jvm.PythonRDD.toLocalIteratorAndServe(messages, True)
        for message in _local_iterator_from_socket(served, NoOpSerializer()):
            yield pa.ipc.read_record_batch(pa.py_buffer(message), given)


def cast(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """The columns, by their place, under the names and types of `schema`."""
    return pa.RecordBatch.from_arrays(_columns(batch, schema), schema=schema)


def _columns(rows: Any, schema: pa.Schema) -> list[Any]:
    pairs = zip(rows.columns, schema, strict=True)
    return [c if c.type == f.type else c.cast(f.type) for c, f in pairs]
