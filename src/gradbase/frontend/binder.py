"""Queries with predictions become relations of the IR.

A block that predicts is taken apart where that is simple (`blocks`), else its text stays whole over
a relation that has the predictions as columns, else the predictions stay in the text as functions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from gradbase.errors import BindError, EngineError
from gradbase.frontend.addresses import Address
from gradbase.frontend.blocks import bind_block
from gradbase.frontend.calls import Call, read_calls
from gradbase.frontend.dialect import written_in
from gradbase.frontend.features import check_predicts, method_of
from gradbase.frontend.from_clause import base_table
from gradbase.frontend.in_text import call_in_text, output_names
from gradbase.frontend.parameters import Parameters, normalise, parameter_values
from gradbase.frontend.preprocessing import row_spans, stub_type
from gradbase.frontend.rich import Asker, Bound, Rich, join_pieces, stub_call
from gradbase.frontend.scopes import NamedQuery, Scope, with_prefix
from gradbase.frontend.star_lists import without_star_lists
from gradbase.frontend.structure import Block, Cte, Span, Text, read_query
from gradbase.frontend.table_calls import bind_table_call
from gradbase.ir.facts import Models, Relations
from gradbase.ir.learning import Model
from gradbase.ir.relational import Relation, Scan


def bind_query(
    sql: str, relations: Relations, models: Models, parameters: Parameters = None
) -> Relation:
    """The relation that a query means.

    Parameters
    ----------
    sql : str
        One query, without what may stand around it (see `statements.Wrapped`).
    relations : Relations
        Answers names and types of columns, without running anything.
    models : Models
    parameters : sequence or mapping, optional
        Values of ``?``, ``$1`` (a sequence) or ``$name`` (a mapping).

    Returns
    -------
    Relation
        Its schema has distinct names: the second ``a`` of a query is called ``a_1``. An expression
        with a prediction in it and no alias is called as it is written.

    Raises
    ------
    BindError
        Unknown model, missing feature, wrong type; the span is underlined.
    """
    asker = Asker(relations, parameter_values(parameters))
    text = without_star_lists(Text.of(normalise(sql)), asker, relations.dialect.star_words)
    binder = Binder(text, asker, models, read_calls(text))
    with written_in(relations.dialect):
        return binder.query((0, len(text.tokens)), {}).relation


@dataclass
class Binder:
    """Binds the queries inside one statement."""

    text: Text
    asker: Asker
    models: Models
    calls: Mapping[int, Call]

    def model(self, call: Call, address: Address | None = None) -> Model:
        """The model that a call names (or the one at `address`), the error underlined."""
        named = address or call.model
        try:
            found = self.models.model(named.name, named.version, call.trial)
        except BindError as error:
            if error.at is not None:
                raise
            raise BindError(error.message, at=named.at, hint=error.hint) from None
        if call.predicts:
            check_predicts(found, named.at)
        return found

    # -- queries --------------------------------------------------------------------------------

    def query(self, span: Span, scope: Scope) -> Bound:
        """The query in `span` (its own parentheses may be part of it)."""
        block = read_query(self.text, span)
        scope = self.extended(scope, block.ctes)
        if not self.predicts(block.body):
            return self._plain(block, scope)
        if block.clauses:
            return bind_block(self, block, scope)
        return self.in_text(block, scope)

    def in_text(self, block: Block, scope: Scope) -> Bound:
        """The block's text as it is, with relations and functions in its gaps."""
        if block.operands:
            text = self._operands(block, block.body, scope, alone=True)
        else:
            text = self.rewrite(block.body, scope, block, output_names(self, block))
        text = with_prefix(text, scope)
        return text.bound(self.asker.schema(text.stub))

    def _plain(self, block: Block, scope: Scope) -> Bound:
        table = base_table(self, block, scope)
        if table is not None:
            schema = self.asker.schema(f"SELECT * FROM {table}")
            return Bound(Scan(table, "", schema), f"SELECT * FROM {table}")
        return self.in_text(block, scope)

    def extended(self, scope: Scope, ctes: tuple[Cte, ...]) -> Scope:
        """`scope` with the queries of a WITH."""
        known = dict(scope)
        for cte in ctes:
            name = cte.name.casefold()
            known.pop(name, None)
            known[name] = self._named(cte, known)
        return known

    def _named(self, cte: Cte, scope: Scope) -> NamedQuery:
        if not self.predicts(cte.whole):
            written = self.text.slice(cte.whole)
            return NamedQuery(Rich((written,), self.reads(cte.body, scope)), cte.recursive)
        if not self.stands_alone(cte.body, scope):
            return NamedQuery(self.rewrite(cte.whole, scope), cte.recursive)
        bound = self.query(cte.body, scope)
        before = self.text.slice((cte.whole[0], cte.body[0]))
        after = self.text.slice((cte.body[1], cte.whole[1]))
        has_columns = self.text.word(cte.whole[0] + 1) == "("
        definition = join_pieces(before + " ", bound, " " + after)
        return NamedQuery(definition, cte.recursive, None if has_columns else bound)

    # -- what is inside a span ------------------------------------------------------------------

    def predicts(self, span: Span) -> bool:
        """Whether anything of ours is called in `span`."""
        return any(i in self.calls for i in range(*span))

    def direct(self, span: Span) -> list[Call]:
        """Scalar predictions of the block itself: not in its subqueries, nor inside each other."""
        found: list[Call] = []
        i = span[0]
        while i < span[1]:
            call = self.calls.get(i)
            if call is not None:
                if not call.is_table:
                    found.append(call)
                i = call.whole[1]
            elif self.text.is_subquery(i):
                i = self.text.after(i)
            else:
                i += 1
        return found

    def own_calls(self, span: Span) -> list[Call]:
        """Scalar calls of the block itself, also inside each other; not in its subqueries."""
        found: list[Call] = []
        i = span[0]
        while i < span[1]:
            call = self.calls.get(i)
            if call is not None and call.is_table:
                i = call.whole[1]
            elif self.text.is_subquery(i):
                i = self.text.after(i)
            else:
                found += [call] if call is not None else []
                i += 1
        return found

    def stands_alone(self, span: Span, scope: Scope) -> bool:
        """Whether the query in `span` means something without what is around it."""
        try:
            stub = with_prefix(Rich((self.stub_text(span, scope),)), scope).stub
        except EngineError:
            return False
        return self.asker.probe(f"SELECT * FROM {stub}" if stub[0] == "(" else stub) is not None

    def stub_text(self, span: Span, scope: Scope) -> str:
        """The text of `span` with NULLs for its predictions."""
        pieces: list[str] = []
        at = self.text.tokens[span[0]].start
        i = span[0]
        while i < span[1]:
            call = self.calls.get(i)
            if call is None:
                i += 1
                continue
            pieces += [self.text.sql[at : self.text.tokens[i].start], self._stub_of(call, scope)]
            i = call.whole[1]
            at = self.text.tokens[i - 1].end
        return "".join(pieces) + self.text.sql[at : self.text.tokens[span[1] - 1].end]

    def _stub_of(self, call: Call, scope: Scope) -> str:
        if call.is_table:
            return f"({bind_table_call(self, call, scope).stub})"
        if call.preprocesses:
            spans = row_spans(self.text, call)
            return stub_call(stub_type(call.function), [self.stub_text(s, scope) for s in spans])
        model = self.model(call)
        named = [a for a in call.arguments if a.kind != "star"]
        arguments = [self.stub_text(a.value, scope) for a in named]
        return stub_call(model.output(method_of(call.function, model)).type, arguments)

    def reads(self, span: Span, scope: Scope) -> tuple[str, ...]:
        """Names of tables that the text of `span` reads; queries of `scope` are none."""
        text = self.text
        found: dict[str, None] = {}
        i = span[0]
        while i < span[1]:
            listed = text.word(i) == "JOIN" or (text.word(i) == "FROM" and not self._is_keyword(i))
            i += 1
            while listed and i < span[1] and text.tokens[i].is_name:
                last = i
                while text.word(last + 1) == "." and last + 2 < span[1]:
                    last += 2
                known = last == i and text.tokens[i].name.casefold() in scope
                if text.word(last + 1) != "(" and not known:
                    found[text.slice((i, last + 1))] = None
                i = last + 1
                i += text.word(i) == "AS"
                i += i < span[1] and text.tokens[i].is_name and text.word(i + 1) == ","
                listed = text.word(i) == ","
                i += listed
        return tuple(found)

    def _is_keyword(self, i: int) -> bool:
        """Whether the FROM at token `i` belongs to an expression: ``extract(year FROM d)``."""
        if self.text.word(i - 1) == "DISTINCT":
            return self.text.word(i - 2) in ("IS", "NOT")
        around = [a for a, b in self.text.pairs.items() if a < i < b]
        return bool(around) and self.text.word(max(around) - 1) in (
            "EXTRACT", "TRIM", "SUBSTRING", "SUBSTR", "OVERLAY",
        )  # fmt: skip

    # -- rewriting text -------------------------------------------------------------------------

    def rewrite(
        self,
        span: Span,
        scope: Scope,
        block: Block | None = None,
        insert: Mapping[int, str] | None = None,
        replace: Mapping[int, tuple[str, int]] | None = None,
    ) -> Rich:
        """The text of `span` with everything of ours in its gaps.

        Subqueries with predictions become relations where they stand alone; predictions of `block`
        itself, and of subqueries that do not, become functions in the text. `insert` is text to put
        before the token of that index, `replace` text for the tokens from there to an end.
        """
        pieces: list[str | Rich | Bound] = []
        at = self.text.tokens[span[0]].start
        i = span[0]
        while i < span[1]:
            added = (insert or {}).get(i)
            found, end = self._replaced(i, scope, block, replace or {})
            if added:
                start = self.text.tokens[i - 1].end if i > span[0] else at
                pieces += [self.text.sql[at:start], added]
                at = start
            if found is not None:
                pieces += [self.text.sql[at : self.text.tokens[i].start], found]
                at = self.text.tokens[end - 1].end
            i = end
        pieces.append(self.text.sql[at : self.text.tokens[span[1] - 1].end])
        if insert and span[1] in insert:
            pieces.append(insert[span[1]])
        rich = join_pieces(*pieces)
        return Rich(rich.pieces, self.reads(span, scope))

    def _replaced(
        self,
        i: int,
        scope: Scope,
        block: Block | None,
        replace: Mapping[int, tuple[str, int]],
    ) -> tuple[Rich | Bound | None, int]:
        """What stands for the piece of text that starts at token `i`, and the token after it."""
        if i in replace:
            return Rich((replace[i][0],)), replace[i][1]
        call = self.calls.get(i)
        if call is not None and call.is_table:
            return bind_table_call(self, call, scope), call.whole[1]
        if call is not None:
            return Rich((call_in_text(self, call, scope, block),)), call.whole[1]
        if not self.text.is_subquery(i):
            return None, i + 1
        whole = (i, self.text.after(i))
        if not self.predicts(whole):
            return None, whole[1]
        if self.stands_alone(whole, scope):
            return self.query(whole, scope), whole[1]
        return self._correlated(whole, scope), whole[1]

    def _correlated(self, whole: Span, scope: Scope) -> Rich:
        """A subquery that reads columns from outside: its predictions become functions."""
        inner = read_query(self.text, whole)
        if not inner.operands:
            before = self.text.slice((whole[0], inner.whole[0]))
            after = self.text.slice((inner.whole[1], whole[1]))
            return join_pieces(before, self.rewrite(inner.whole, scope, inner), after)
        return self._operands(inner, whole, scope, alone=False)

    def _operands(self, block: Block, span: Span, scope: Scope, *, alone: bool) -> Rich:
        """A set operation: its sides as relations where they stand alone, else as text."""
        parts: list[str | Rich | Bound] = []
        at = span[0]
        for operand in block.operands:
            parts += [self.text.slice((at, operand[0])), " "]
            if alone and self.predicts(operand):
                parts.append(self.query(operand, scope))
            else:
                parts.append(self.rewrite(operand, scope, read_query(self.text, operand)))
            parts.append(" ")
            at = operand[1]
        return join_pieces(*parts, self.text.slice((at, span[1])))
