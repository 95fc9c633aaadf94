"""PostgreSQL's types and ours.

An unconstrained ``numeric`` is read as a double, one with precision is exact. What has no type of
ours (intervals of time zones, networks, ranges, geometry, composite types) is ``other``: it is read
as its text, and refused by name where it would have to be a feature.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import psycopg
import pyarrow as pa

from gradbase.engines.base import quote_identifier
from gradbase.errors import DataError, UnsupportedError
from gradbase.ir.scalar import Value
from gradbase.ir.types import SqlType, array_of, list_of

NUMERIC, VOID, UNKNOWN = 1700, 2278, 705

_BY_OID: dict[int, str] = {
    16: "bool", 17: "blob", 18: "text", 19: "text", 20: "int64", 21: "int16", 23: "int32",
    25: "text", 26: "int64", 114: "json", 142: "text", 700: "float32", 701: "float64",
    1042: "text", 1043: "text", 1082: "date", 1083: "time", 1114: "timestamp",
    1184: "timestamptz", 1186: "interval", 2950: "uuid", 3802: "json", UNKNOWN: "text",
    VOID: "text",
}  # fmt: skip

_ARRAYS: dict[int, int] = {
    1000: 16, 1001: 17, 1002: 18, 1003: 19, 1005: 21, 1007: 23, 1009: 25, 1014: 1042, 1015: 1043,
    1016: 20, 1021: 700, 1022: 701, 1028: 26, 1115: 1114, 1182: 1082, 1183: 1083, 1185: 1184,
    1231: NUMERIC, 2951: 2950, 199: 114, 3807: 3802,
}  # fmt: skip
"""Array -> its element."""

_NAMES = {
    "bool": "boolean", "int8": "smallint", "int16": "smallint", "int32": "integer",
    "int64": "bigint", "int128": "numeric(38,0)", "uint8": "smallint", "uint16": "integer",
    "uint32": "bigint", "uint64": "numeric(20,0)", "uint128": "numeric(38,0)",
    "float32": "real", "float64": "double precision", "text": "text", "enum": "text",
    "blob": "bytea", "date": "date", "time": "time", "timestamp": "timestamp",
    "timestamptz": "timestamptz", "interval": "interval", "uuid": "uuid", "json": "jsonb",
    "null": "text", "struct": "jsonb",
}  # fmt: skip

_ARROW = {
    pa.bool_(): "boolean", pa.int8(): "smallint", pa.int16(): "smallint", pa.int32(): "integer",
    pa.int64(): "bigint", pa.uint8(): "smallint", pa.uint16(): "integer", pa.uint32(): "bigint",
    pa.uint64(): "numeric(20,0)", pa.float16(): "real", pa.float32(): "real",
    pa.float64(): "double precision", pa.date32(): "date", pa.date64(): "date",
    pa.null(): "text",
}  # fmt: skip

_LARGEST_PRECISION = 38


@dataclass(frozen=True)
class Described:
    """A column as the server describes it.

    `wire` is what its values are in binary: the OID of a type of the server's own, or the name of
    one that an extension has; where `cast` they are read as text.
    """

    name: str
    type: SqlType
    wire: int | str
    cast: bool = False


class Catalogue:
    """What the OIDs above the server's own mean: enums, pgvector, and the rest by name."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[str, str, int]] = {}

    def missing(self, oids: set[int]) -> list[int]:
        """Those of `oids` that the server must be asked about."""
        own = _BY_OID.keys() | _ARRAYS.keys() | {NUMERIC}
        return sorted(oids - own - self._known.keys())

    def ask(self, connection: psycopg.Connection[tuple[object, ...]], oids: list[int]) -> None:
        """Learn the names of types; the connection is free."""
        query = (
            "SELECT t.oid::bigint, t.typname, t.typtype, t.typelem::bigint "
            "FROM pg_catalog.pg_type t WHERE t.oid = ANY(%s)"
        )
        found = connection.execute(query, [oids], prepare=False).fetchall()
        for oid, name, kind, element in found:
            self._known[oid] = (name, kind, element)  # type: ignore[index, assignment]

    def described(self, name: str, oid: int, modifier: int) -> Described:
        """A column of type `oid`."""
        if oid in _BY_OID:
            return Described(name, SqlType(_BY_OID[oid]), oid)
        if oid == NUMERIC:
            return Described(name, _numeric(modifier), oid)
        if oid in _ARRAYS:
            element = self.described(name, _ARRAYS[oid], modifier)
            return Described(name, list_of(element.type), oid)
        called, kind, _ = self._known.get(oid, (f"type {oid}", "b", 0))
        if kind == "e":
            return Described(name, SqlType("enum"), 25)
        if called in ("vector", "halfvec"):
            of = SqlType("float32")
            vector = array_of(of, modifier) if modifier > 0 else list_of(of)
            return Described(name, vector, called)
        if called == "citext":
            return Described(name, SqlType("text"), 25)
        return Described(name, SqlType("other", text=called), 25, cast=True)


def element_of(oid: int) -> int:
    """The OID of an array's elements."""
    return _ARRAYS[oid]


def _numeric(modifier: int) -> SqlType:
    precision, scale = (modifier - 4) >> 16, (modifier - 4) & 0x7FF
    if modifier < 4 or precision > _LARGEST_PRECISION or scale > precision:
        return SqlType("float64")
    return SqlType("decimal", size=(precision, scale))


def arrow_of(of: SqlType) -> pa.DataType:
    """The Arrow type of columns that are read."""
    match of.kind:
        case "decimal":
            return pa.decimal128(*of.size)
        case "array" if of.element is not None:
            return pa.list_(arrow_of(of.element), of.size[0])
        case "list" if of.element is not None:
            return pa.list_(arrow_of(of.element))
        case _:
            return _READ.get(of.kind, pa.string())


_READ = {
    "bool": pa.bool_(), "int16": pa.int16(), "int32": pa.int32(), "int64": pa.int64(),
    "float32": pa.float32(), "float64": pa.float64(), "blob": pa.binary(), "date": pa.date32(),
    "time": pa.time64("us"), "timestamp": pa.timestamp("us"),
    "timestamptz": pa.timestamp("us", "UTC"), "interval": pa.month_day_nano_interval(),
}  # fmt: skip


def column_type(of: pa.DataType) -> str:
    """The type of a column that takes Arrow values."""
    if pa.types.is_dictionary(of):
        return column_type(of.value_type)
    if pa.types.is_timestamp(of):
        return "timestamptz" if of.tz else "timestamp"
    if pa.types.is_decimal(of):
        return f"numeric({of.precision},{of.scale})"
    if pa.types.is_time(of):
        return "time"
    if pa.types.is_duration(of) or pa.types.is_interval(of):
        return "interval"
    if pa.types.is_struct(of) or pa.types.is_map(of):
        return "jsonb"
    if pa.types.is_list(of) or pa.types.is_large_list(of) or pa.types.is_fixed_size_list(of):
        inner = column_type(of.value_type)
        return "jsonb" if inner == "jsonb" or inner.endswith("[]") else f"{inner}[]"
    if pa.types.is_binary(of) or pa.types.is_large_binary(of):
        return "bytea"
    return _ARROW.get(of, "text")


def type_name(wanted: SqlType) -> str:
    """PostgreSQL's name of a type, for casts and declarations.

    Examples
    --------
    >>> from gradbase.ir.types import parse_type
    >>> type_name(parse_type("float32[3]")), type_name(parse_type("list<text>"))
    ('real[]', 'text[]')
    """
    match wanted.kind:
        case "decimal":
            return f"numeric({wanted.size[0]},{wanted.size[1]})"
        case "array" | "list" if wanted.element is not None:
            inner = type_name(wanted.element)
            return "jsonb" if inner == "jsonb" or inner.endswith("[]") else f"{inner}[]"
        case "other":
            return wanted.text
    if wanted.kind not in _NAMES:
        raise UnsupportedError(f"PostgreSQL has no type for {wanted}")
    return _NAMES[wanted.kind]


class PostgresDialect:
    """PostgreSQL's language."""

    name = "postgres"
    star_words: frozenset[str] = frozenset()

    def identifier(self, name: str) -> str:
        """A name in double quotes."""
        return quote_identifier(name)

    def type_name(self, of: SqlType) -> str:
        """PostgreSQL's name of a type."""
        return type_name(of)

    def literal(self, value: Value, of: SqlType) -> str:
        """A constant, cast from text, so that no digit passes through another type."""
        if value is None:
            return f"CAST(NULL AS {type_name(of)})"
        if isinstance(value, bool):
            text = "TRUE" if value else "FALSE"
            return text if of.kind == "bool" else f"CAST({text} AS {type_name(of)})"
        if isinstance(value, bytes):
            return f"decode('{value.hex()}', 'hex')"
        return (
            f"CAST({_text(value) if isinstance(value, str) else repr_of(value)} AS {type_name(of)})"
        )

    def struct(self, values: Mapping[str, str]) -> str:
        """JSON of expressions by name."""
        pairs = (f"{_text(n)}, {v}" for n, v in values.items())
        return f"jsonb_build_object({', '.join(pairs)})"

    def nulls(self, direction: str) -> str:
        """NULL counts as the largest."""
        return "last" if direction == "asc" else "first"

    def element(self, value: str, number: int) -> str:
        """An element of an array, from 1."""
        return f"({value})[{number}]"

    def from_json(self, text: str, structure: str) -> str:  # noqa: ARG002
        """JSON text as JSON."""
        return f"CAST({text} AS jsonb)"


def repr_of(value: float) -> str:
    """A number as quoted text."""
    return f"'{value!r}'"


def _text(value: str) -> str:
    """A text in quotes, whatever ``standard_conforming_strings`` says."""
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise DataError(f"{value!r} is no text: {error.reason}") from error
    if "\0" in value:
        raise DataError(
            "a text holds the character NUL, which PostgreSQL has not",
            hint="replace(…, chr(0), '') on the other side",
        )
    quoted = value.replace("'", "''")
    if "\\" not in quoted:
        return f"'{quoted}'"
    return "E'" + quoted.replace("\\", "\\\\") + "'"


def identifiers(names: list[str]) -> str:
    """Names with commas between them."""
    return ", ".join(quote_identifier(n) for n in names)
