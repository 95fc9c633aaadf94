"""The expressions of a block as trees of sqlglot, with ours and subqueries masked by names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from sqlglot import exp

from gradbase.frontend.calls import Call
from gradbase.frontend.expression_spans import parse_expression, span_of
from gradbase.frontend.structure import Span, Text, Unrecognised


@dataclass
class Masked:
    """An expression's text with calls and subqueries replaced by names of the same length."""

    sql: str
    start: int
    items: dict[str, Call | Span] = field(default_factory=dict)

    def has_subquery(self, names: set[str]) -> bool:
        return any(not isinstance(self.items[n], Call) for n in names & set(self.items))


@dataclass
class Expressions:
    """Reads expressions of `text`; nothing is resolved."""

    text: Text
    calls: Mapping[int, Call]

    def mask(self, span: Span) -> Masked:
        """The text of `span` for sqlglot, of the same length and positions."""
        start = self.text.tokens[span[0]].start
        pieces: list[str] = []
        masked = Masked("", start)
        i, at = span[0], start
        while i < span[1]:
            covered, item, inset = self._maskable(i)
            if item is None:
                i += 1
                continue
            first, end = (
                self.text.tokens[i].start + inset,
                self.text.tokens[covered - 1].end - inset,
            )
            name = f"_gb{len(masked.items)}".ljust(end - first, "_")
            masked.items[name] = item
            pieces += [self.text.sql[at:first], name]
            i, at = covered, end
        pieces.append(self.text.sql[at : self.text.tokens[span[1] - 1].end])
        masked.sql = "".join(pieces)
        return masked

    def _maskable(self, i: int) -> tuple[int, Call | Span | None, int]:
        """(token after, what is masked, characters kept at both ends) at token `i`."""
        call = self.calls.get(i)
        if call is not None:
            return call.whole[1], call, 0
        if self.text.word(i) == "EXISTS" and self.text.is_subquery(i + 1):
            return self.text.after(i + 1), (i, self.text.after(i + 1)), 0
        if self.text.is_subquery(i):
            before = self.text.tokens[i - 1] if i else None
            if before is not None and before.upper in ("ANY", "ALL", "SOME", "ARRAY"):
                raise Unrecognised
            return self.text.after(i), (i, self.text.after(i)), 1
        return i, None, 0

    def tree(self, span: Span) -> tuple[exp.Expression, Masked]:
        masked = self.mask(span)
        found = parse_expression(masked.sql)
        if found is None:
            raise Unrecognised
        return found, masked

    def conjuncts(self, span: Span) -> list[Span]:
        """The operands of the outermost ANDs of `span`, in order."""
        node, masked = self.tree(span)
        found: list[Span] = []
        stack = [node]
        while stack:
            top = stack.pop()
            inner = top.this if isinstance(top, exp.Paren) else top
            if isinstance(inner, exp.And):
                stack += [inner.expression, inner.this]
                continue
            where = span_of(top)
            if where is None:
                return [span]
            found.append(self._tokens(masked.start + where[0], masked.start + where[1], span))
        return found

    def _tokens(self, start: int, end: int, within: Span) -> Span:
        tokens = self.text.tokens
        first = next(i for i in range(*within) if tokens[i].start == start)
        last = next(i for i in range(first, within[1]) if tokens[i].end == end)
        return first, last + 1

    def holds(self, span: Span) -> tuple[bool, bool]:
        """(predictions of this block, subqueries) in `span`, subqueries not looked into."""
        items = self.mask(span).items.values()
        return any(isinstance(i, Call) for i in items), any(not isinstance(i, Call) for i in items)
