"""``TRANSFORM (select list)`` of CREATE MODEL: what networks read, from the query's columns."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from sqlglot import exp

from gradbase.errors import BindError, EngineError, GradbaseError, UnsupportedError
from gradbase.frontend.calls import Call, read_calls
from gradbase.frontend.convert import Converter
from gradbase.frontend.dialect import type_sql, written_in
from gradbase.frontend.names import distinct_names
from gradbase.frontend.preprocessing import preprocessing_scalar
from gradbase.frontend.rich import Asker, Bound, Rich
from gradbase.frontend.select_list import alias_of, read_items
from gradbase.frontend.sources import Source, SourceColumn
from gradbase.frontend.structure import Span, Text, Unrecognised
from gradbase.frontend.tokens import matching, quote_identifier, significant
from gradbase.ir.derived import Derived
from gradbase.ir.facts import Relations
from gradbase.ir.preprocessing import member
from gradbase.ir.relational import SqlFragment
from gradbase.ir.scalar import Column, Scalar
from gradbase.ir.types import Schema


@dataclass(frozen=True)
class TransformClause:
    """The select list of a TRANSFORM: characters [start, end) of `sql`."""

    sql: str
    start: int
    end: int

    @classmethod
    def of(cls, select_list: str) -> TransformClause:
        """A select list that stands alone, as Python gives it."""
        return cls(select_list, 0, len(select_list))

    @property
    def text(self) -> str:
        """The select list."""
        return self.sql[self.start : self.end]


def bind_transform(
    clause: TransformClause, schema: Schema, relations: Relations
) -> tuple[Derived, ...]:
    """The columns that a TRANSFORM gives, over the columns `schema` of the training query.

    Raises
    ------
    BindError
        A column or function does not exist; an expression has no name, or is none of a row alone:
        aggregates, window functions, subqueries, predictions, parameters, chance. Each underlined.
    """
    tokens = [t for t in significant(clause.sql) if clause.start <= t.start and t.end <= clause.end]
    text = Text(clause.sql, tokens, matching(tokens))
    with written_in(relations.dialect):
        binder = _Binder(text, schema, relations)
        found = [d for piece in text.split((0, len(tokens))) for d in binder.columns(piece)]
    if not found:
        raise BindError("TRANSFORM names no column", hint="TRANSFORM (*, …)")
    names = [d.name for d in found]
    for name, distinct in zip(names, distinct_names(names), strict=True):
        if name != distinct:
            raise BindError(
                f"TRANSFORM gives two columns `{name}`",
                hint=f"* EXCEPT ({name}), … AS {name}; or another name with AS",
            )
    return tuple(found)


class _Binder:
    """Binds the items of one select list."""

    def __init__(self, text: Text, schema: Schema, relations: Relations) -> None:
        self.text, self.schema = text, schema
        columns = [SourceColumn("", f.name, f.name, f.type) for f in schema]
        nulls = (f"CAST(NULL AS {type_sql(f.type)}) AS {quote_identifier(f.name)}" for f in schema)
        stub = f"SELECT {', '.join(nulls)}"
        rows = Bound(SqlFragment((stub,), (), schema), stub)
        source = Source(columns, columns, "", None, lambda rich: rich, lambda: rows)
        self.converter = Converter(
            text, read_calls(text), source, Asker(relations, {}), self._called,
            lambda span: Rich((text.slice(span),)), lambda rich: rich,
        )  # fmt: skip

    def columns(self, piece: Span) -> Iterator[Derived]:
        """The columns of one item."""
        fields = self._fields(piece)
        if fields is not None:
            yield from fields
            return
        try:
            items = read_items(self.converter, piece)
        except Unrecognised:
            raise self._unreadable(piece) from None
        has_name = self.text.word(piece[0]) == "*" or alias_of(self.text, piece)[0] != ""
        for item in items:
            if item.column is not None:
                yield Derived(item.name, Column(item.column.out, item.column.type))
                continue
            assert item.span is not None
            scalar = self._scalar(item.span)
            if not has_name and not isinstance(scalar, Column):
                raise BindError(
                    f"`{self.text.slice(piece)}` in TRANSFORM needs a name",
                    at=self.text.at(piece),
                    hint="… AS name",
                )
            yield Derived(item.name if has_name else scalar.name, scalar)  # type: ignore[union-attr]

    def _fields(self, piece: Span) -> list[Derived] | None:
        """``column.*`` of a struct column."""
        first, last = piece
        if last - first != 3 or self.text.word(first + 1) != "." or self.text.word(last - 1) != "*":
            return None
        found = self.converter.source.resolve([self.text.tokens[first].name])
        if found is None or found[0].type.kind != "struct":
            raise BindError(
                f"`{self.text.tokens[first].name}` is no struct column of the training query",
                at=self.text.at(piece),
                hint="* for all columns; struct_column.* for its fields",
            )
        column = Column(found[0].out, found[0].type)
        return [Derived(name, member(column, name)) for name, _ in column.of.fields]

    def _scalar(self, span: Span) -> Scalar:
        self._check(span)
        try:
            scalar = self.converter.scalar(span)
        except Unrecognised:
            raise self._unreadable(span) from None
        except EngineError as error:
            raise self._refused(error, span) from error
        if scalar.volatile:
            raise self._not_of_a_row(span, "chance or a sequence")
        return scalar

    def _called(self, call: Call, converter: Converter) -> Scalar:
        if not call.preprocesses:
            raise self._not_of_a_row(call.whole, "predictions")
        return preprocessing_scalar(self.text, call, converter.scalar)

    # -- what may not stand here -------------------------------------------------------------------

    def _check(self, span: Span) -> None:
        """Refuse what depends on more than the row, before it is bound."""
        inside = range(*span)
        for at, what in (
            (next((i for i in inside if self.text.is_subquery(i)), None), "subqueries"),
            (next((i for i in inside if self.text.tokens[i].kind == "param"), None), "parameters"),
        ):
            if at is not None:
                raise self._not_of_a_row((at, self.text.after(at)), what)
        try:
            node, _ = self.converter.tree(span)
            if node.find(exp.Window) is not None:
                raise self._not_of_a_row(span, "window functions")
            aggregate = self.converter.is_aggregate(span)
        except Unrecognised:
            raise self._unreadable(span) from None
        except EngineError as error:
            raise self._refused(error, span) from error
        if aggregate:
            raise self._not_of_a_row(span, "aggregates")

    def _not_of_a_row(self, span: Span, what: str) -> BindError:
        return BindError(
            f"{what} cannot stand in TRANSFORM: it is computed for one row at a time, also when "
            "predicting",
            at=self.text.at(span),
            hint="compute it in the training query, or learn it with a function ML.… OVER ()",
        )

    def _unreadable(self, span: Span) -> GradbaseError:
        return UnsupportedError(
            f"`{self.text.slice(span)}` is not understood in TRANSFORM",
            at=self.text.at(span),
            hint="compute it in the training query",
        )

    def _refused(self, error: EngineError, span: Span) -> BindError:
        """The engine's own words, without the text that it was asked with."""
        said = [line for line in error.message.splitlines() if line.strip()]
        shown = next((i for i, line in enumerate(said) if line.startswith("LINE")), len(said))
        first, *more = said[:shown]
        return BindError(f"TRANSFORM: {first}", at=self.text.at(span), hint="; ".join(more) or None)
