"""Reads a FROM clause: which relation it is, and which columns it offers."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from gradbase.frontend.joins import joined_source
from gradbase.frontend.rich import Bound, Rich, join_pieces
from gradbase.frontend.scopes import Scope, with_prefix
from gradbase.frontend.sources import HIDDEN, Source, SourceColumn
from gradbase.frontend.structure import Block, Factor, Span, Unrecognised, read_from
from gradbase.frontend.table_calls import bind_table_call
from gradbase.frontend.tokens import quote_identifier
from gradbase.ir.relational import Scan
from gradbase.ir.types import Field, Schema

if TYPE_CHECKING:
    from gradbase.frontend.binder import Binder

_PSEUDO = ("rowid",)
"""Columns that a table has and ``*`` leaves out."""


def base_table(binder: Binder, block: Block, scope: Scope) -> str | None:
    """The table, if the block is nothing but ``SELECT * FROM table``."""
    text, clauses = binder.text, block.clauses
    items = clauses.get("SELECT")
    if set(clauses) - {"SELECT"} != {"FROM"} or block.distinct is not None:
        return None
    if items is not None and text.slice(items) != "*":
        return None
    try:
        factors = read_from(text, clauses["FROM"])
    except Unrecognised:
        return None
    if len(factors) != 1 or factors[0].has_columns:
        return None
    return _table_name(binder, factors[0], scope)


def _table_name(binder: Binder, factor: Factor, scope: Scope) -> str | None:
    """SQL name of the table, None for subqueries, functions, files and WITH queries."""
    text = binder.text
    first, last = factor.primary
    if not text.tokens[first].is_name or text.word(last - 1) == ")":
        return None
    if last - first == 1 and text.tokens[first].name.casefold() in scope:
        return None
    return text.slice(factor.primary)


def build_source(binder: Binder, span: Span | None, scope: Scope) -> Source:
    """The source of a block with FROM clause `span`; Unrecognised where it is not taken apart."""
    if span is None:
        return _one_row(binder)
    factors = read_from(binder.text, span)
    if len(factors) == 1:
        return single_source(binder, factors[0], scope)
    return joined_source(binder, factors, scope, span, single_source)


def _one_row(binder: Binder) -> Source:
    """No FROM clause: one row."""
    text = Rich((f"SELECT 1 AS {HIDDEN}_row",))
    bound = text.bound(binder.asker.schema(text.stub))
    alone = Rich((f"({text.stub}) AS {HIDDEN}_one",))
    return Source([], [], "", alone, lambda rich: rich, lambda: bound)


def _prefix(scope: Scope) -> Callable[[Rich], Rich]:
    return lambda rich: with_prefix(rich, scope)


def single_source(binder: Binder, factor: Factor, scope: Scope) -> Source:
    """The columns and the relation of one item of FROM."""
    from_text = _factor_text(binder, factor, scope, f"{HIDDEN}_f0")
    all_columns = with_prefix(join_pieces("SELECT * FROM ", from_text), scope)
    alias = factor.alias or f"{HIDDEN}_f0"
    schema = binder.asker.schema(all_columns.stub)
    columns = [SourceColumn(alias, f.name, f.name, f.type) for f in schema]
    pseudo = _pseudo_columns(binder, factor, schema, scope)
    made: list[Bound] = []

    def base() -> Bound:
        if not made:
            own = None if factor.has_columns or factor.lateral else _own(binder, factor, scope)
            table = _table_name(binder, factor, scope)
            if own is None and table is not None and not factor.has_columns:
                own = _scan(table, schema, pseudo)
            made.append(own or all_columns.bound(schema))
        return made[0]

    every = [*columns, *(SourceColumn(alias, f.name, f.name, f.type) for f in pseudo)]
    return Source(every, columns, alias, from_text, _prefix(scope), base)


def _scan(table: str, schema: Schema, pseudo: list[Field]) -> Bound:
    added = "".join(f", {f.name}" for f in pseudo)
    columns = Schema((*schema.fields, *pseudo))
    return Bound(Scan(table, "", columns), f"SELECT *{added} FROM {table}")


def _own(binder: Binder, factor: Factor, scope: Scope) -> Bound | None:
    """The relation of a subquery, a table function of ours, or a WITH query that predicts."""
    first, last = factor.primary
    if first in binder.calls:
        return bind_table_call(binder, binder.calls[first], scope)
    if binder.text.is_subquery(first):
        return binder.query((first, last), scope)
    if last - first > 1:
        return None
    named = scope.get(binder.text.tokens[first].name.casefold())
    return named.bound if named is not None else None


def _pseudo_columns(binder: Binder, factor: Factor, schema: Schema, scope: Scope) -> list[Field]:
    """Columns of a table that the text names and ``*`` leaves out."""
    if _table_name(binder, factor, scope) is None or factor.has_columns:
        return []
    words = {t.name.casefold() for t in binder.text.tokens if t.is_name}
    wanted = [n for n in _PSEUDO if n in words and n not in schema]
    table = binder.text.slice(factor.primary)
    found = [binder.asker.probe(f"SELECT {n} FROM {table}") for n in wanted]
    return [Field(n, t[0][1]) for n, t in zip(wanted, found, strict=True) if t]


def _factor_text(binder: Binder, factor: Factor, scope: Scope, alias: str) -> Rich:
    """The factor as the user wrote it; a table function of ours and a subquery get an alias."""
    text = binder.rewrite(factor.whole, scope)
    if factor.has_alias:
        return text
    if not factor.alias:
        return join_pieces(text, f" AS {quote_identifier(alias)}")
    if factor.primary[0] in binder.calls:
        return join_pieces(text, f" AS {quote_identifier(factor.alias)}")
    return text
