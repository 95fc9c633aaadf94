"""Tokens of plan text.

Between backquotes is SQL text (``{{``, ``}}`` and doubled backquotes stand for themselves) with
expressions in braces, as in JavaScript's template strings; everywhere else blanks separate.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from gradbase.errors import ParseError, underline


@dataclass(frozen=True)
class Token:
    """A piece of plan text: `kind`, its text (unescaped for ``sql``) and where it stands."""

    kind: str
    text: str
    start: int
    end: int


_OUTSIDE = re.compile(
    r"""(?P<newline>\n[ ]*)
    | (?P<blank>[ \t\r]+)
    | (?P<label>%[A-Za-z0-9_]+)
    | (?P<special>(?:x|float)'[^']*')
    | (?P<string>'(?:[^']|'')*')
    | (?P<quoted>"(?:[^"]|"")*")
    | (?P<parameter>\$(?:[A-Za-z0-9_]+|"(?:[^"]|"")*"))
    | (?P<number>-?\d+(?:\.\d+)?(?:e[+-]?\d+)?)
    | (?P<word>[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)*)
    | (?P<mark><=|>=|<>|[\[\](),:;=<>`{}])""",
    re.VERBOSE,
)
_INSIDE = re.compile(r"(?:[^`{}]|``|\{\{|\}\})*")
_ESCAPED = {"``": "`", "{{": "{", "}}": "}"}


def tokenize(text: str) -> list[Token]:
    """The tokens of `text` without blanks; a ``newline`` token holds the next line's indentation.

    Raises
    ------
    ParseError
        A character fits nowhere, or a backquote is not closed.
    """
    found: list[Token] = []
    inside = [False]
    at = 0
    while at < len(text):
        if inside[-1]:
            at = _sql(text, at, found)
            _enter_or_leave(text, at, inside)
            found.append(Token("mark", text[at], at, at + 1))
            at += 1
            continue
        match = _OUTSIDE.match(text, at)
        if match is None:
            raise ParseError(f"`{text[at]}` is not plan text", at=underline(text, at, at + 1))
        kind = match.lastgroup or ""
        if kind != "blank" and not (kind == "newline" and len(inside) > 1):
            found.append(Token(kind, match.group(), at, match.end()))
        _mode(match.group(), inside)
        at = match.end()
    if len(inside) > 1:
        raise ParseError("a backquote is not closed", at=underline(text, len(text), len(text)))
    return found


def _mode(mark: str, inside: list[bool]) -> None:
    """A backquote outside SQL text opens one; a brace closes a gap in one."""
    if mark == "`":
        inside.append(True)
    elif mark == "}" and len(inside) > 1:
        inside.pop()


def _sql(text: str, at: int, found: list[Token]) -> int:
    match = _INSIDE.match(text, at)
    assert match is not None
    if match.end() == len(text):
        raise ParseError("a backquote is not closed", at=underline(text, at, at + 1))
    shown = re.sub(r"``|\{\{|\}\}", lambda m: _ESCAPED[m.group()], match.group())
    found.append(Token("sql", shown, at, match.end()))
    return match.end()


def _enter_or_leave(text: str, at: int, inside: list[bool]) -> None:
    match text[at]:
        case "`":
            inside.pop()
        case "{":
            inside.append(False)
        case other:
            raise ParseError(
                f"`{other}` must be doubled in SQL text", at=underline(text, at, at + 1)
            )
