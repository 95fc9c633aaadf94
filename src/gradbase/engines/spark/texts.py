"""Our texts as Spark's: backticks for double quotes, ``:name`` for ``$name``.

Statements of ours, and what is compiled, quote identifiers with ``"`` as every other engine does;
there a text stands in single quotes. What the user writes without any word of ours is not touched.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from typing import Any

from gradbase.engines.base import Parameters
from gradbase.errors import BindError, near

_LEXER = re.compile(
    r"""
    (?P<skip> --[^\n]* | /\*.*?(?:\*/|\Z) | [rR]'[^']*' | '(?:[^'\\]|\\.)*' | `(?:[^`]|``)*`
      | [^\W\d]\w* )
  | "(?P<quoted>(?:[^"]|"")*)"
  | \$(?P<name>\w+)
    """,
    re.VERBOSE | re.DOTALL,
)


def quoted(name: str) -> str:
    """`name` as Spark quotes it.

    Examples
    --------
    >>> print(quoted("my `big` table"))
    `my ``big`` table`
    """
    return "`" + name.replace("`", "``") + "`"


@functools.lru_cache(maxsize=512)
def sparks(sql: str) -> tuple[str, frozenset[str]]:
    """The text in Spark's spelling, and the names of its parameters.

    Examples
    --------
    >>> sparks("SELECT \\"a b\\", '$x', $p1")
    ("SELECT `a b`, '$x', :p1", frozenset({'p1'}))
    """
    names: set[str] = set()

    def written(found: re.Match[str]) -> str:
        if found["name"]:
            names.add(found["name"])
            return f":{found['name']}"
        if found["quoted"] is not None:
            return quoted(found["quoted"].replace('""', '"'))
        return found.group()

    return _LEXER.sub(written, sql), frozenset(names)


def values_of(
    names: frozenset[str], parameters: Parameters, *, missing_is_null: bool = False
) -> dict[str, Any]:
    """Values of the parameters that occur in a text of ours, and of no others."""
    if parameters is None or isinstance(parameters, Mapping):
        given = {str(n).removeprefix("$"): v for n, v in (parameters or {}).items()}
    else:
        given = {f"p{i}": v for i, v in enumerate(parameters, 1)}
        given |= {str(i): v for i, v in enumerate(parameters, 1)}
    missing = sorted(names - given.keys())
    if missing and not missing_is_null:
        raise BindError(
            f"parameter ${missing[0]} has no value; given are "
            f"{', '.join('$' + n for n in sorted(given)) or 'none'}",
            hint=near(missing[0], given),
        )
    return {name: plain(given.get(name)) for name in names}


def plain(value: Any) -> Any:
    """NumPy scalars as Python's."""
    is_scalar = type(value).__module__ == "numpy" and getattr(value, "ndim", None) == 0
    return value.item() if is_scalar else value
