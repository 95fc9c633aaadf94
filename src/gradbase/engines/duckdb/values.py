"""Which of DuckDB's own Python values say as much as Arrow does, and their Arrow form."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from typing import Any

import pyarrow as pa

from gradbase.engines.rows import Row

_PLAIN: dict[str, pa.DataType] = {
    "boolean": pa.bool_(),
    "tinyint": pa.int8(),
    "smallint": pa.int16(),
    "integer": pa.int32(),
    "bigint": pa.int64(),
    "hugeint": pa.decimal128(38, 0),
    "utinyint": pa.uint8(),
    "usmallint": pa.uint16(),
    "uinteger": pa.uint32(),
    "ubigint": pa.uint64(),
    "float": pa.float32(),
    "double": pa.float64(),
    "varchar": pa.string(),
    "blob": pa.binary(),
    "date": pa.date32(),
    "timestamp": pa.timestamp("us"),
}
"""DuckDB's types whose Python values hold all that their Arrow form holds."""


def plain_schema(described: Iterable[tuple[str, Any]]) -> pa.Schema | None:
    """Arrow schema of columns (names and DuckDB's types) that are all plain, else None."""
    fields: list[tuple[str, pa.DataType]] = []
    for name, kind in described:
        of = _PLAIN.get(kind.id)
        if kind.id == "decimal":
            sizes = dict(kind.children)
            of = pa.decimal128(sizes["precision"], sizes["scale"])
            if of == _PLAIN["hugeint"]:  # in Arrow nobody could tell the two apart
                return None
        if of is None or str(kind) == "JSON":
            return None
        fields.append((name, of))
    return pa.schema(fields)


def table_of(rows: list[Row], schema: pa.Schema) -> pa.Table | None:
    """Plain rows as the table that DuckDB would have given; None for what is not plain after all.

    That is a date that Python has none for: infinity is the last one there is, others are text.
    """
    columns = zip(*rows, strict=True) if rows else ([] for _ in schema)
    arrays: list[pa.Array] = []
    for values, field in zip(columns, schema, strict=True):
        if pa.types.is_temporal(field.type) and any(map(_is_beyond, values)):
            return None
        try:
            arrays.append(pa.array(values, field.type))
        except pa.ArrowInvalid:  # a HUGEINT of 39 digits
            arrays.append(pa.array(values, pa.decimal256(39, 0)))
    return pa.Table.from_arrays(arrays, schema.names)


def _is_beyond(value: Any) -> bool:
    return isinstance(value, str) or value in _LAST


_LAST = (dt.date.max, dt.date.min, dt.datetime.max, dt.datetime.min)  # noqa: DTZ901
