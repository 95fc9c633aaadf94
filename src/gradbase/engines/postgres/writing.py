"""Arrow batches as the CSV that ``COPY … FROM STDIN`` takes: NULL is empty, texts are quoted."""

from __future__ import annotations

import json
import math
from typing import Any

import pyarrow as pa
import pyarrow.compute
import pyarrow.csv

from gradbase.engines.postgres.types import column_type
from gradbase.errors import DataError

kernels: Any = pyarrow.compute
_OPTIONS = pyarrow.csv.WriteOptions(include_header=False, quoting_style="needed")


def csv_of(batch: pa.RecordBatch) -> bytes:
    """The rows of a batch as lines."""
    columns = [_writable(column) for column in batch.columns]
    names = [f"c{i}" for i in range(len(columns))]
    if not columns:
        return b"\n" * batch.num_rows
    sink = pa.BufferOutputStream()
    pyarrow.csv.write_csv(pa.RecordBatch.from_arrays(columns, names), sink, _OPTIONS)
    return sink.getvalue().to_pybytes()


def _writable(column: pa.Array) -> pa.Array:
    """A column that the writer of CSV knows, in PostgreSQL's spelling."""
    if isinstance(column, pa.ExtensionArray):
        column = column.storage
    kind = column.type
    if pa.types.is_dictionary(kind):
        return _writable(column.dictionary_decode())
    if pa.types.is_null(kind):
        return column.cast(pa.string())
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return _without_nul(column)
    if pa.types.is_string_view(kind):
        return _without_nul(column.cast(pa.string()))
    if pa.types.is_float16(kind):
        return column.cast(pa.float32())
    if pa.types.is_primitive(kind) and not pa.types.is_interval(kind):
        return _text_of_times(column) if pa.types.is_temporal(kind) else column
    if pa.types.is_decimal(kind):
        return column.cast(pa.string())
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        return pa.array([None if v is None else f"\\x{v.hex()}" for v in column.to_pylist()])
    return _structured(column)


def _without_nul(column: pa.Array) -> pa.Array:
    if kernels.any(kernels.match_substring(column, "\0")).as_py():
        raise DataError("a text holds the character NUL, which PostgreSQL has not")
    return column


def _text_of_times(column: pa.Array) -> pa.Array:
    kind = column.type
    if pa.types.is_duration(kind):
        micros = column.cast(pa.duration("us")).cast(pa.int64()).to_pylist()
        return pa.array([None if m is None else f"{m} microseconds" for m in micros], pa.string())
    return column


def _structured(column: pa.Array) -> pa.Array:
    """Lists of numbers and texts as arrays, all that is deeper as JSON, spans of time as words."""
    kind = column.type
    if pa.types.is_interval(kind):
        found = (
            v and f"{v.months} months {v.days} days {v.nanoseconds // 1000} microseconds"
            for v in column.to_pylist()
        )
        return pa.array(list(found), pa.string())
    if column_type(kind) == "jsonb":
        return pa.array([None if v is None else _json(v) for v in column.to_pylist()], pa.string())
    return pa.array([None if v is None else _braced(v) for v in column.to_pylist()], pa.string())


def _json(value: Any) -> str:
    return json.dumps(_finite(value), default=str, ensure_ascii=False)


def _finite(value: Any) -> Any:
    """JSON has no NaN and no infinity: they are texts."""
    match value:
        case float() if not math.isfinite(value):
            return str(value)
        case list():
            return [_finite(v) for v in value]
        case dict():
            return {str(k): _finite(v) for k, v in value.items()}
        case bytes():
            return value.hex()
    return value


def _braced(values: list[Any]) -> str:
    """An array as PostgreSQL writes it."""
    return "{" + ",".join(map(_cell, values)) + "}"


def _cell(value: Any) -> str:
    match value:
        case None:
            return "NULL"
        case bool():
            return "t" if value else "f"
        case int() | float():
            return repr(value)
        case bytes():
            return f'"\\\\x{value.hex()}"'
    return '"' + str(value).replace("\\", "\\\\").replace('"', '\\"') + '"'
