"""Arrow's types and arrays for our column types and constants."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from gradbase.errors import UnsupportedError
from gradbase.ir.scalar import Literal
from gradbase.ir.types import SqlType

_SIMPLE = {
    "null": pa.null(), "bool": pa.bool_(), "int8": pa.int8(), "int16": pa.int16(),
    "int32": pa.int32(), "int64": pa.int64(), "uint8": pa.uint8(), "uint16": pa.uint16(),
    "uint32": pa.uint32(), "uint64": pa.uint64(), "int128": pa.decimal128(38, 0),
    "uint128": pa.decimal128(38, 0), "float32": pa.float32(), "float64": pa.float64(),
    "text": pa.string(), "enum": pa.string(), "uuid": pa.string(), "json": pa.string(),
    "blob": pa.binary(), "date": pa.date32(), "time": pa.time64("us"),
    "timestamp": pa.timestamp("us"), "timestamptz": pa.timestamp("us", "UTC"),
    "interval": pa.month_day_nano_interval(),
}  # fmt: skip


def arrow_type(of: SqlType) -> pa.DataType:
    """The Arrow type in which columns of type `of` leave a model.

    Examples
    --------
    >>> arrow_type(SqlType("decimal", size=(9, 2)))
    Decimal128Type(decimal128(9, 2))
    """
    match of.kind:
        case "decimal":
            return pa.decimal128(*of.size)
        case "array" if of.element is not None:
            return pa.list_(arrow_type(of.element), of.size[0])
        case "list" if of.element is not None:
            return pa.list_(arrow_type(of.element))
        case "struct":
            return pa.struct([(n, arrow_type(t)) for n, t in of.fields])
        case _ if of.kind in _SIMPLE:
            return _SIMPLE[of.kind]
    raise UnsupportedError(f"type {of} has no Arrow form", hint="cast the column in the query")


def constants(literals: Sequence[Literal], of: SqlType) -> pa.Array:
    """Constants as an Arrow array of type `of`; dates, decimals and the like are given as text."""
    target = arrow_type(of)
    values = [literal.value for literal in literals]
    if any(isinstance(v, str) for v in values):
        return pa.array([None if v is None else str(v) for v in values], pa.string()).cast(target)
    if pa.types.is_decimal(target):
        return pa.array(values).cast(target)
    return pa.array(values, target)
