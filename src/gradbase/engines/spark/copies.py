"""Rows of a query as Parquet files, which Spark's Python processes write side by side.

Spark's own writer of Parquet has rules for old dates, for names and for times without a zone; what
is written here are the very batches that it hands to Python.
"""

from __future__ import annotations

import contextlib
import shutil
import uuid
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from gradbase.engines.base import Parameters
from gradbase.engines.spark import reading
from gradbase.engines.spark.errors import quiet, translated
from gradbase.engines.spark.views import Call
from gradbase.errors import EngineError

if TYPE_CHECKING:
    from gradbase.engines.spark.engine import SparkEngine


@contextlib.contextmanager
def copied(
    engine: SparkEngine, sql: str, parameters: Parameters, folder: Path, batch_rows: int
) -> Generator[pa.RecordBatchReader]:
    """As `engines.base.Copies`."""
    frame = reading.readable(engine.frame(sql, parameters))
    schema = reading.arrow_schema(frame)
    plain = frame.toDF(*(f"c{i}" for i in range(len(schema))))
    folder.mkdir(parents=True)
    try:
        with engine.tagged(engine.new_tag()), translated(), quiet():
            call = Call(write, (str(folder),))
            written = plain.mapInArrow(call, "place INT, name STRING, count LONG").toArrow()
        rows = written.sort_by("place").to_pylist()
        _check([folder / r["name"] for r in rows])
        source = _read([folder / r["name"] for r in rows], schema, batch_rows)
        with contextlib.closing(source):
            yield pa.RecordBatchReader.from_batches(schema, source)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def write(batches: Iterator[pa.RecordBatch], folder: str) -> Iterator[pa.RecordBatch]:
    """Write a partition's rows into a file of its own; its place, name and rows.

    Runs in a Python process of an executor. A task that is tried twice writes two files, of which
    Spark names the one that counts.
    """
    import pyarrow.parquet as pq
    from pyspark import TaskContext

    context = TaskContext.get()
    place = context.partitionId() if context is not None else 0
    name, count = f"{place:06d}-{uuid.uuid4().hex}.parquet", 0
    with contextlib.ExitStack() as open_file:
        writer: pq.ParquetWriter | None = None
        for batch in batches:
            if writer is None:
                texts: Any = [f.name for f in batch.schema if pa.types.is_string(f.type)]
                made = pq.ParquetWriter(
                    Path(folder) / name, batch.schema,
                    compression="lz4", use_dictionary=texts, write_statistics=False,
                )  # fmt: skip
                writer = open_file.enter_context(made)
            writer.write_batch(batch)
            count += batch.num_rows
    if count:
        yield pa.RecordBatch.from_pydict(
            {"place": pa.array([place], pa.int32()), "name": [name], "count": [count]}
        )


def _check(paths: Sequence[Path]) -> None:
    missing = [path for path in paths if not path.exists()]
    if missing:
        raise EngineError(
            f"executors wrote the rows of the query into {missing[0].parent}, where this process "
            f"does not find {len(missing)} of {len(paths)} files",
            hint="store= must name a folder that executors and this process share; "
            "SET gradbase.disabled_rules = 'choose_reading' has the rows sent here instead",
        )


def _read(paths: Sequence[Path], schema: pa.Schema, batch_rows: int) -> Generator[pa.RecordBatch]:
    """All rows; a file is deleted when it has been read."""
    import pyarrow.parquet as pq

    for path in paths:
        with pq.ParquetFile(path, memory_map=True) as file:
            for batch in file.iter_batches(batch_rows):
                yield reading.cast(batch, schema)
        path.unlink()
