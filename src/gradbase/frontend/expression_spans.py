"""sqlglot's expression parser, made to remember which characters each node was read from."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from sqlglot import exp
from sqlglot.dialects.dialect import Dialect
from sqlglot.errors import SqlglotError

from gradbase.frontend.dialect import language

_PREFIX = "SELECT "
_LEVELS = (
    "expression", "assignment", "disjunction", "conjunction", "equality", "comparison", "range",
    "bitwise", "term", "factor", "exponent", "unary", "type", "column", "primary", "paren",
)  # fmt: skip


def _remembering(original: Callable[..., Any]) -> Callable[..., Any]:
    def parse(self: Any, *args: Any, **kwargs: Any) -> Any:
        first = self._curr
        node = original(self, *args, **kwargs)
        if isinstance(node, exp.Expression) and first is not None and self._prev is not None:
            node.meta["span"] = (first.start, self._prev.end + 1)
        return node

    return parse


@functools.cache
def _parser(language: str) -> tuple[type[Any], Dialect]:
    """A dialect, and its parser whose nodes carry their span in `meta`, level by level."""
    dialect = Dialect.get_or_raise(language)
    original = dialect.parser_class
    methods = {
        f"_parse_{level}": _remembering(getattr(original, f"_parse_{level}"))
        for level in _LEVELS
        if hasattr(original, f"_parse_{level}")
    }
    return type(f"{original.__name__}WithSpans", (original,), methods), dialect


def parse_expression(sql: str) -> exp.Expression | None:
    """The tree of one select item; None where sqlglot cannot read it."""
    text = _PREFIX + sql
    parser, dialect = _parser(language())
    try:
        trees = parser(dialect=dialect).parse(dialect.tokenize(text), text)
    except SqlglotError:
        return None
    if len(trees) != 1 or not isinstance(trees[0], exp.Select) or len(trees[0].expressions) != 1:
        return None
    found = trees[0].expressions[0]
    return found if isinstance(found, exp.Expression) else None


def span_of(node: exp.Expression) -> tuple[int, int] | None:
    """Characters [start, end) of the parsed text that `node` was read from, where known."""
    span = node.meta.get("span")
    return (span[0] - len(_PREFIX), span[1] - len(_PREFIX)) if span else None


def name_chain(node: exp.Expression) -> list[tuple[str, int, int]]:
    """(name, start, end) of each identifier of a column reference, in order of the text."""
    parts: list[tuple[str, int, int]] = []
    for part in node.parts if isinstance(node, exp.Column | exp.Dot) else [node]:
        if not isinstance(part, exp.Identifier) or "start" not in part.meta:
            break
        start, end = part.meta["start"], part.meta["end"] + 1
        parts.append((part.name, start - len(_PREFIX), end - len(_PREFIX)))
    return parts


def column_chains(node: exp.Expression) -> list[list[tuple[str, int, int]]]:
    """The references to columns below `node`, each span once."""
    found: dict[int, list[tuple[str, int, int]]] = {}
    for column in node.find_all(exp.Column, exp.Dot):
        if isinstance(column, exp.Dot) and not isinstance(column.this, exp.Identifier):
            continue
        chain = name_chain(column)
        if chain:
            found.setdefault(chain[0][1], chain)
    return [found[start] for start in sorted(found)]
