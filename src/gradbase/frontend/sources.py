"""The FROM clause of one block: its relation, and what names of columns mean in the block."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from gradbase.errors import BindError
from gradbase.frontend.dialect import type_sql
from gradbase.frontend.rich import Asker, Bound, Rich, join_pieces
from gradbase.frontend.structure import Span
from gradbase.frontend.tokens import quote_identifier
from gradbase.ir.scalar import Column
from gradbase.ir.types import Field, Schema, SqlType

HIDDEN = "__gb"
"""Columns and aliases of our own start with this."""


@dataclass(frozen=True)
class SourceColumn:
    """A column that the block can name: ``qualifier.name`` is column `out` of the source."""

    qualifier: str
    name: str
    out: str
    type: SqlType


@dataclass
class Source:
    """What a block reads.

    `base` makes the relation where nothing was pushed into the text; `from_text` is the FROM clause
    with relations of ours in its gaps (None: no FROM clause); `alias` qualifies columns of a single
    factor. Hidden columns and pushed conditions are text evaluated beside the FROM clause.
    """

    columns: list[SourceColumn]
    star: list[SourceColumn]
    alias: str
    from_text: Rich | None
    prefix: Callable[[Rich], Rich]
    base: Callable[[], Bound]
    conditions: list[Span] = field(default_factory=list)
    """Conditions of inner joins that predict: they filter the joined rows."""
    unmerged: frozenset[str] = frozenset()
    """Names (casefolded) that several factors have, so that they must be qualified."""
    hidden: list[tuple[str, Rich, SqlType]] = field(default_factory=list)
    pushed: list[Rich] = field(default_factory=list)

    @property
    def is_single(self) -> bool:
        """Whether columns keep their own names in the source."""
        return all(c.out == c.name for c in self.columns)

    def resolve(self, parts: Sequence[str]) -> tuple[SourceColumn, int] | None:
        """The column that a chain of names starts with, and how many of the names it takes."""
        folded = [p.casefold() for p in parts]
        for taken in (2, 3):
            if len(parts) >= taken:
                for c in self.columns:
                    named = (c.qualifier.casefold(), c.name.casefold())
                    if c.qualifier and named == (folded[taken - 2], folded[taken - 1]):
                        return c, taken
        for c in self.star:
            if c.name.casefold() == folded[0] and folded[0] not in self.unmerged:
                return c, 1
        return None

    def is_ambiguous(self, name: str) -> bool:
        return name.casefold() in self.unmerged

    def of_qualifier(self, qualifier: str) -> list[SourceColumn]:
        """Columns of ``qualifier.*``; BindError where there is no such table."""
        if not qualifier:
            return self.star
        found = [c for c in self.columns if c.qualifier.casefold() == qualifier.casefold()]
        if not found:
            known = sorted({c.qualifier for c in self.columns if c.qualifier})
            raise BindError(f"there is no table `{qualifier}` here; there are {', '.join(known)}")
        return found

    @property
    def schema(self) -> Schema:
        """Columns of the finished source."""
        fields = {c.out: Field(c.out, c.type) for c in (*self.columns, *self.star)}
        fields.update({name: Field(name, of) for name, _, of in self.hidden})
        return Schema(tuple(fields.values()))

    @property
    def stub(self) -> str:
        """SQL with the source's schema."""
        base = self.base().stub
        if not self.hidden:
            return base
        added = (f"CAST(NULL AS {type_sql(t)}) AS {quote_identifier(n)}" for n, _, t in self.hidden)
        return f"SELECT *, {', '.join(added)} FROM ({base}) AS __gb_q"

    def hide(self, text: Rich, asker: Asker) -> Column:
        """Evaluate `text` beside the FROM clause, as one more column of the source."""
        for name, known, of in self.hidden:
            if known.pieces == text.pieces:
                return Column(name, of)
        assert self.from_text is not None
        probe = self.prefix(join_pieces("SELECT ", text, " FROM ", self.from_text))
        of = asker.types(probe.stub)[0][1]
        name = f"{HIDDEN}_s{len(self.hidden)}"
        self.hidden.append((name, text, of))
        return Column(name, of)

    def finish(self) -> Bound:
        """The relation, with what was pushed into its text."""
        if not self.hidden and not self.pushed:
            return self.base()
        assert self.from_text is not None
        items: dict[str, Rich] = {}
        for c in (*self.columns, *self.star):
            items.setdefault(c.out, Rich((_item(c),)))
        for name, text, _ in self.hidden:
            items[name] = join_pieces(text, f" AS {quote_identifier(name)}")
        parts: list[str | Rich] = ["SELECT "]
        for i, item in enumerate(items.values()):
            parts += [", " if i else "", item]
        parts += [" FROM ", self.from_text]
        for i, condition in enumerate(self.pushed):
            parts += [" AND (" if i else " WHERE (", condition, ")"]
        return self.prefix(join_pieces(*parts)).bound(self.schema)


def _item(c: SourceColumn) -> str:
    qualifier = f"{quote_identifier(c.qualifier)}." if c.qualifier else ""
    return f"{qualifier}{quote_identifier(c.name)} AS {quote_identifier(c.out)}"


def select_text(columns: Sequence[SourceColumn], from_text: Rich) -> Rich:
    """``SELECT q.c AS out, … FROM from_text``."""
    items: dict[str, str] = {}
    for c in columns:
        items.setdefault(c.out, _item(c))
    return join_pieces(f"SELECT {', '.join(items.values())} FROM ", from_text)
