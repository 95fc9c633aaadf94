"""DuckDB's types and ours."""

from __future__ import annotations

from typing import Any

from gradbase.engines.base import quote_identifier
from gradbase.errors import UnsupportedError
from gradbase.ir.types import SqlType, array_of, list_of

_SIMPLE = {
    "boolean": "bool",
    "tinyint": "int8",
    "smallint": "int16",
    "integer": "int32",
    "bigint": "int64",
    "hugeint": "int128",
    "utinyint": "uint8",
    "usmallint": "uint16",
    "uinteger": "uint32",
    "ubigint": "uint64",
    "uhugeint": "uint128",
    "float": "float32",
    "double": "float64",
    "varchar": "text",
    "blob": "blob",
    "date": "date",
    "time": "time",
    "timestamp": "timestamp",
    "timestamp_s": "timestamp",
    "timestamp_ms": "timestamp",
    "timestamp_ns": "timestamp",
    "timestamp with time zone": "timestamptz",
    "interval": "interval",
    "uuid": "uuid",
    "enum": "enum",
    "null": "null",
}

_NAMES = {
    **{ours: theirs.upper() for theirs, ours in _SIMPLE.items()},
    "timestamp": "TIMESTAMP",
    "json": "JSON",
    "enum": "VARCHAR",
    "null": '"NULL"',
}


def from_duckdb(found: Any) -> SqlType:
    """Our type of a ``DuckDBPyType``; one we have no word for keeps its name as ``other``."""
    kind = found.id
    match kind:
        case "decimal":
            sizes = dict(found.children)
            return SqlType("decimal", size=(sizes["precision"], sizes["scale"]))
        case "array":
            parts = dict(found.children)
            return array_of(from_duckdb(parts["child"]), parts["size"])
        case "list":
            return list_of(from_duckdb(found.children[0][1]))
        case "struct":
            return SqlType("struct", fields=tuple((n, from_duckdb(t)) for n, t in found.children))
        case "varchar" if str(found) == "JSON":
            return SqlType("json")
    if kind in _SIMPLE:
        return SqlType(_SIMPLE[kind])
    return SqlType("other", text=str(found))


def type_name(wanted: SqlType) -> str:
    """DuckDB's name of a type, for casts and declarations.

    Examples
    --------
    >>> from gradbase.ir.types import parse_type
    >>> type_name(parse_type("list<struct<label: text, prob: float64>>"))
    'STRUCT("label" VARCHAR, "prob" DOUBLE)[]'
    """
    match wanted.kind:
        case "decimal":
            return f"DECIMAL({wanted.size[0]},{wanted.size[1]})"
        case "array" if wanted.element is not None:
            return f"{type_name(wanted.element)}[{wanted.size[0]}]"
        case "list" if wanted.element is not None:
            return f"{type_name(wanted.element)}[]"
        case "struct":
            fields = (f"{quote_identifier(n)} {type_name(t)}" for n, t in wanted.fields)
            return f"STRUCT({', '.join(fields)})"
        case "other":
            return wanted.text
    if wanted.kind not in _NAMES:
        raise UnsupportedError(f"DuckDB has no type for {wanted}")
    return _NAMES[wanted.kind]
