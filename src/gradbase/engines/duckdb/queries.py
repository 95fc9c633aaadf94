"""What DuckDB's parser and binder say about a text, and ways of running it that cost little.

A relation (``connection.sql``) parses and binds a query when it is made, and again when it runs.
The client has methods of its own below its relations, that do each thing once. They are used here
and nowhere else; a client without them is served by public ones, which take longer.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import duckdb
import pyarrow as pa

from gradbase.engines.base import Parameters
from gradbase.engines.duckdb.types import from_duckdb
from gradbase.engines.duckdb.values import plain_schema
from gradbase.engines.rows import Row
from gradbase.ir.types import SqlType

Values = dict[str, Any] | list[Any] | None
Types = list[tuple[str, SqlType]]
Described = Sequence[tuple[Any, ...]]
"""Name and DuckDB's type of each column, and more."""

_LONGEST, _MOST = 32_768, 256
"""Characters of a text worth remembering, and how many of them."""

_COUNTING = frozenset(
    "INSERT UPDATE DELETE MERGE_INTO COPY CREATE DROP ALTER TRANSACTION SET VARIABLE_SET".split()
)
"""Kinds of statements that say how many rows they changed, or nothing; others have rows."""

_LITERAL = re.compile(r"\b\d+(?:\.\d+)?\b|'[^']*'(?:'[^']*')*")
_AWKWARD = re.compile(r"""["`$?\\]|--|/\*""")

_WRITING = re.compile(
    r"\bnextval\b|\bwith\b.*\b(insert|update|delete|merge)\b", re.IGNORECASE | re.DOTALL
)
"""A query that may change something; for a client that cannot be asked."""


def given(parameters: Parameters) -> Values:
    """Values of parameters as DuckDB takes them."""
    if isinstance(parameters, Mapping):
        return dict(parameters) or None
    return list(parameters) or None if parameters is not None else None


class Bound(NamedTuple):
    """Columns of a query, with DuckDB's types, and whether running it changes the database."""

    names: list[str]
    types: list[Any]
    writes: bool


def bind(connection: duckdb.DuckDBPyConnection, parsed: Parsed, sql: str, values: Values) -> Bound:
    """What the binder says about one query; nothing runs."""
    ask: Any = getattr(connection, "_bind", None)
    if ask is not None:
        names, types, _, _, _, writes = ask(parsed.of(sql), with_writes=True, values=values)
        return Bound(names, types, writes)
    rows = connection.execute(f"DESCRIBE {sql}", values).fetchall()
    types = [connection.sqltype(row[1]) for row in rows]
    return Bound([row[0] for row in rows], types, _WRITING.search(sql) is not None)


def table(connection: duckdb.DuckDBPyConnection, sql: str, values: Values) -> pa.Table:
    """All rows of one query."""
    submit: Any = getattr(connection, "_submit", None)
    if submit is None:
        return connection.sql(sql, params=values).to_arrow_table()
    return submit(sql, values, "arrow").arrow_table()


def reader(
    connection: duckdb.DuckDBPyConnection, sql: str, values: Values, batch_rows: int
) -> pa.RecordBatchReader:
    """Rows of one query as they come; the connection is busy until they are read or closed."""
    submit: Any = getattr(connection, "_submit", None)
    if submit is None:
        return connection.sql(sql, params=values).to_arrow_reader(batch_rows)
    return submit(sql, values, "stream", batch_rows).arrow_reader()


def plain_rows(
    connection: duckdb.DuckDBPyConnection, parsed: Parsed, sql: str, values: Values
) -> tuple[list[Row], Described]:
    """All rows of one query as DuckDB makes them."""
    connection.execute(parsed.of(sql), values)
    described = connection.description
    return connection.fetchall(), described


def changed(
    connection: duckdb.DuckDBPyConnection, parsed: Parsed, sql: str, values: Values
) -> list[Row]:
    """Run a statement that has no rows: how many it changed, if it counts them."""
    connection.execute(parsed.of(sql), values)
    return connection.fetchall()


def everything(
    connection: duckdb.DuckDBPyConnection, sql: str, values: Values
) -> tuple[Types, pa.Table]:
    """Run any statement, or several: columns and rows of the last."""
    # None where the text is a comment only. Its truth value would count the rows by another query.
    found: Any = connection.sql(sql, params=values)
    if found is None or found.columns == ["Success"]:
        return [], pa.table({})
    return types_of(found.columns, found.types), found.to_arrow_table()


def types_of(names: Iterable[str], types: Iterable[Any]) -> Types:
    """Names and types of columns in our words."""
    return [(n, from_duckdb(t)) for n, t in zip(names, types, strict=True)]


@dataclass
class Parsed:
    """What is known of a text, and of all that differ from it in numbers and strings only.

    Parameters
    ----------
    sql : str
        The text.
    statements : list of duckdb.Statement
    kinds : tuple of str
        Of each statement: ``SELECT``, ``INSERT``, …
    parameters : frozenset of str
        Names; numbers for ``?`` and ``$1``.
    counts : bool
        One statement that has no rows, but a number of them, or nothing at all.
    is_query : bool
        One SELECT.
    waits : bool, optional
        Whether it may wait until its rows are asked for, since it only reads; None: the binder has
        not been asked since names last changed their meaning.
    plain : bool
        Whether all its columns were plain then (see `plain_schema`).
    """

    sql: str
    statements: list[duckdb.Statement]
    kinds: tuple[str, ...]
    parameters: frozenset[str]
    counts: bool
    is_query: bool
    waits: bool | None = None
    plain: bool = False

    def of(self, sql: str) -> duckdb.Statement | str:
        """What to run for `sql`: parsed already, if it is this very text."""
        return self.statements[0] if sql == self.sql else sql

    def remember(self, bound: Bound) -> None:
        """Keep what the binder said."""
        self.waits = not bound.writes
        self.plain = plain_schema(zip(bound.names, bound.types, strict=True)) is not None


class Parser:
    """Parses a text once for as long as it is used; a statement is usually run many times.

    Parameters
    ----------
    statements : callable
        DuckDB's own parser.
    """

    def __init__(self, statements: Callable[[str], list[duckdb.Statement]]) -> None:
        self._statements = statements
        self._known: dict[str, Parsed] = {}

    def parse(self, sql: str) -> Parsed:
        """What the parser says about `sql`."""
        known = self._known.get(sql)
        if known is not None:
            return known
        if len(sql) > _LONGEST:
            return self._parse(sql)
        shape = _shape(sql)
        known = self._known.get(shape)
        if known is None:
            if len(self._known) >= _MOST:
                self._known.clear()
            known = self._known[shape] = self._known[sql] = self._parse(sql)
        return known

    def forget(self) -> None:
        """A statement has changed what names, or the text itself, may mean."""
        self._known.clear()

    def _parse(self, sql: str) -> Parsed:
        found = self._statements(sql)
        try:
            kinds = tuple(s.type.name for s in found)
        except ValueError:  # a kind that the Python client has no name for
            kinds = ("OTHER",)
        return Parsed(
            sql,
            found,
            kinds,
            frozenset(n for s in found for n in s.named_parameters),
            # RETURNING of a change, RETURN_FILES of a COPY
            counts=len(kinds) == 1 and kinds[0] in _COUNTING and "return" not in sql.casefold(),
            is_query=kinds == ("SELECT",),
        )


def _shape(sql: str) -> str:
    """The text without its numbers and strings, where that is easy to see.

    Examples
    --------
    >>> _shape("SELECT a FROM t1 WHERE id = 7 AND s = 'it''s'")
    'SELECT a FROM t1 WHERE id = 0 AND s = 0'
    """
    return sql if _AWKWARD.search(sql) else _LITERAL.sub("0", sql)
