"""Reading our own statements token by token, with errors that underline where reading stopped."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NoReturn

from gradbase.errors import ParseError, near, underline
from gradbase.frontend.tokens import Token, significant


class Cursor:
    """A position in the significant tokens of `sql`."""

    def __init__(self, sql: str, tokens: list[Token] | None = None) -> None:
        self.sql = sql
        self.tokens = significant(sql) if tokens is None else tokens
        self.at = 0

    @property
    def token(self) -> Token | None:
        """The token to be read next; None at the end."""
        return self.tokens[self.at] if self.at < len(self.tokens) else None

    def peek(self, ahead: int = 0) -> str:
        """Upper-case word or operator text `ahead` tokens on; '' at the end."""
        i = self.at + ahead
        if i >= len(self.tokens):
            return ""
        return self.tokens[i].upper or self.tokens[i].text

    def next(self) -> Token:
        found = self.token
        if found is None:
            self.fail("the statement ends too early")
        self.at += 1
        return found

    def accept(self, *words: str) -> bool:
        """Read `words` (in upper case) if they come next, all of them."""
        if all(self.peek(i) == word for i, word in enumerate(words)):
            self.at += len(words)
            return True
        return False

    def expect(self, word: str, what: str) -> Token:
        if self.peek() != word:
            self.fail(f"expected {what}")
        return self.next()

    def identifier(self, what: str) -> Token:
        """An identifier, quoted or not."""
        if self.token is None or not self.token.is_name:
            self.fail(f"expected {what}")
        return self.next()

    def end(self) -> None:
        if self.token is not None:
            self.fail("the statement should end here")

    def fail(self, message: str, *, hint: str | None = None) -> NoReturn:
        """Raise `error`."""
        raise self.error(message, hint=hint)

    def error(self, message: str, *, hint: str | None = None) -> ParseError:
        """ParseError at the token that comes next."""
        token = self.token
        if token is None:
            end = self.tokens[-1].end if self.tokens else len(self.sql)
            at, found = underline(self.sql, max(end - 1, 0), end), "the end of the statement"
        else:
            at, found = underline(self.sql, token.start, token.end), f"`{token.text}`"
        return ParseError(f"{message}, found {found}", at=at, hint=hint)


@dataclass(frozen=True)
class Range:
    """``HPARAM_RANGE(low, high)``."""

    low: float
    high: float


@dataclass(frozen=True)
class Candidates:
    """``HPARAM_CANDIDATES([…])``."""

    values: tuple[object, ...]


@dataclass(frozen=True)
class OptionValue:
    """What an option was set to, and where.

    `value` is a bool, int, float, str, None, list, tuple (a STRUCT of several), `Range` or
    `Candidates`. `name_at` and `value_at` are underlined excerpts for errors ('' from Python).
    """

    value: object
    name_at: str | None = None
    value_at: str | None = None


def read_value(cursor: Cursor) -> object:
    """A literal, list, STRUCT or search space; ``"x"`` is a text here, as in BigQuery."""
    token = cursor.token
    word = cursor.peek()
    if token is None:
        cursor.fail("expected a value")
    if word in ("HPARAM_RANGE", "HPARAM_CANDIDATES") and cursor.peek(1) == "(":
        return _read_space(cursor, word)
    if word == "(" or (word == "STRUCT" and cursor.peek(1) in ("(", "<")):
        return _read_struct(cursor)
    if word in ("[", "ARRAY"):
        return _read_list(cursor)
    if word in ("TRUE", "FALSE", "NULL"):
        cursor.next()
        return {"TRUE": True, "FALSE": False, "NULL": None}[word]
    if word in ("+", "-"):
        return _read_signed(cursor)
    if token.kind == "number":
        cursor.next()
        return read_number(token.text)
    if token.kind == "string":
        cursor.next()
        return read_string(token.text)
    if token.kind == "quoted" and token.text.startswith('"'):
        return cursor.next().name
    if token.kind == "param":
        cursor.fail("values in OPTIONS are literals, parameters may stand in the query only")
    known = ("HPARAM_RANGE", "HPARAM_CANDIDATES", "STRUCT")
    raise cursor.error("expected a value", hint=near(word, known))


def _read_signed(cursor: Cursor) -> int | float:
    sign = cursor.next().text
    value = read_value(cursor)
    if isinstance(value, bool) or not isinstance(value, int | float):
        cursor.at -= 1
        cursor.fail("expected a number after the sign")
    return -value if sign == "-" else value


def _read_space(cursor: Cursor, word: str) -> object:
    start = cursor.at
    cursor.at += 2
    values = _read_items(cursor, ")")
    if word == "HPARAM_CANDIDATES":
        if len(values) != 1 or not isinstance(values[0], list) or not values[0]:
            cursor.at = start
            cursor.fail("HPARAM_CANDIDATES takes one list of values, like [16, 32]")
        return Candidates(tuple(values[0]))
    numbers = [v for v in values if isinstance(v, int | float) and not isinstance(v, bool)]
    if len(values) != 2 or len(numbers) != 2:
        cursor.at = start
        cursor.fail("HPARAM_RANGE takes two numbers, like (1e-4, 1e-1)")
    return Range(numbers[0], numbers[1])


def _read_list(cursor: Cursor) -> list[object]:
    cursor.accept("ARRAY")
    cursor.expect("[", "a list in [ ]")
    return _read_items(cursor, "]")


def _read_struct(cursor: Cursor) -> object:
    cursor.accept("STRUCT")
    if cursor.peek() == "<":
        cursor.fail("STRUCT takes its values in ( ), without types")
    cursor.next()
    values = _read_items(cursor, ")")
    return values[0] if len(values) == 1 else tuple(values)


def _read_items(cursor: Cursor, closing: str) -> list[object]:
    """Values up to and including `closing`; ``AS name`` behind one is read over."""
    values: list[object] = []
    while not cursor.accept(closing):
        if values:
            cursor.expect(",", f"`,` or `{closing}`")
            if cursor.accept(closing):  # BigQuery tolerates a trailing comma
                break
        values.append(read_value(cursor))
        if cursor.accept("AS"):
            cursor.identifier("a name after AS")
    return values


def read_number(text: str) -> int | float:
    """The value of a number token."""
    plain = text.replace("_", "")
    if plain[:2].lower() == "0x":
        return int(plain, 16)
    return int(plain) if plain.isdigit() else float(plain)


_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f"}


def read_string(text: str) -> str:
    """The value of a string token."""
    if text.startswith("$"):
        tag = text[: text.index("$", 1) + 1]
        return text[len(tag) : -len(tag)]
    if text[0] in "eE":
        return _unescape(text[2:-1])
    return text[text.index("'") + 1 : -1].replace("''", "'")


def _unescape(body: str) -> str:
    pieces: list[str] = []
    i = 0
    while i < len(body):
        if body[i] == "\\" and i + 1 < len(body):
            pieces.append(_ESCAPES.get(body[i + 1], body[i + 1]))
            i += 2
        else:
            pieces.append(body[i])
            i += 2 if body.startswith("''", i) else 1
    return "".join(pieces)
