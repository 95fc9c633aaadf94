"""Types of columns: what a relation's schema is made of.

The text of a type is its specification: ``parse_type(str(t)) == t`` for every type.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from dataclasses import dataclass

from gradbase.errors import BindError, ParseError, near

INTEGERS = (
    "int8", "int16", "int32", "int64", "int128",
    "uint8", "uint16", "uint32", "uint64", "uint128",
)  # fmt: skip
FLOATS = ("float32", "float64")
SIMPLE = (
    "null", "bool", *INTEGERS, *FLOATS, "text", "blob", "date", "time",
    "timestamp", "timestamptz", "interval", "uuid", "json",
)  # fmt: skip


@dataclass(frozen=True)
class SqlType:
    """A column type, engine-neutral.

    Parameters
    ----------
    kind : str
        One of ``SIMPLE``, or ``decimal``, ``enum``, ``array`` (fixed length), ``list``, ``struct``,
        ``other`` (an engine's own type: `text` holds its name there).
    element : SqlType, optional
        Of an ``array`` or ``list``.
    size : tuple of int
        ``decimal``: (precision, scale); ``array``: (length,).
    fields : tuple of (str, SqlType)
        Of a ``struct``.
    text : str
        Name of an ``other`` type in its engine.
    """

    kind: str
    element: SqlType | None = None
    size: tuple[int, ...] = ()
    fields: tuple[tuple[str, SqlType], ...] = ()
    text: str = ""

    def __str__(self) -> str:
        match self.kind:
            case "decimal":
                return f"decimal({self.size[0]},{self.size[1]})"
            case "array":
                return f"{self.element}[{self.size[0]}]"
            case "list":
                return f"list<{self.element}>"
            case "struct":
                return "struct<" + ", ".join(f"{quote(n)}: {t}" for n, t in self.fields) + ">"
            case "other":
                return f"other<{quote(self.text)}>"
        return self.kind

    @property
    def is_integer(self) -> bool:
        return self.kind in INTEGERS

    @property
    def is_float(self) -> bool:
        return self.kind in FLOATS

    @property
    def is_numeric(self) -> bool:
        return self.is_integer or self.is_float or self.kind == "decimal"

    @property
    def is_text(self) -> bool:
        return self.kind in ("text", "enum")

    @property
    def is_temporal(self) -> bool:
        return self.kind in ("date", "timestamp", "timestamptz")

    @property
    def is_vector(self) -> bool:
        return self.kind == "array" and self.element is not None and self.element.is_numeric

    @property
    def is_nested(self) -> bool:
        """Whether it is an array of arrays of numbers, all of fixed length: an image, say."""
        inner = self.element
        return self.kind == "array" and inner is not None and (inner.is_vector or inner.is_nested)

    @property
    def length(self) -> int:
        """Numbers in a vector, or in all arrays of an array of arrays."""
        inner = self.element.length if self.is_nested and self.element is not None else 1
        return self.size[0] * inner

    @property
    def width_bytes(self) -> int:
        """Bytes per value, estimated (a text counts 16)."""
        match self.kind:
            case "array" if self.element is not None:
                return self.size[0] * self.element.width_bytes
            case "struct":
                return sum(t.width_bytes for _, t in self.fields)
            case "list" if self.element is not None:
                return 8 * self.element.width_bytes
            case "bool" | "int8" | "uint8":
                return 1
            case "int16" | "uint16":
                return 2
            case "int32" | "uint32" | "float32" | "date":
                return 4
            case "int128" | "uint128" | "decimal" | "uuid" | "interval" | "text" | "json" | "blob":
                return 16
        return 8


BOOL, INT64, FLOAT32, FLOAT64, TEXT = (
    SqlType(k) for k in ("bool", "int64", "float32", "float64", "text")
)


def array_of(element: SqlType, length: int) -> SqlType:
    """Fixed-length vector type, e.g. ``float32[28]``."""
    return SqlType("array", element=element, size=(length,))


def list_of(element: SqlType) -> SqlType:
    """Variable-length list type."""
    return SqlType("list", element=element)


def struct_of(**fields: SqlType) -> SqlType:
    """Struct type with the given fields in order."""
    return SqlType("struct", fields=tuple(fields.items()))


_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*\Z")
_WORDS = "and as asc desc false first from is last model not null nulls or predict reads sql true"
RESERVED = frozenset(_WORDS.split())


def quote(name: str) -> str:
    """`name` as plan text: bare where that is unambiguous, else in double quotes."""
    if _PLAIN.match(name) and name.lower() not in RESERVED:
        return name
    return '"' + name.replace('"', '""') + '"'


@dataclass(frozen=True)
class Field:
    """One column of a schema."""

    name: str
    type: SqlType

    def __str__(self) -> str:
        return f"{quote(self.name)} {self.type}"


@dataclass(frozen=True)
class Schema:
    """Columns of a relation, in order, with distinct names.

    Raises
    ------
    BindError
        Two columns share a name.
    """

    fields: tuple[Field, ...]

    def __post_init__(self) -> None:
        if len(set(self.names)) != len(self.fields):
            twice = sorted({n for n in self.names if self.names.count(n) > 1})
            raise BindError(
                f"column names must be distinct, found twice: {', '.join(twice)}",
                hint="give one of them another name with AS",
            )

    @classmethod
    def of(cls, **columns: SqlType) -> Schema:
        return cls(tuple(Field(n, t) for n, t in columns.items()))

    @functools.cached_property
    def names(self) -> tuple[str, ...]:
        return tuple(f.name for f in self.fields)

    @functools.cached_property
    def _by_name(self) -> dict[str, SqlType]:
        return {f.name: f.type for f in self.fields}

    def __contains__(self, name: object) -> bool:
        return name in self._by_name

    def __iter__(self) -> Iterator[Field]:
        return iter(self.fields)

    def __len__(self) -> int:
        return len(self.fields)

    def type_of(self, name: str) -> SqlType:
        """Type of column `name`; BindError with near matches where there is none."""
        try:
            return self._by_name[name]
        except KeyError:
            raise BindError(
                f"there is no column `{name}`; columns are {', '.join(self.names)}",
                hint=near(name, self.names),
            ) from None

    def select(self, names: tuple[str, ...]) -> Schema:
        """The columns `names`, in that order."""
        return Schema(tuple(Field(n, self.type_of(n)) for n in names))

    @property
    def row_bytes(self) -> int:
        """Bytes per row, estimated."""
        return sum(f.type.width_bytes for f in self.fields)

    def __str__(self) -> str:
        return "(" + ", ".join(map(str, self.fields)) + ")"


_TOKEN = re.compile(r'\s*("(?:[^"]|"")*"|[A-Za-z_][A-Za-z0-9_.]*|\d+|[<>\[\](),:])')


def parse_type(text: str) -> SqlType:
    """Inverse of ``str(SqlType)``.

    Examples
    --------
    >>> parse_type("list<struct<label: text, prob: float64>>").element.fields[1][0]
    'prob'
    """
    tokens = _TOKEN.findall(text)
    found, rest = _parse_type(tokens)
    if rest or "".join(tokens) != re.sub(r'\s+(?=(?:[^"]*"[^"]*")*[^"]*\Z)', "", text):
        raise ParseError(f"`{text}` is not a type")
    return found


def unquote(token: str) -> str:
    """Inverse of `quote`."""
    return token[1:-1].replace('""', '"') if token.startswith('"') else token


def _parse_type(tokens: list[str]) -> tuple[SqlType, list[str]]:
    if not tokens:
        raise ParseError("a type is missing")
    head, rest = tokens[0], tokens[1:]
    match head:
        case "decimal":
            found, rest = SqlType("decimal", size=(int(rest[1]), int(rest[3]))), rest[5:]
        case "list":
            element, rest = _parse_type(rest[1:])
            found, rest = list_of(element), rest[1:]
        case "struct":
            found, rest = _parse_struct(rest[1:])
        case "other":
            found, rest = SqlType("other", text=unquote(rest[1])), rest[3:]
        case "enum":
            found = SqlType("enum")
        case _ if head in SIMPLE:
            found = SqlType(head)
        case _:
            raise ParseError(f"`{head}` is not a type", hint=near(head, SIMPLE))
    while rest and rest[0] == "[":
        found, rest = array_of(found, int(rest[1])), rest[3:]
    return found, rest


def _parse_struct(rest: list[str]) -> tuple[SqlType, list[str]]:
    fields: list[tuple[str, SqlType]] = []
    while rest[0] != ">":
        name = unquote(rest[0])
        kind, rest = _parse_type(rest[2:])
        fields.append((name, kind))
        rest = rest[1:] if rest[0] == "," else rest
    return SqlType("struct", fields=tuple(fields)), rest[1:]
