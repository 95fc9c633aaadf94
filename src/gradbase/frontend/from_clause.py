"""Reads a FROM clause: which relation it is, and which columns it offers."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from gradbase.frontend.rich import Bound, Rich, join_pieces
from gradbase.frontend.scopes import Scope, with_prefix
from gradbase.frontend.sources import HIDDEN, Source, SourceColumn, select_text
from gradbase.frontend.structure import Block, Factor, Span, Unrecognised, read_from
from gradbase.frontend.tokens import quote_identifier
from gradbase.ir.relational import Scan
from gradbase.ir.types import Field, Schema

if TYPE_CHECKING:
    from gradbase.frontend.binder import Binder

_SEPARATOR = f"{HIDDEN}|"
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
    return _single(binder, factors[0], scope) if len(factors) == 1 else _joined(binder, factors, scope, span)


def _one_row(binder: Binder) -> Source:
    """No FROM clause: one row."""
    text = Rich((f"SELECT 1 AS {HIDDEN}_row",))
    bound = text.bound(binder.asker.schema(text.stub))
    alone = Rich((f"({text.stub}) AS {HIDDEN}_one",))
    return Source([], [], "", alone, lambda rich: rich, lambda: bound)


def _prefix(scope: Scope) -> Callable[[Rich], Rich]:
    return lambda rich: with_prefix(rich, scope)


def _single(binder: Binder, factor: Factor, scope: Scope) -> Source:
    from_text = _factor_text(binder, factor, scope, f"{HIDDEN}_f0")
    all_columns = with_prefix(join_pieces("SELECT * FROM ", from_text), scope)
    alias = factor.alias or f"{HIDDEN}_f0"
    schema = binder.asker.schema(all_columns.stub)
    columns = [SourceColumn(alias, f.name, f.name, f.type) for f in schema]
    table = _table_name(binder, factor, scope)
    pseudo = _pseudo_columns(binder, factor, schema) if table and not factor.has_columns else []
    made: list[Bound] = []

    def base() -> Bound:
        if not made:
            made.append(_relation(binder, factor, scope, all_columns, schema, pseudo))
        return made[0]

    every = [*columns, *(SourceColumn(alias, f.name, f.name, f.type) for f in pseudo)]
    return Source(every, columns, alias, from_text, _prefix(scope), base)


def _relation(
    binder: Binder,
    factor: Factor,
    scope: Scope,
    all_columns: Rich,
    schema: Schema,
    pseudo: list[Field],
) -> Bound:
    table = _table_name(binder, factor, scope)
    if not factor.has_columns and not factor.lateral:
        if table is not None:
            wide = Schema((*schema.fields, *pseudo))
            added = "".join(f", {f.name}" for f in pseudo)
            return Bound(Scan(table, "", wide), f"SELECT *{added} FROM {table}")
        first, last = factor.primary
        if first in binder.calls or binder.text.is_subquery(first):
            pieces = [p for p in all_columns.pieces if isinstance(p, Bound)]
            if first in binder.calls and len(pieces) == 1:
                return pieces[0]
            if binder.text.is_subquery(first):
                return binder.query((first, last), scope)
        if last - first == 1:
            named = scope.get(binder.text.tokens[first].name.casefold())
            if named is not None and named.bound is not None:
                return named.bound
    return all_columns.bound(schema)


def _pseudo_columns(binder: Binder, factor: Factor, schema: Schema) -> list[Field]:
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


def _joined(binder: Binder, factors: list[Factor], scope: Scope, span: Span) -> Source:
    from_text = _joined_text(binder, factors, scope, span)
    visible = [f for f in factors if not f.is_hidden]
    names = [f.alias or f"{HIDDEN}_f{factors.index(f)}" for f in visible]
    columns = _columns_by_factor(binder, names, from_text, scope)
    star_types = binder.asker.types(
        with_prefix(join_pieces("SELECT * FROM ", from_text), scope).stub
    )
    star = _star(columns, [SourceColumn("", n, n, t) for n, t in star_types])
    folded = [c.name.casefold() for c in star]
    unmerged = frozenset(n for n in folded if folded.count(n) > 1)
    every = [*columns, *(c for c in star if not c.qualifier)]
    text = with_prefix(select_text(every, from_text), scope)
    schema = Schema(tuple({c.out: Field(c.out, c.type) for c in every}.values()))
    return Source(
        columns, star, "", from_text, _prefix(scope), lambda: text.bound(schema), unmerged
    )


def _joined_text(binder: Binder, factors: list[Factor], scope: Scope, span: Span) -> Rich:
    insert: dict[int, str] = {}
    for i, factor in enumerate(factors):
        if factor.on is not None and binder.direct(factor.on):
            raise Unrecognised
        if factor.has_alias:
            continue
        if not factor.alias:
            insert[factor.whole[1]] = f' AS "{HIDDEN}_f{i}"'
        elif factor.primary[0] in binder.calls:
            insert[factor.whole[1]] = f" AS {quote_identifier(factor.alias)}"
    return binder.rewrite(span, scope, None, insert)


def _columns_by_factor(
    binder: Binder, names: list[str], from_text: Rich, scope: Scope
) -> list[SourceColumn]:
    items = f", NULL AS {quote_identifier(_SEPARATOR)}, ".join(
        f"{quote_identifier(n)}.*" for n in names
    )
    text = with_prefix(join_pieces(f"SELECT {items} FROM ", from_text), scope)
    found: list[SourceColumn] = []
    at = 0
    for name, of in binder.asker.types(text.stub):
        if name == _SEPARATOR:
            at += 1
        else:
            found.append(SourceColumn(names[at], name, f"{names[at]}.{name}", of))
    if len({c.out.casefold() for c in found}) != len(found):
        raise Unrecognised
    return found


def _star(columns: list[SourceColumn], star: list[SourceColumn]) -> list[SourceColumn]:
    """Columns of ``*``: a factor's, or one merged by USING or NATURAL."""
    if [c.name for c in columns] == [c.name for c in star]:
        return columns
    counts = {c.name: 0 for c in star}
    for c in star:
        counts[c.name] += 1
    several = {n for n in counts if sum(c.name == n for c in columns) > counts[n] == 1}
    rest = [c for c in columns if c.name not in several]
    found: list[SourceColumn] = []
    for c in star:
        if c.name in several:
            found.append(c)
        elif rest and rest[0].name == c.name:
            found.append(rest.pop(0))
        else:
            raise Unrecognised
    return found
