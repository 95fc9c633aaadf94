"""Spark's types and ours, and constants in Spark's SQL.

What has no type of ours (maps, variants, intervals of months, geometry) is ``other`` with Spark's
name, and refused by it where it would have to be a feature.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from gradbase.engines.base import quote_identifier
from gradbase.engines.spark.grammar import DIALECT
from gradbase.engines.spark.texts import quoted
from gradbase.errors import DataError, UnsupportedError
from gradbase.ir.scalar import Value
from gradbase.ir.types import SqlType, list_of

_SIMPLE = {
    "BooleanType": "bool", "ByteType": "int8", "ShortType": "int16", "IntegerType": "int32",
    "LongType": "int64", "FloatType": "float32", "DoubleType": "float64", "StringType": "text",
    "VarcharType": "text", "CharType": "text", "BinaryType": "blob", "DateType": "date",
    "TimestampType": "timestamptz", "TimestampNTZType": "timestamp",
    "DayTimeIntervalType": "interval", "TimeType": "time", "NullType": "null",
}  # fmt: skip

_NAMES = {
    "bool": "BOOLEAN", "int8": "TINYINT", "int16": "SMALLINT", "int32": "INT", "int64": "BIGINT",
    "int128": "DECIMAL(38,0)", "uint8": "SMALLINT", "uint16": "INT", "uint32": "BIGINT",
    "uint64": "DECIMAL(20,0)", "uint128": "DECIMAL(38,0)", "float32": "FLOAT",
    "float64": "DOUBLE", "text": "STRING", "enum": "STRING", "uuid": "STRING", "json": "STRING",
    "blob": "BINARY", "date": "DATE", "time": "TIME", "timestamp": "TIMESTAMP_NTZ",
    "timestamptz": "TIMESTAMP", "interval": "INTERVAL DAY TO SECOND", "null": "VOID",
}  # fmt: skip

UNREADABLE = ("YearMonthIntervalType", "CalendarIntervalType")
"""Types that Spark does not hand over as Arrow; they are read as their text."""

_LARGEST_PRECISION = 38


def from_spark(found: Any) -> SqlType:
    """Our type of a ``pyspark.sql.types.DataType``."""
    kind = type(found).__name__
    match kind:
        case "DecimalType":
            return SqlType("decimal", size=(found.precision, found.scale))
        case "ArrayType":
            return list_of(from_spark(found.elementType))
        case "StructType":
            fields = tuple((f.name, from_spark(f.dataType)) for f in found.fields)
            return SqlType("struct", fields=fields)
    if kind in _SIMPLE:
        return SqlType(_SIMPLE[kind])
    return SqlType("other", text=found.simpleString())


def type_name(wanted: SqlType) -> str:
    """Spark's name of a type, for casts and declarations.

    Examples
    --------
    >>> from gradbase.ir.types import parse_type
    >>> type_name(parse_type("list<struct<label: text, prob: float64>>"))
    'ARRAY<STRUCT<"label": STRING, "prob": DOUBLE>>'
    """
    match wanted.kind:
        case "decimal":
            return f"DECIMAL({wanted.size[0]},{wanted.size[1]})"
        case "array" | "list" if wanted.element is not None:
            return f"ARRAY<{type_name(wanted.element)}>"
        case "struct":
            fields = (f"{quote_identifier(n)}: {type_name(t)}" for n, t in wanted.fields)
            return f"STRUCT<{', '.join(fields)}>"
        case "other":
            return wanted.text
    if wanted.kind not in _NAMES:
        raise UnsupportedError(f"Spark has no type for {wanted}")
    return _NAMES[wanted.kind]


class SparkDialect:
    """Spark's language, identifiers in double quotes (see `texts`)."""

    name = DIALECT
    star_words: frozenset[str] = frozenset()

    def identifier(self, name: str) -> str:
        """A name in Spark's quotes."""
        return quoted(name)

    def type_name(self, of: SqlType) -> str:
        """Spark's name of a type."""
        return type_name(of)

    def literal(self, value: Value, of: SqlType) -> str:
        """A constant, cast from text, so that no digit passes through another type."""
        if value is None:
            return f"CAST(NULL AS {type_name(of)})"
        if isinstance(value, bool):
            text = "TRUE" if value else "FALSE"
            return text if of.kind == "bool" else f"CAST({text} AS {type_name(of)})"
        if isinstance(value, bytes):
            return f"X'{value.hex()}'"
        written = text_literal(value) if isinstance(value, str) else f"'{value!r}'"
        return f"CAST({written} AS {type_name(of)})"

    def struct(self, values: Mapping[str, str]) -> str:
        """A struct of expressions by name."""
        pairs = (f"{text_literal(n)}, {v}" for n, v in values.items())
        return f"named_struct({', '.join(pairs)})"

    def nulls(self, direction: str) -> str:
        """NULL counts as the smallest."""
        return "first" if direction == "asc" else "last"

    def element(self, value: str, number: int) -> str:
        """An element of an array, from 1; NULL behind its end."""
        return f"try_element_at({value}, {number})"

    def from_json(self, text: str, structure: str) -> str:  # noqa: ARG002
        """JSON text as a value of any shape."""
        return f"parse_json({text})"


def text_literal(value: str) -> str:
    """A text in quotes; a backslash is doubled.

    Examples
    --------
    >>> print(text_literal("it's a \\\\"))
    'it''s a \\\\'
    """
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise DataError(f"{value!r} is no text: {error.reason}") from error
    return "'" + value.replace("\\", "\\\\").replace("'", "''") + "'"


def taken(rows: Any) -> pa.Table:
    """Rows in any form as an Arrow table of types that Spark takes."""
    if hasattr(rows, "read_all"):
        rows = rows.read_all()
    if type(rows).__module__.partition(".")[0] == "pandas":
        rows = pa.Table.from_pandas(rows, preserve_index=False)
    table = rows if isinstance(rows, pa.Table) else pa.table(rows)
    return table.cast(pa.schema([pa.field(f.name, _taken(f.type)) for f in table.schema]))


def _taken(of: pa.DataType) -> pa.DataType:
    if isinstance(of, pa.BaseExtensionType):
        return _taken(of.storage_type)
    if pa.types.is_dictionary(of):
        return _taken(of.value_type)
    if of in _TAKEN:
        return _TAKEN[of]
    if pa.types.is_decimal(of):
        return pa.decimal128(min(of.precision, _LARGEST_PRECISION), of.scale)
    if pa.types.is_timestamp(of):
        return pa.timestamp("us", of.tz)
    if pa.types.is_duration(of):
        return pa.duration("us")
    if pa.types.is_time(of):
        return pa.time64("ns")
    if pa.types.is_list(of) or pa.types.is_large_list(of) or pa.types.is_fixed_size_list(of):
        return pa.list_(_taken(of.value_type))
    if pa.types.is_struct(of):
        return pa.struct([pa.field(f.name, _taken(f.type)) for f in of.fields])
    return of


_TAKEN = {
    pa.uint8(): pa.int16(), pa.uint16(): pa.int32(), pa.uint32(): pa.int64(),
    pa.uint64(): pa.decimal128(20, 0), pa.float16(): pa.float32(), pa.date64(): pa.date32(),
    pa.string_view(): pa.string(), pa.large_string(): pa.string(), pa.large_binary(): pa.binary(),
    pa.binary_view(): pa.binary(),
}  # fmt: skip
"""Arrow's types that Spark has not, and what holds their values."""
