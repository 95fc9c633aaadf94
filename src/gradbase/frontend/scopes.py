"""WITH: the named queries that a piece of a statement can see."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from gradbase.frontend.rich import Bound, Rich, join_pieces
from gradbase.frontend.tokens import significant


@dataclass(frozen=True)
class NamedQuery:
    """One query of a WITH: `definition` is ``name AS (…)``; `bound` where it holds predictions."""

    definition: Rich
    recursive: bool
    bound: Bound | None = None


Scope = Mapping[str, NamedQuery]
"""By casefolded name, in order of definition."""


def with_prefix(text: Rich, scope: Scope) -> Rich:
    """`text` behind a WITH of the named queries that it uses, directly or through others."""
    if not scope:
        return text
    wanted: set[str] = set()
    stack = [text]
    while stack:
        for name in _names(stack.pop()) & set(scope):
            if name not in wanted:
                wanted.add(name)
                stack.append(scope[name].definition)
    if not wanted:
        return text
    used = [q for name, q in scope.items() if name in wanted]
    parts: list[str | Rich] = ["WITH RECURSIVE " if any(q.recursive for q in used) else "WITH "]
    for i, query in enumerate(used):
        parts += [", " if i else "", query.definition]
    return join_pieces(*parts, " ", text)


def _names(text: Rich) -> set[str]:
    pieces = [p for p in text.pieces if isinstance(p, str)]
    return {t.name.casefold() for piece in pieces for t in significant(piece) if t.is_name}
