"""Values into SQL text: ``COPY`` and ``PREPARE`` without running take no parameters.

The driver's own quoting writes them. Names and places of parameters are found by a lexer that knows
strings, dollar quotes, quoted names and comments.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping, Sequence
from typing import Any

import psycopg
from psycopg import sql as quoting

from gradbase.engines.base import Parameters
from gradbase.errors import BindError, near

_LEXER = re.compile(
    r"""
    (?P<skip> --[^\n]* | /\*.*?\*/ | [eE]'(?:[^'\\]|\\.|'')*' | '(?:[^']|'')*' | "(?:[^"]|"")*"
      | \$(?P<tag>[A-Za-z_]\w*)?\$.*?\$(?P=tag)\$ | \$\$.*?\$\$ | [A-Za-z_][\w$]* )
  | \$(?P<name>\w+) | (?P<mark>\?)
    """,
    re.VERBOSE | re.DOTALL,
)


@functools.lru_cache(maxsize=512)
def pieces(sql: str) -> tuple[tuple[str, str], ...]:
    """Text and the name of the parameter behind it; the last has none. ``?`` are numbered.

    Examples
    --------
    >>> pieces("SELECT '$1' || $x, ?")
    (("SELECT '$1' || ", 'x'), (', ', '1'), ('', ''))
    """
    found: list[tuple[str, str]] = []
    start = marks = 0
    for token in _LEXER.finditer(sql):
        name = token["name"]
        if token["mark"]:
            marks += 1
            name = str(marks)
        if name:
            found.append((sql[start : token.start()], name))
            start = token.end()
    return (*found, (sql[start:], ""))


def written(
    sql: str,
    parameters: Parameters,
    connection: psycopg.Connection[Any],
    *,
    missing_is_null: bool = False,
) -> str:
    """`sql` with values in the place of parameters; as it is where none were given."""
    if parameters is None and not missing_is_null:
        return sql
    if "$" not in sql and "?" not in sql:
        return sql
    values = by_name(parameters)
    if not values and not missing_is_null:
        return sql
    text = ""
    for before, name in pieces(sql):
        text += before
        if name:
            text += _quoted(name, values, connection, missing_is_null=missing_is_null)
    return text


def by_name(parameters: Parameters) -> dict[str, Any]:
    """Values by the names of `pieces`."""
    if parameters is None:
        return {}
    if isinstance(parameters, Mapping):
        return {str(name).removeprefix("$"): value for name, value in parameters.items()}
    return {str(number): value for number, value in enumerate(parameters, 1)}


def _quoted(
    name: str,
    values: Mapping[str, Any],
    connection: psycopg.Connection[Any],
    *,
    missing_is_null: bool,
) -> str:
    if name not in values and not missing_is_null:
        raise BindError(
            f"parameter ${name} has no value; given are "
            f"{', '.join('$' + n for n in sorted(values)) or 'none'}",
            hint=near(name, values),
        )
    return "(" + quoting.Literal(plain(values.get(name))).as_string(connection) + ")"


def plain(value: Any) -> Any:
    """NumPy scalars as Python's."""
    return value.item() if hasattr(value, "item") and not isinstance(value, Sequence) else value
