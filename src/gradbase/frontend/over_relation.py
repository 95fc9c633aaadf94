"""The block's text over a relation of ours that has its predictions as columns.

Windows, HAVING, QUALIFY, ROLLUP, samples, functions we do not know: the engine runs them as the
user wrote them, with names of columns in the place of predictions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from gradbase.frontend.convert import Converter
from gradbase.frontend.expression_spans import column_chains
from gradbase.frontend.rich import Bound, Rich, join_pieces, render
from gradbase.frontend.scopes import Scope, with_prefix
from gradbase.frontend.select_list import Item, read_items
from gradbase.frontend.simple import filter_predicate, filtered
from gradbase.frontend.sources import HIDDEN
from gradbase.frontend.structure import Block, Span, Unrecognised
from gradbase.frontend.tokens import quote_identifier
from gradbase.ir.relational import Project
from gradbase.ir.scalar import Column, Scalar

if TYPE_CHECKING:
    from gradbase.frontend.binder import Binder

_KEYWORDS = {"GROUP": "GROUP BY", "ORDER": "ORDER BY", "SAMPLE": "USING"}


def bind_over_relation(converter: Converter, block: Block, binder: Binder, scope: Scope) -> Bound:
    """SqlFragment over Project[columns used, predictions] over Filter[WHERE] over the source."""
    words = {binder.text.word(i) for i in range(*block.body)}
    if "COLUMNS" in words or any(binder.text.word(i) == "#" for i in range(*block.body)):
        raise Unrecognised
    predicate = filter_predicate(converter, block.clauses.get("WHERE"))
    writer = _Writer(binder, converter, scope)
    parts: list[str | Rich] = ["SELECT "]
    if block.distinct:
        parts += [writer.text(block.distinct), " "]
    for i, item in enumerate(read_items(converter, block.clauses.get("SELECT"))):
        parts += [", " if i else "", writer.item(item)]
    rest: list[str | Rich] = []
    for clause, span in block.clauses.items():
        if clause not in ("SELECT", "FROM", "WHERE"):
            rest += [f" {_KEYWORDS.get(clause, clause)} ", writer.text(span)]
    below = writer.relation(predicate)
    alias = converter.source.alias or f"{HIDDEN}_source"
    text = join_pieces(*parts, " FROM ", below, f" AS {quote_identifier(alias)}", *rest)
    whole = with_prefix(text, scope)
    return whole.bound(binder.asker.schema(whole.stub))


class _Writer:
    """Writes pieces of the block with columns in the place of predictions."""

    def __init__(self, binder: Binder, converter: Converter, scope: Scope) -> None:
        self.binder, self.converter, self.scope = binder, converter, scope
        self.predicted: dict[Scalar, str] = {}
        self.used: dict[str, Column] = {}

    def item(self, item: Item) -> Rich:
        name = quote_identifier(item.name)
        if item.column is not None:
            self._use(item.column.out)
            return Rich((f"{quote_identifier(item.column.out)} AS {name}",))
        assert item.span is not None
        return join_pieces(self.text(item.span), f" AS {name}")

    def text(self, span: Span) -> Rich:
        """The text of `span`, its direct predictions as columns."""
        tokens, sql = self.binder.text.tokens, self.binder.text.sql
        edits: list[tuple[int, int, Sequence[str | Rich | Bound]]] = []
        for call in self.binder.direct(span):
            start, end = tokens[call.whole[0]].start, tokens[call.whole[1] - 1].end
            edits.append((start, end, [quote_identifier(self._predicted(call.whole))]))
        edits += [self._subquery(s) for s in self.binder.text.subqueries(span)]
        if not self.converter.source.is_single:
            edits += self._renamed(span)
        self._use_names(span)
        pieces: list[str | Rich | Bound] = []
        at = tokens[span[0]].start
        for start, end, new in sorted(edits, key=lambda e: e[0]):
            if start >= at:
                pieces += [sql[at:start], *new]
                at = end
        return join_pieces(*pieces, sql[at : tokens[span[1] - 1].end])

    def relation(self, predicate: Scalar | None) -> Bound:
        """What the text reads: columns used and predictions, filtered."""
        source = self.converter.source.finish()
        below = filtered(source.relation, predicate)
        values: dict[str, Scalar] = {**self.used, **{n: s for s, n in self.predicted.items()}}
        items = ", ".join(f"{render(v)} AS {quote_identifier(n)}" for n, v in values.items())
        stub = with_prefix(
            Rich((f"SELECT {items} FROM ({self.converter.source.stub}) AS __gb_q",)), self.scope
        ).stub
        return Bound(Project(below, tuple(values), tuple(values.values())), stub)

    def _predicted(self, whole: Span) -> str:
        value = self.converter.scalar(whole)
        return self.predicted.setdefault(value, f"{HIDDEN}_p{len(self.predicted)}")

    def _use(self, out: str) -> None:
        for c in (*self.converter.source.columns, *self.converter.source.star):
            if c.out == out:
                self.used[out] = Column(out, c.type)

    def _use_names(self, span: Span) -> None:
        """Every column whose name stands in the text, subqueries included."""
        words = {t.name.casefold() for t in self.binder.text.tokens[slice(*span)] if t.is_name}
        for c in (*self.converter.source.columns, *self.converter.source.star):
            if c.name.casefold() in words:
                self.used[c.out] = Column(c.out, c.type)

    def _subquery(self, sub: Span) -> tuple[int, int, Sequence[str | Rich | Bound]]:
        tokens = self.binder.text.tokens
        alone = self.binder.stands_alone(sub, self.scope)
        if not alone and not self.converter.source.is_single:
            raise Unrecognised
        if not alone and self.binder.predicts(sub):
            raise Unrecognised
        start, end = tokens[sub[0]].start, tokens[sub[1] - 1].end
        new = self.binder.query(sub, self.scope) if self.binder.predicts(sub) else None
        return start, end, [new] if new is not None else [self.binder.text.slice(sub)]

    def _renamed(self, span: Span) -> list[tuple[int, int, Sequence[str]]]:
        """Qualified names become the source's: every expression of a comma-separated clause."""
        found: list[tuple[int, int, Sequence[str]]] = []
        for piece in self.binder.text.split(span):
            expression = self._expression(piece)
            node, masked = self.converter.tree(expression)
            for chain in column_chains(node):
                column = self.converter.source.resolve([p[0] for p in chain])
                if column is None or chain[0][0] in masked.items:
                    continue
                start, end = masked.start + chain[0][1], masked.start + chain[column[1] - 1][2]
                found.append((start, end, [quote_identifier(column[0].out)]))
                self._use(column[0].out)
        return found

    def _expression(self, span: Span) -> Span:
        """Without what may stand behind an expression in ORDER BY."""
        text, (first, last) = self.binder.text, span
        if last - first > 2 and text.word(last - 2) == "NULLS":
            last -= 2
        if last - first > 1 and text.word(last - 1) in ("ASC", "DESC"):
            last -= 1
        return first, last
