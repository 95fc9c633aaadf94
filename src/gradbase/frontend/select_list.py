"""The items of a select list: what they are called, stars written out."""

from __future__ import annotations

from dataclasses import dataclass

from sqlglot import exp

from gradbase.frontend.convert import Converter
from gradbase.frontend.expression_spans import parse_expression
from gradbase.frontend.rich import join_pieces
from gradbase.frontend.sources import SourceColumn
from gradbase.frontend.structure import Span, Text, Unrecognised


@dataclass(frozen=True)
class Item:
    """One output: an expression (`span`) or a column that a star brought."""

    name: str
    span: Span | None = None
    column: SourceColumn | None = None


def read_items(converter: Converter, span: Span | None) -> list[Item]:
    """The outputs of a select list (None: ``FROM t`` alone, all columns)."""
    if span is None:
        return [Item(c.name, column=c) for c in converter.source.star]
    items: list[Item] = []
    for piece in converter.text.split(span):
        items.extend(_read_item(converter, piece))
    return items


def aliases_of(text: Text, span: Span | None) -> dict[str, Span]:
    """Expressions that have an alias, by its casefolded name; the first of equal ones."""
    found: dict[str, Span] = {}
    for piece in text.split(span) if span else []:
        name, expression = alias_of(text, piece)
        if name:
            found.setdefault(name.casefold(), expression)
    return found


def alias_of(text: Text, span: Span) -> tuple[str, Span]:
    """``expression AS name``, ``expression name``, ``name: expression``; '' where there is none."""
    first, last = span
    tokens = text.tokens
    if last - first > 2 and tokens[first].is_name and text.word(first + 1) == ":":
        return tokens[first].name, (first + 2, last)
    if last - first > 2 and text.word(last - 2) == "AS":
        return _alias_name(text, last - 1), (first, last - 2)
    if last - first > 1 and tokens[last - 1].is_name and _ends_expression(text, last - 2):
        return tokens[last - 1].name, (first, last - 1)
    return "", span


def _alias_name(text: Text, i: int) -> str:
    token = text.tokens[i]
    return token.text[1:-1].replace("''", "'") if token.kind == "string" else token.name


_OPERATOR_WORDS = frozenset(
    "AND OR NOT IN IS LIKE ILIKE BETWEEN CASE WHEN THEN ELSE DISTINCT FROM SIMILAR TO GLOB COLLATE "
    "ISNULL NOTNULL INTERVAL AT TIME ZONE OVER ESCAPE".split()
)


def _ends_expression(text: Text, i: int) -> bool:
    """Whether an expression can end at token `i`, so that a name behind it is an alias."""
    token = text.tokens[i]
    if text.word(i + 1) in ("END", "NULL", "TRUE", "FALSE", "ISNULL", "NOTNULL"):
        return False
    if token.kind == "word":
        if text.word(i - 1) == "::" or (text.word(i + 1) in _INTERVAL_UNITS):
            return text.word(i + 1) not in _INTERVAL_UNITS
        return token.upper not in _OPERATOR_WORDS
    return token.kind in ("quoted", "number", "string", "param") or token.text in (")", "]", "}")


_INTERVAL_UNITS = frozenset(
    f"{unit}{s}".upper()
    for unit in ("year", "month", "week", "day", "hour", "minute", "second", "quarter")
    for s in ("", "s")
)


def _read_item(converter: Converter, span: Span) -> list[Item]:
    text = converter.text
    first, last = span
    if text.word(first) == "*" or (last - first > 2 and _is_qualified_star(text, first)):
        return _star(converter, span)
    name, expression = alias_of(text, span)
    return [Item(name or _default_name(converter, span), expression)]


def _is_qualified_star(text: Text, first: int) -> bool:
    return (
        text.tokens[first].is_name and text.word(first + 1) == "." and text.word(first + 2) == "*"
    )


def _star(converter: Converter, span: Span) -> list[Item]:
    """``*`` or ``t.*`` with EXCLUDE (or EXCEPT), REPLACE and RENAME."""
    text = converter.text
    first, last = span
    qualifier = "" if text.word(first) == "*" else text.tokens[first].name
    items = {c.out: Item(c.name, column=c) for c in converter.source.of_qualifier(qualifier)}
    i = first + (1 if not qualifier else 3)
    while i < last:
        word = "EXCLUDE" if text.word(i) == "EXCEPT" else text.word(i)
        inner = (i + 1, i + 2)
        if text.word(i + 1) == "(":
            inner = (i + 2, text.pairs[i + 1])
        i = text.after(i + 1) if text.word(i + 1) == "(" else last if word == "REPLACE" else i + 2
        for piece in text.split(inner):
            _change_star(text, word, piece, items)
    return list(items.values())


def _change_star(text: Text, word: str, piece: Span, items: dict[str, Item]) -> None:
    first, last = piece
    if word not in ("EXCLUDE", "REPLACE", "RENAME"):
        raise Unrecognised
    target = text.tokens[first if word == "RENAME" else last - 1].name
    outs = [o for o, item in items.items() if item.name.casefold() == target.casefold()]
    if not outs or (word == "EXCLUDE" and last - first not in (1, 3)):
        raise Unrecognised
    for out in outs:
        match word:
            case "EXCLUDE":
                del items[out]
            case "REPLACE":
                items[out] = Item(items[out].name, (first, last - 2))
            case _:
                items[out] = Item(text.tokens[last - 1].name, column=items[out].column)


def _default_name(converter: Converter, span: Span) -> str:
    """What an expression without alias is called: as the engine says, or its own text."""
    text = converter.text
    predicts, _ = converter.holds(span)
    if not predicts:
        node = parse_expression(text.slice(span))
        if isinstance(node, exp.Column):
            found = converter.source.resolve([p.name for p in node.parts])
            if found is not None and found[1] == len(node.parts):
                return found[0].name
        source = converter.source.from_text
        if source is not None:
            query = join_pieces("SELECT ", converter.rewrite(span), " FROM ", source)
            known = converter.asker.probe(converter.prefix(query).stub)
            if known and len(known) == 1:
                return known[0][0]
    return " ".join(text.slice(span).split())
