"""Statements around a query: what stands before and after the part that holds predictions."""

from __future__ import annotations

from dataclasses import dataclass

from gradbase.errors import UnsupportedError, underline
from gradbase.frontend.tokens import Token, matching

QUERY_STARTS = frozenset(("SELECT", "WITH", "FROM", "VALUES", "TABLE"))
_WAY_OUT = "CREATE TABLE … AS SELECT the predictions first, then use that table"


@dataclass(frozen=True)
class Wrapped:
    """`before`, `query` and `after`; `before` and `after` are '' for a plain query.

    To run it, make the result of `query` readable as some view v and run
    ``before (SELECT * FROM v) after``.
    """

    before: str
    query: str
    after: str

    @property
    def is_plain(self) -> bool:
        return not self.before and not self.after


def wrapped(sql: str, tokens: list[Token], calls: list[tuple[int, int]]) -> Wrapped:
    """Split `sql` (a statement with predictions, or reading our system tables)."""
    head = tokens[0].upper or tokens[0].text
    match head:
        case "WITH":
            return _with(sql, tokens)
        case "SELECT" | "FROM" | "VALUES" | "TABLE" | "(":
            return Wrapped("", _cut(sql, tokens, 0, len(tokens)), "")
        case "INSERT":
            return _insert(sql, tokens, 0)
        case "CREATE":
            return _create(sql, tokens)
        case "SUMMARIZE" | "DESCRIBE" | "SHOW":
            return _around(sql, tokens, 1, len(tokens))
        case _:
            return _parenthesised(sql, tokens, calls)


def _cut(sql: str, tokens: list[Token], first: int, last: int) -> str:
    return sql[tokens[first].start : tokens[last - 1].end]


def _around(sql: str, tokens: list[Token], first: int, last: int) -> Wrapped:
    """The query is tokens [first, last); outer parentheses are taken off."""
    after = sql[tokens[last].start : tokens[-1].end] if last < len(tokens) else ""
    before = sql[: tokens[first].start]
    pairs = matching(tokens)
    while tokens[first].text == "(" and pairs.get(first) == last - 1:
        first, last = first + 1, last - 1
    return Wrapped(before, _cut(sql, tokens, first, last), after)


def _with(sql: str, tokens: list[Token]) -> Wrapped:
    """WITH … SELECT, or WITH … INSERT: there the query keeps the WITH."""
    depth = 0
    for i, token in enumerate(tokens):
        depth += (token.text == "(") - (token.text == ")")
        if depth or i == 0:
            continue
        if token.upper in ("SELECT", "FROM", "VALUES"):
            break
        if token.upper == "INSERT":
            inner = _insert(sql, tokens, i)
            with_clause = sql[: token.start]
            return Wrapped(inner.before[len(with_clause) :], with_clause + inner.query, inner.after)
        if token.upper in ("UPDATE", "DELETE", "MERGE"):
            raise _refused(sql, token, f"predictions in WITH before {token.upper}")
    return Wrapped("", _cut(sql, tokens, 0, len(tokens)), "")


def _insert(sql: str, tokens: list[Token], start: int) -> Wrapped:
    pairs = matching(tokens)
    first, i = 0, start + 1
    while i < len(tokens) and not first:
        word = tokens[i].upper
        inside = i + 1 < len(tokens) and tokens[i + 1].upper in QUERY_STARTS
        if word in QUERY_STARTS or (tokens[i].text == "(" and inside):
            first = i
        else:
            i = pairs.get(i, i) + 1
    if not first:
        raise _refused(sql, tokens[start], "predictions in this INSERT")
    if tokens[first].upper == "VALUES":
        raise _refused(
            sql, tokens[first], "predictions in VALUES", "INSERT INTO … SELECT PREDICT(…)"
        )
    return _around(sql, tokens, first, _end_of_insert(tokens, first, pairs))


def _end_of_insert(tokens: list[Token], first: int, pairs: dict[int, int]) -> int:
    i = first
    while i < len(tokens):
        word = tokens[i].upper
        if word == "RETURNING" or (word == "ON" and _word(tokens, i + 1) == "CONFLICT"):
            return i
        i = pairs.get(i, i) + 1
    return len(tokens)


def _word(tokens: list[Token], i: int) -> str:
    return tokens[i].upper if i < len(tokens) else ""


def _create(sql: str, tokens: list[Token]) -> Wrapped:
    kinds = [t.upper for t in tokens[:6]]
    for kind in ("VIEW", "MACRO", "FUNCTION"):
        if kind in kinds:
            raise _refused(
                sql,
                tokens[kinds.index(kind)],
                f"predictions in a {kind}, which the database runs without gradbase,",
                "CREATE TABLE … AS SELECT … stores the predictions",
            )
    pairs = matching(tokens)
    i = 0
    while i < len(tokens):
        if tokens[i].upper == "AS" and "TABLE" in kinds:
            return _around(sql, tokens, i + 1, _end_of_create(tokens))
        i = pairs.get(i, i) + 1
    raise _refused(sql, tokens[0], f"predictions in CREATE {kinds[1]}")


def _end_of_create(tokens: list[Token]) -> int:
    words = [t.upper for t in tokens[-3:]]
    if words[-3:] == ["WITH", "NO", "DATA"]:
        return len(tokens) - 3
    return len(tokens) - 2 if words[-2:] == ["WITH", "DATA"] else len(tokens)


def _parenthesised(sql: str, tokens: list[Token], calls: list[tuple[int, int]]) -> Wrapped:
    """COPY (…) TO, and any other statement: the one outermost subquery that holds all calls."""
    pairs = matching(tokens)
    first = calls[0][0] if calls else len(tokens)
    last = calls[-1][0] if calls else 0
    for opening, closing in sorted(pairs.items()):
        inside = opening < first and last < closing
        if inside and tokens[opening].text == "(" and tokens[opening + 1].upper in QUERY_STARTS:
            return _around(sql, tokens, opening, closing + 1)
    if not calls:
        # Nothing to predict: gradbase.leases and the like are replaced by name wherever they stand.
        return Wrapped("", sql, "")
    raise _refused(sql, tokens[0], f"predictions directly in {tokens[0].text.upper()}")


def _refused(sql: str, token: Token, what: str, hint: str = _WAY_OUT) -> UnsupportedError:
    return UnsupportedError(
        f"{what} cannot be run", at=underline(sql, token.start, token.end), hint=hint
    )
