"""Reading what stands on one line of plan text: names, types, values, expressions."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from typing import NoReturn, TypeVar

from gradbase.errors import ParseError, near, underline
from gradbase.ir.learning import Model
from gradbase.ir.lexer import Token
from gradbase.ir.node import Node
from gradbase.ir.printer import LITERAL_TYPES
from gradbase.ir.scalar import (
    COMPARISONS,
    And,
    Column,
    Compare,
    IsNull,
    Literal,
    Not,
    Or,
    Parameter,
    PredictCall,
    Scalar,
    SqlScalar,
    Value,
)
from gradbase.ir.types import Field, Schema, SqlType, parse_type, unquote

T = TypeVar("T")
_END = Token("end", "", 0, 0)
_DEEPEST = 60
_CONSTANTS: Mapping[str, Value] = {"null": None, "true": True, "false": False}


class Reader:
    """The tokens of one line and how far they have been read."""

    def __init__(
        self,
        text: str,
        tokens: list[Token],
        labels: Mapping[str, Node],
        classes: Mapping[str, type[Node]],
    ) -> None:
        self.text, self.tokens, self.labels, self.classes = text, tokens, labels, classes
        self.at = 0
        self.depth = 0

    # -- tokens

    def peek(self, ahead: int = 0) -> Token:
        at = self.at + ahead
        return self.tokens[at] if at < len(self.tokens) else _END

    def fail(self, message: str, hint: str | None = None) -> NoReturn:
        token = self.peek()
        start, end = (token.start, token.end) if token is not _END else (self.tokens[-1].end,) * 2
        raise ParseError(message, at=underline(self.text, start, end), hint=hint)

    def take(self, text: str | None = None) -> Token:
        """The next token, which must read `text` where that is given."""
        token = self.peek()
        if text is not None and (token.text != text or token.kind not in ("word", "mark")):
            self.fail(f"expected `{text}`, found `{token.text or 'the end of the line'}`")
        if token is _END:
            self.fail("the line ends too early")
        self.at += 1
        return token

    def accept(self, text: str) -> bool:
        if self.peek().text != text or self.peek().kind not in ("word", "mark"):
            return False
        self.at += 1
        return True

    def end(self) -> None:
        if self.peek() is not _END:
            self.fail(f"`{self.peek().text}` was not expected here")

    # -- pieces

    def between(self, opening: str, item: Callable[[], T], closing: str) -> tuple[T, ...]:
        """Items separated by commas, between two marks."""
        self.take(opening)
        found: list[T] = []
        while not self.accept(closing):
            if found:
                self.take(",")
            found.append(item())
        return tuple(found)

    def name(self) -> str:
        if self.peek().kind not in ("word", "quoted"):
            self.fail(f"expected a name, found `{self.peek().text}`")
        return unquote(self.take().text)

    def names(self) -> tuple[str, ...]:
        if self.peek().kind not in ("word", "quoted") or self.peek().text == "by":
            return ()
        found = [self.name()]
        while self.accept(","):
            found.append(self.name())
        return tuple(found)

    def integer(self) -> int:
        token = self.take()
        try:
            return int(token.text)
        except ValueError:
            self.at -= 1
            self.fail(f"expected a whole number, found `{token.text}`")

    def type(self) -> SqlType:
        start = first = self.take()
        if first.text == "decimal" and self.peek().text == "(":
            while self.take().text != ")":
                pass
        elif first.text in ("list", "struct", "other"):
            self._skip_angles()
        while self.peek().text == "[" and self.peek(1).kind == "number":
            self.at += 3
        last = self.tokens[min(self.at, len(self.tokens)) - 1]
        return parse_type(self.text[start.start : last.end])

    def _skip_angles(self) -> None:
        depth = 0
        while True:
            text = self.take().text
            depth += {"<": 1, ">": -1}.get(text, 0)
            if depth == 0:
                return

    def schema(self) -> Schema:
        return Schema(self.between("(", lambda: Field(self.name(), self.type()), ")"))

    def template(self, gap: Callable[[], T]) -> tuple[tuple[str, ...], tuple[T, ...]]:
        """SQL text between backquotes and what stands in its gaps."""
        self.take("`")
        parts, gaps = [self.take().text], list[T]()
        while self.accept("{"):
            gaps.append(gap())
            self.take("}")
            parts.append(self.take().text)
        self.take("`")
        return tuple(parts), tuple(gaps)

    # -- nodes

    def reference(self) -> Node:
        token = self.peek()
        label = token.text[1:]
        if label not in self.labels:
            self.fail(f"nothing is labelled `%{label}`", near(label, self.labels))
        self.at += 1
        return self.labels[label]

    def model(self) -> Model:
        found = self.reference() if self.peek().kind == "label" else self.node()
        if not isinstance(found, Model):
            self.fail("expected a model")
        return found

    def node(
        self, *, scope: Schema | None = None, given: Mapping[str, object] | None = None
    ) -> Node:
        """``Class(field=value, …)``, with the fields `given` from elsewhere."""
        name = self.take().text
        if name not in self.classes:
            self.at -= 1
            self.fail(f"`{name}` is no operator", near(name, self.classes))
        fields = dict(self.between("(", lambda: self.field(scope), ")"))
        return self.classes[name](**fields, **(given or {}))

    def field(self, scope: Schema | None = None) -> tuple[str, object]:
        """``name=value``."""
        name = self.name()
        self.take("=")
        return name, self.value(scope)

    def value(self, scope: Schema | None = None) -> object:
        """What a field may hold; expressions in it are over the columns of `scope`."""
        token = self.peek()
        match token.kind, token.text:
            case "label", _:
                return self.reference()
            case "quoted", _:
                return unquote(self.take().text)
            case "mark", ":":
                self.take()
                return self.type()
            case "mark", "(":
                return self._nested(lambda: self.between("(", lambda: self.value(scope), ")"))
            case "mark", "[":
                (found,) = self.between("[", lambda: self.expression(scope), "]")
                return found
            case "word", word if word not in _CONSTANTS:
                return self._nested(self.node)
        return self._constant()

    def _constant(self) -> Value:
        token = self.take()
        match token.kind:
            case "word" if token.text in _CONSTANTS:
                return _CONSTANTS[token.text]
            case "string":
                return token.text[1:-1].replace("''", "'")
            case "number":
                return float(token.text) if set(token.text) & set(".e") else int(token.text)
            case "special":
                return _special(token.text)
        self.at -= 1
        self.fail(f"expected a value, found `{token.text}`")
        return None

    def _nested(self, read: Callable[[], T]) -> T:
        self.depth += 1
        if self.depth > _DEEPEST:
            self.fail(f"nested deeper than {_DEEPEST}; label the inner part: `%1 = …`")
        found = read()
        self.depth -= 1
        return found

    # -- expressions

    def expression(self, scope: Schema | None) -> Scalar:
        """An expression over the columns of `scope` (None: every column is written with a type)."""
        return self._nested(lambda: self._expression(scope))

    def _expression(self, scope: Schema | None) -> Scalar:
        args = [self._comparison(scope)]
        word = self.peek().text
        if word not in ("and", "or"):
            return args[0]
        while self.accept(word):
            args.append(self._comparison(scope))
        if self.peek().text in ("and", "or"):
            self.fail("put parentheses where `and` meets `or`")
        return And(tuple(args)) if word == "and" else Or(tuple(args))

    def _comparison(self, scope: Schema | None) -> Scalar:
        if self.accept("not"):
            return Not(self._atom(scope))
        left = self._atom(scope)
        if self.accept("is"):
            self.take("null")
            return IsNull(left)
        if self.peek().kind == "mark" and self.peek().text in COMPARISONS:
            return Compare(self.take().text, left, self._atom(scope))
        return left

    def _atom(self, scope: Schema | None) -> Scalar:
        token = self.peek()
        match token.kind, token.text:
            case "mark", "(":
                (found,) = self.between("(", lambda: self.expression(scope), ")")
                return found
            case "mark", "`":
                return self._sql(scope, is_volatile=False)
            case "label", _:
                found = self.reference()
                if not isinstance(found, Scalar):
                    self.fail(f"`{token.text}` is no expression")
                return found
            case "parameter", _:
                name = unquote(self.take().text[1:])
                self.take(":")
                return Parameter(name, self.type())
            case "word", "predict" if self.peek(1).text == "(":
                return self._predict_call(scope)
            case "word", "volatile" if self.peek(1).text == "`":
                self.take()
                return self._sql(scope, is_volatile=True)
            case "word", text if text in self.classes and self.peek(1).text == "(":
                return self._operator(scope)
            case (("word" | "quoted"), text) if text not in _CONSTANTS:
                return self._column(scope)
        return self._literal()

    def _operator(self, scope: Schema | None) -> Scalar:
        found = self.node(scope=scope)
        if not isinstance(found, Scalar):
            self.fail(f"a {type(found).__name__} is no expression")
        return found

    def _column(self, scope: Schema | None) -> Column:
        name = self.name()
        if self.accept(":"):
            return Column(name, self.type())
        if scope is None:
            self.fail(f"column `{name}` needs a type here: `{name}:int64`")
        if name not in scope:
            self.at -= 1
            self.fail(f"there is no column `{name}`", near(name, scope.names))
        return Column(name, scope.type_of(name))

    def _literal(self) -> Literal:
        value = self._constant()
        return Literal(value, self.type() if self.accept(":") else LITERAL_TYPES[type(value)])

    def _sql(self, scope: Schema | None, *, is_volatile: bool) -> SqlScalar:
        parts, args = self.template(lambda: self.expression(scope))
        self.take(":")
        return SqlScalar(parts, args, self.type(), is_volatile)

    def _predict_call(self, scope: Schema | None) -> PredictCall:
        self.take("predict")
        self.take("(")
        model = self.model()
        self.take(",")
        output = self.name()
        features: list[Scalar] = []
        while self.accept(","):
            features.append(self.expression(scope))
        self.take(")")
        return PredictCall(model, output, tuple(features))


def _special(text: str) -> bytes | float:
    """``x'00ff'`` or ``float'inf'`` or a float by its bits in hexadecimal."""
    prefix, _, body = text[:-1].partition("'")
    if prefix == "x":
        return bytes.fromhex(body)
    if body in ("inf", "-inf"):
        return float(body)
    return struct.unpack(">d", bytes.fromhex(body))[0]
