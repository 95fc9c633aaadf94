"""Rows of an engine in the types that the plan says: not every engine has structs and vectors."""

from __future__ import annotations

import json
from collections.abc import Generator

import pyarrow as pa

from gradbase.ir.types import Schema, SqlType
from gradbase.runtime.arrow_types import arrow_type
from gradbase.runtime.streams import Stream


def conformed(stream: Stream, schema: Schema) -> Stream:
    """Structs that come as JSON, and vectors that come as lists, as what they are."""
    wanted = {
        place: arrow_type(field.type)
        for place, (field, found) in enumerate(zip(schema, stream.schema.types, strict=False))
        if _differs(field.type, found)
    }
    if not wanted:
        return stream
    fields = [f.with_type(wanted.get(i, f.type)) for i, f in enumerate(stream.schema)]
    made = pa.schema(fields)

    def batches() -> Generator[pa.RecordBatch]:
        for batch in stream.batches:
            columns = [
                _turned(column, wanted[i]) if i in wanted else column
                for i, column in enumerate(batch.columns)
            ]
            yield pa.RecordBatch.from_arrays(columns, schema=made)

    return Stream(made, batches(), recut=stream.recut)


def _differs(of: SqlType, found: pa.DataType) -> bool:
    if pa.types.is_string(found):
        return _nested(of)
    return of.kind == "array" and pa.types.is_list(found)


def _nested(of: SqlType) -> bool:
    inner = of.element
    return of.kind == "struct" or (inner is not None and (_nested(inner) or bool(inner.element)))


def _turned(column: pa.Array, to: pa.DataType) -> pa.Array:
    if pa.types.is_string(column.type):
        values = [None if v is None else json.loads(v) for v in column.to_pylist()]
        return pa.array(values, to)
    return column.cast(to)
