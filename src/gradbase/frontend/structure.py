"""The clauses of a query, found by words and brackets alone; expressions are not looked into."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from gradbase.errors import ParseError, underline
from gradbase.frontend.tokens import Token, matching, significant
from gradbase.frontend.words import without_semicolon
from gradbase.frontend.wrapping import QUERY_STARTS

Span = tuple[int, int]
"""First token and the one after the last."""

CLAUSES = (
    "SELECT",
    "FROM",
    "WHERE",
    "GROUP",
    "HAVING",
    "WINDOW",
    "QUALIFY",
    "ORDER",
    "LIMIT",
    "OFFSET",
)
SET_OPERATORS = frozenset(("UNION", "INTERSECT", "EXCEPT"))
JOIN_WORDS = frozenset(
    "NATURAL ASOF POSITIONAL CROSS SEMI ANTI LEFT RIGHT FULL INNER OUTER JOIN".split()
)
_AFTER_FACTOR = JOIN_WORDS | frozenset(
    "ON USING TABLESAMPLE PIVOT UNPIVOT WITH AS WHERE AT MATCH_RECOGNIZE".split()
)


@dataclass(frozen=True)
class Text:
    """A query's text with its tokens and matching brackets."""

    sql: str
    tokens: list[Token] = field(repr=False)
    pairs: dict[int, int] = field(repr=False)

    @classmethod
    def of(cls, sql: str) -> Text:
        tokens = without_semicolon(significant(sql))
        return cls(sql, tokens, matching(tokens))

    def slice(self, span: Span) -> str:
        """The user's text of tokens [first, last)."""
        first, last = span
        return (
            self.sql[self.tokens[first].start : self.tokens[last - 1].end] if first < last else ""
        )

    def word(self, i: int) -> str:
        """Upper-case bare word, or the text of an operator; '' past the end."""
        if not 0 <= i < len(self.tokens):
            return ""
        token = self.tokens[i]
        return token.upper or (token.text if token.kind == "op" else "")

    def at(self, span: Span) -> str:
        """The span underlined, for errors."""
        first, last = span
        return underline(self.sql, self.tokens[first].start, self.tokens[last - 1].end)

    def after(self, i: int) -> int:
        """The token after the one at `i`, a bracket taken with all it holds."""
        return self.pairs.get(i, i) + 1

    def split(self, span: Span, separator: str = ",") -> list[Span]:
        """`span` cut at `separator` outside brackets; no empty pieces."""
        pieces: list[Span] = []
        start = i = span[0]
        while i < span[1]:
            if self.word(i) == separator:
                pieces.append((start, i))
                start = i + 1
            i = self.after(i)
        pieces.append((start, span[1]))
        return [p for p in pieces if p[0] < p[1]]

    def subqueries(self, span: Span) -> list[Span]:
        """Outermost parenthesised queries in `span`, parentheses included."""
        found: list[Span] = []
        i = span[0]
        while i < span[1]:
            if self.is_subquery(i):
                found.append((i, self.pairs[i] + 1))
                i = self.pairs[i]
            i += 1
        return found

    def is_subquery(self, i: int) -> bool:
        """Whether a parenthesised query opens at `i`."""
        if self.word(i) != "(" or i not in self.pairs:
            return False
        inner = i + 1
        while self.word(inner) == "(" and inner in self.pairs:
            inner += 1
        return self.word(inner) in QUERY_STARTS - {"TABLE"} or (
            self.word(inner) == "TABLE" and self.tokens[inner + 1].is_name
        )


@dataclass(frozen=True)
class Cte:
    """``name (columns) AS [MATERIALIZED] (body)``; `whole` spans all of it."""

    name: str
    whole: Span
    body: Span
    """With its parentheses."""
    recursive: bool


@dataclass(frozen=True)
class Block:
    """A query without its WITH: a select block, a set operation, or something else.

    `clauses` maps a keyword to the span behind it (empty for anything but a select block);
    `operands` are the sides of a set operation.
    """

    whole: Span
    ctes: tuple[Cte, ...]
    body: Span
    clauses: dict[str, Span]
    operands: tuple[Span, ...] = ()
    distinct: Span | None = None


def read_query(text: Text, span: Span) -> Block:
    """Find WITH, set operators and clauses of the query in `span`."""
    span = strip_parentheses(text, span)
    ctes, start = _read_with(text, span)
    body = (start, span[1])
    operands = _operands(text, body)
    if len(operands) > 1:
        return Block(span, ctes, body, {}, operands)
    if text.word(start) not in ("SELECT", "FROM"):
        return Block(span, ctes, body, {})
    clauses = _clauses(text, body)
    distinct, items = _distinct(text, clauses.get("SELECT"))
    if items is not None:
        clauses["SELECT"] = items
    return Block(span, ctes, body, clauses, (), distinct)


def strip_parentheses(text: Text, span: Span) -> Span:
    """`span` without the parentheses around all of it."""
    first, last = span
    while text.word(first) == "(" and text.pairs.get(first) == last - 1:
        first, last = first + 1, last - 1
    return first, last


def _read_with(text: Text, span: Span) -> tuple[tuple[Cte, ...], int]:
    i = span[0]
    if text.word(i) != "WITH":
        return (), i
    i += 1
    recursive = text.word(i) == "RECURSIVE"
    i += recursive
    found: list[Cte] = []
    while True:
        first = i
        while i < span[1] and not text.is_subquery(i):
            i = i + 1 if text.word(i) != "(" else text.after(i)
        if i >= span[1]:
            raise ParseError("WITH names no query", at=text.at((first - 1, first)))
        body = (i, text.after(i))
        i = body[1]
        if text.word(i) == "USING" and text.word(i + 1) == "KEY":
            i = text.after(i + 2)
        found.append(Cte(text.tokens[first].name, (first, i), body, recursive))
        if text.word(i) != ",":
            return tuple(found), i
        i += 1


def _operands(text: Text, span: Span) -> tuple[Span, ...]:
    """The sides of a set operation; ORDER BY and LIMIT behind the last one are not part of it."""
    found: list[Span] = []
    start = i = span[0]
    while i < span[1]:
        if text.word(i) in SET_OPERATORS and not _is_column_list(text, i):
            found.append((start, i))
            i += 1
            while text.word(i) in ("ALL", "DISTINCT", "BY", "NAME"):
                i += 1
            start = i
        else:
            i = text.after(i)
    end = span[1]
    if found:
        i = start
        while i < span[1]:
            if text.word(i) in ("ORDER", "LIMIT", "OFFSET"):
                end = i
                break
            i = text.after(i)
    return (*found, (start, end))


def _is_column_list(text: Text, i: int) -> bool:
    """Whether the EXCEPT at token `i` is that of ``* EXCEPT (a, b)``, or a name behind a dot."""
    before, opens = text.word(i - 1), text.word(i + 1) == "("
    return before == "." or (before == "*" and opens and not text.is_subquery(i + 1))


def _clauses(text: Text, body: Span) -> dict[str, Span]:
    starts: list[tuple[str, int, int]] = []
    i = body[0]
    while i < body[1]:
        word = text.word(i)
        if _opens_clause(text, i, word):
            skip = 2 if word in ("GROUP", "ORDER") else 1
            starts.append(("SAMPLE" if word == "USING" else word, i, i + skip))
            i += skip
        else:
            i = text.after(i)
    ends = [s[1] for s in starts[1:]] + [body[1]]
    return {name: (first, end) for (name, _, first), end in zip(starts, ends, strict=True)}


def _opens_clause(text: Text, i: int, word: str) -> bool:
    if text.word(i - 1) == ".":
        return False
    match word:
        case "FROM":  # a IS [NOT] DISTINCT FROM b
            return text.word(i - 1) != "DISTINCT" or text.word(i - 2) not in ("IS", "NOT")
        case "GROUP":
            return text.word(i - 1) != "WITHIN" and text.word(i + 1) == "BY"
        case "ORDER":
            return text.word(i + 1) == "BY"
        case "USING":
            return text.word(i + 1) == "SAMPLE"
    return word in CLAUSES


def _distinct(text: Text, items: Span | None) -> tuple[Span | None, Span | None]:
    if items is None or text.word(items[0]) not in ("DISTINCT", "ALL"):
        return None, items
    i = items[0] + 1
    if text.word(items[0]) == "ALL":
        return None, (i, items[1])
    if text.word(i) == "ON":
        i = text.after(i + 1)
    return (items[0], i), (i, items[1])


# -- FROM --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Factor:
    """One relation of FROM and how it is joined to those before it.

    `primary` is the table, function call or subquery; `alias` the name columns are qualified by
    ('' for none); `joined` the join words (``LEFT JOIN``, ``,`` or '' for the first); `on` the span
    of the condition, `using` the names of USING.
    """

    whole: Span
    primary: Span
    alias: str
    has_alias: bool
    has_columns: bool
    joined: str
    lateral: bool
    on: Span | None = None
    using: tuple[str, ...] = ()

    @property
    def is_hidden(self) -> bool:
        """Whether its columns cannot be named outside ON."""
        return "SEMI" in self.joined or "ANTI" in self.joined


class Unrecognised(Exception):  # noqa: N818 (a signal inside the frontend, never shown)
    """The clause has a form that is not taken apart."""


def read_from(text: Text, span: Span) -> list[Factor]:
    """The factors of a FROM clause in order; Unrecognised for PIVOT, nested joins and the like."""
    factors: list[Factor] = []
    i = span[0]
    while i < span[1]:
        joined, i = _join_words(text, i, first=not factors)
        if text.word(i) == "(" and not text.is_subquery(i):
            closing = text.pairs.get(i, span[1])
            if closing + 1 < span[1] and not _starts_join(text, closing + 1):
                raise Unrecognised
            inner = read_from(text, (i + 1, closing))
            factors += [replace(inner[0], joined=joined), *inner[1:]]
            i = closing + 1
            continue
        factor, i = _read_factor(text, i, span[1], joined)
        factors.append(factor)
    return factors


def _join_words(text: Text, i: int, *, first: bool) -> tuple[str, int]:
    if first:
        return "", i
    if text.word(i) == ",":
        return ",", i + 1
    words: list[str] = []
    while text.word(i) in JOIN_WORDS:
        words.append(text.word(i))
        i += 1
        if words[-1] == "JOIN":
            return " ".join(words), i
    raise Unrecognised


def _read_factor(text: Text, i: int, end: int, joined: str) -> tuple[Factor, int]:
    first = i
    lateral = text.word(i) == "LATERAL"
    i += lateral
    alias = ""
    if text.word(i + 1) == ":" and text.tokens[i].is_name:
        alias, i = text.tokens[i].name, i + 2
    primary, otherwise = _primary(text, i)
    i = primary[1]
    has_alias, has_columns = bool(alias), False
    if text.word(i) == "AS" or (i < end and text.tokens[i].is_name and not _ends_factor(text, i)):
        i += text.word(i) == "AS"
        alias, has_alias, i = text.tokens[i].name, True, i + 1
        if text.word(i) == "(":
            has_columns, i = True, text.after(i)
    if text.word(i) in ("TABLESAMPLE", "PIVOT", "UNPIVOT", "WITH", "AT", "MATCH_RECOGNIZE"):
        raise Unrecognised
    whole = (first, i)
    on, using, i = _join_condition(text, i, end)
    factor = Factor(
        whole, primary, alias or otherwise, has_alias, has_columns, joined, lateral, on, using
    )
    return factor, i


def _ends_factor(text: Text, i: int) -> bool:
    return text.tokens[i].kind == "word" and text.word(i) in _AFTER_FACTOR


def _primary(text: Text, i: int) -> tuple[Span, str]:
    """Span of a table, function call or subquery, and the alias it has by itself."""
    if text.word(i) == "(":
        if not text.is_subquery(i):
            raise Unrecognised
        return (i, text.after(i)), ""
    token = text.tokens[i] if i < len(text.tokens) else None
    if token is None or (token.kind != "string" and not token.is_name):
        raise Unrecognised
    if token.kind == "string":
        return (i, i + 1), ""
    first = i
    while text.word(i + 1) == "." and i + 2 < len(text.tokens):
        i += 2
    if text.word(i) == "VALUES":
        return _values(text, i), ""
    if text.word(i) in ("PIVOT", "UNPIVOT"):
        raise Unrecognised
    alias = text.tokens[i].name
    last = text.after(i + 1) if text.word(i + 1) == "(" else i + 1
    return (first, last), alias


def _values(text: Text, i: int) -> Span:
    """``VALUES (…), (…)`` without parentheses around it, as Spark has it."""
    end = text.after(i + 1)
    while text.word(end) == "," and text.word(end + 1) == "(" and not text.is_subquery(end + 1):
        end = text.after(end + 1)
    return (i, end)


def _join_condition(text: Text, i: int, end: int) -> tuple[Span | None, tuple[str, ...], int]:
    if text.word(i) == "USING":
        closing = text.after(i + 1)
        names = tuple(text.tokens[a].name for a, _ in text.split((i + 2, closing - 1)))
        return None, names, closing
    if text.word(i) != "ON":
        return None, (), i
    first = i = i + 1
    while i < end and text.word(i) != "," and not _starts_join(text, i):
        i = text.after(i)
    return (first, i), (), i


def _starts_join(text: Text, i: int) -> bool:
    while text.word(i) in JOIN_WORDS:
        if text.word(i) == "JOIN":
            return True
        i += 1
    return False
