"""Words of a SQL text, with their spans.

Knows what DuckDB and PostgreSQL know: strings, ``E''`` strings, dollar quotes, identifiers quoted
by ``"`` or (DuckDB) a backtick, line comments, nested block comments, parameters.  The spans cover
the text without gaps.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

_STRING = r"""[eE]'(?:[^'\\]|\\.|'')*(?:'|\Z) | [xXbBnN]?'(?:[^']|'')*(?:'|\Z)"""
_QUOTED = r'"(?:[^"]|"")*(?:"|\Z) | `(?:[^`]|``)*(?:`|\Z)'
_DOLLAR = r"\$(?P<tag>(?:[^\W\d]\w*)?)\$(?:.*?\$(?P=tag)\$|.*)"
_PARAM = r"\$\w+|\?\d*"
_NUMBER = r"0[xX][0-9a-fA-F_]+ | (?:\d[\d_]*(?:\.(?!\.)[\d_]*)?|\.\d[\d_]*)(?:[eE][+-]?\d+)?"
_WORD = r"[^\W\d](?:\w|\$)*"
_LEXEME = re.compile(
    rf"""
    (?P<space>\s+)
  | (?P<comment>--[^\n]*|/\*)
  | (?P<string>{_STRING})
  | (?P<quoted>{_QUOTED})
  | (?P<dollar>{_DOLLAR})
  | (?P<param>{_PARAM})
  | (?P<number>{_NUMBER})
  | (?P<word>{_WORD})
  | (?P<op>::|:=|->>|->|=>|<=|>=|<>|!=|==|\|\||\*\*|//|\.\.|.)
    """,
    re.VERBOSE | re.DOTALL,
)
_UNCUT = re.compile(
    rf"""(?> [^;/'"`$?.\w-]+ | --[^\n]* | {_STRING} | {_QUOTED} | {_DOLLAR} | {_PARAM}
           | \.\. | {_NUMBER} | {_WORD} | // | /(?!\*) | [-$.\w] )*+""",
    re.VERBOSE | re.DOTALL,
)
"""All up to a semicolon or a block comment: the lexemes of `_LEXEME`, many at once."""
_BLANK = re.compile(r"(?:\s|--[^\n]*)*")
_FILLED = re.compile(r"\s*[\w(]")
_COMMENT_EDGE = re.compile(r"/\*|\*/")
OPENING, CLOSING = frozenset("([{"), frozenset(")]}")


class Token(NamedTuple):
    """A piece of SQL: `kind` is word, quoted, string, number, param, op, space or comment.

    `start` and `end` are offsets in the text; ``sql[start:end] == text``.
    """

    kind: str
    text: str
    start: int
    end: int

    @property
    def upper(self) -> str:
        """The word in upper case; '' for anything that is not a bare word."""
        return self.text.upper() if self.kind == "word" else ""

    @property
    def name(self) -> str:
        """What an identifier names (quotes taken off)."""
        if self.kind == "quoted":
            quote = self.text[0]
            return self.text[1:-1].replace(2 * quote, quote)
        return self.text

    @property
    def is_name(self) -> bool:
        return self.kind in ("word", "quoted")


def tokenize(sql: str) -> list[Token]:
    """All tokens of `sql`, white space and comments included.

    An unterminated string, quote or comment runs to the end of the text; the engine complains.

    Examples
    --------
    >>> [t.text for t in significant("SELECT 'a -- b' /* PREDICT( */ FROM t")]
    ['SELECT', "'a -- b'", 'FROM', 't']
    """
    tokens: list[Token] = []
    at, length = 0, len(sql)
    while at < length:
        found = _LEXEME.match(sql, at)
        assert found is not None
        kind, end = found.lastgroup or "op", found.end()
        if kind == "comment" and found.group() == "/*":
            end = _comment_end(sql, at)
        tokens.append(Token("string" if kind in ("dollar", "tag") else kind, sql[at:end], at, end))
        at = end
    return tokens


def _comment_end(sql: str, start: int) -> int:
    """Where the (nesting) block comment that opens at `start` ends."""
    depth = 0
    for edge in _COMMENT_EDGE.finditer(sql, start):
        depth += 1 if edge.group() == "/*" else -1
        if depth == 0:
            return edge.end()
    return len(sql)


def significant(sql: str) -> list[Token]:
    """The tokens that are neither white space nor comments."""
    return [t for t in tokenize(sql) if t.kind not in ("space", "comment")]


def placed_statements(sql: str) -> Iterator[tuple[str, str]]:
    """The statements of `sql`, each after words that say where it begins.

    Examples
    --------
    >>> list(placed_statements("SELECT 1;\\nSELECT 2"))
    [('in the statement on line 1', 'SELECT 1'), ('in the statement on line 2', '\\nSELECT 2')]
    """
    end = 0
    for statement in split_statements(sql):
        begin = sql.index(statement, end)
        end = begin + len(statement)
        filled = begin + len(statement) - len(statement.lstrip())
        yield f"in the statement on line {1 + sql.count(chr(10), 0, filled)}", statement


def split_statements(sql: str) -> list[str]:
    """The statements of `sql`, cut at top-level semicolons, each as the user wrote it.

    Pieces with nothing but white space and comments are left out.

    Examples
    --------
    >>> split_statements("SELECT ';'; SELECT 2;")
    ["SELECT ';'", ' SELECT 2']
    """
    if ";" not in sql and _FILLED.match(sql):
        return [sql]
    pieces: list[str] = []
    start = at = 0
    filled = False
    while at < len(sql):
        begun, at = at, _match_end(_UNCUT, sql, at)
        filled = filled or _match_end(_BLANK, sql, begun) < at
        if sql.startswith(";", at) or at == len(sql):
            if filled:
                pieces.append(sql[start:at])
            at += 1
            start, filled = at, False
        else:
            at = _comment_end(sql, at)
    if filled:
        pieces.append(sql[start:])
    return pieces


def _match_end(pattern: re.Pattern[str], sql: str, at: int) -> int:
    found = pattern.match(sql, at)
    assert found is not None
    return found.end()


def matching(tokens: list[Token]) -> dict[int, int]:
    """Index of each opening bracket to the index of its closing one (missing: unbalanced)."""
    pairs: dict[int, int] = {}
    stack: list[int] = []
    for i, token in enumerate(tokens):
        if token.kind != "op":
            continue
        if token.text in OPENING:
            stack.append(i)
        elif token.text in CLOSING and stack:
            pairs[stack.pop()] = i
    return pairs


def quote_identifier(name: str) -> str:
    """`name` as an SQL identifier, always in double quotes."""
    return '"' + name.replace('"', '""') + '"'
