"""``* EXCLUDE (…)``, ``REPLACE`` and ``RENAME`` as columns, for engines without these words."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from gradbase.errors import BindError, near
from gradbase.frontend.rich import Asker
from gradbase.frontend.structure import Block, Cte, Span, Text, read_query
from gradbase.frontend.tokens import quote_identifier
from gradbase.frontend.words import prediction_calls

WORDS = ("EXCLUDE", "EXCEPT", "REPLACE", "RENAME")
"""Behind a star; the first two mean the same."""


@dataclass(frozen=True)
class _Star:
    """``* …`` or ``t.* …`` as a whole item of a select list; `ctes` are those it may read."""

    item: Span
    source: Span
    ctes: tuple[Cte, ...]


def without_star_lists(text: Text, asker: Asker, offered: frozenset[str]) -> Text:
    """`text` with every star that is followed by a word not in `offered` as a list of columns.

    A star over something that cannot be asked for its columns stays: the engine has the last word.

    Raises
    ------
    BindError
        A name in the list is no column of the star's.
    """
    while not set(WORDS) <= offered and any(t.upper in WORDS for t in text.tokens):
        # A star inside the FROM of another comes first: its columns are read there.
        stars = sorted(_stars(text), key=lambda s: s.source[1] - s.item[0])
        named = (s for s in stars if _words(text, s.item) - offered)
        found = next(((s, c) for s in named if (c := _asked(text, s, asker)) is not None), None)
        if found is None:
            break
        item = found[0].item
        start, end = text.tokens[item[0]].start, text.tokens[item[1] - 1].end
        written = ", ".join(_written(text, *found))
        text = Text.of(text.sql[:start] + written + text.sql[end:])
    return text


def _stars(text: Text) -> Iterator[_Star]:
    spans = [(0, len(text.tokens))]
    spans += [(i, text.after(i)) for i in range(len(text.tokens)) if text.is_subquery(i)]
    blocks = [read_query(text, s) for s in spans]
    blocks += [read_query(text, o) for b in blocks for o in b.operands]
    for block in blocks:
        clauses = block.clauses
        if not {"SELECT", "FROM"} <= clauses.keys():
            continue
        for item in text.split(clauses["SELECT"]):
            if _words(text, item):
                yield _Star(item, clauses["FROM"], _seen(blocks, block))


def _seen(blocks: list[Block], inner: Block) -> tuple[Cte, ...]:
    """The queries of WITH that `inner` may read: of the blocks around it, and defined before it."""
    return tuple(
        cte
        for block in blocks
        if block.whole[0] <= inner.body[0] and inner.body[1] <= block.whole[1]
        for cte in block.ctes
        if cte.whole[1] <= inner.body[0]
    )


def _words(text: Text, item: Span) -> frozenset[str]:
    """Those that follow the star of a select item."""
    first, last = item
    if text.word(first + 1) == "." and text.tokens[first].is_name:
        first += 2
    if text.word(first) != "*":
        return frozenset()
    found: set[str] = set()
    i = first + 1
    while i < last and text.word(i) in WORDS:
        found.add(text.word(i))
        i = text.after(i + 1)
    return frozenset(found)


def _asked(text: Text, star: _Star, asker: Asker) -> list[str] | None:
    """Names of the columns of the star alone; None where nobody can say."""
    recursive = "RECURSIVE " if any(c.recursive for c in star.ctes) else ""
    ctes = ", ".join(_without_calls(text, c.whole) for c in star.ctes)
    head = f"WITH {recursive}{ctes} " if ctes else ""
    first = star.item[0]
    qualifier = "" if text.word(first) == "*" else f"{text.slice((first, first + 1))}."
    source = _without_calls(text, star.source)
    types = asker.probe(f"{head}SELECT {qualifier}* FROM {source}")
    return None if types is None else [name for name, _ in types]


def _without_calls(text: Text, span: Span) -> str:
    """The text of `span`, NULL for predictions: the names are the same. Table functions stay."""
    pieces: list[str] = []
    first, last = span
    for start, opening in prediction_calls(text.tokens):
        if first <= start < last and opening == start + 1:
            pieces += [text.slice((first, start)), " NULL "]
            first = text.after(opening)
    return "".join([*pieces, text.slice((first, last))])


def _written(text: Text, star: _Star, columns: list[str]) -> Iterator[str]:
    item = first, last = star.item
    qualifier, i = "", first + 1
    if text.word(first) != "*":
        qualifier, i = f"{text.slice((first, first + 1))}.", first + 3
    shown = {n.casefold(): f"{qualifier}{quote_identifier(n)}" for n in columns}
    if len(shown) < len(columns):
        raise BindError(
            f"`{text.slice(item)}` is over columns of the same name", at=text.at(item),
            hint="write the columns out, or give the tables of the join names: a.*, b.x",
        )  # fmt: skip
    while i < last:
        word = text.word(i)
        inner = (i + 2, text.after(i + 1) - 1) if text.word(i + 1) == "(" else (i + 1, i + 2)
        for piece in text.split(inner):
            _change(text, word, piece, shown)
        i = text.after(i + 1)
    yield from shown.values()


def _change(text: Text, word: str, piece: Span, shown: dict[str, str]) -> None:
    first, last = piece
    named = text.tokens[first if word == "RENAME" else last - 1].name
    key = named.casefold()
    if key not in shown:
        raise BindError(
            f"{word} names `{named}`, which is no column of the star",
            at=text.at(piece),
            hint=near(named, shown),
        )
    if word == "RENAME":
        shown[key] += f" AS {text.slice((last - 1, last))}"
    elif word == "REPLACE":
        shown[key] = text.slice(piece)
    else:
        del shown[key]
