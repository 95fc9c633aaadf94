"""The language of the statement that is being bound: every engine names types in its own way."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar

from gradbase.ir.facts import Dialect
from gradbase.ir.scalar import Value
from gradbase.ir.types import SqlType

_current: ContextVar[Dialect] = ContextVar("dialect")


@contextmanager
def written_in(dialect: Dialect) -> Generator[None]:
    """What is read and written inside the block is `dialect`."""
    token = _current.set(dialect)
    try:
        yield
    finally:
        _current.reset(token)


def language() -> str:
    """What sqlglot calls the language."""
    return _current.get().name


def type_sql(of: SqlType) -> str:
    """The engine's name of a type; of an untyped NULL any will do."""
    return "INTEGER" if of.kind == "null" else _current.get().type_name(of)


def nulls_of(direction: str) -> str:
    """Where NULLs go that an ORDER BY does not speak of: first or last."""
    return _current.get().nulls(direction)


def element_sql(number: int) -> tuple[str, str]:
    """What stands before and behind a list to take its element, from 1."""
    before, behind = _current.get().element("\0", number).split("\0")
    return before, behind


def literal_sql(value: Value, of: SqlType) -> str:
    """A value as SQL."""
    match value:
        case None:
            return "NULL"
        case bool() | int() | str() if not {"\0", "\\"} & set(str(value)):
            return "'" + value.replace("'", "''") + "'" if isinstance(value, str) else str(value)
        case _:
            return _current.get().literal(value, of)
