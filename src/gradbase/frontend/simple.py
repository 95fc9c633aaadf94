"""Blocks taken apart: Filter, Project or Aggregate, Sort, Limit."""

from __future__ import annotations

from dataclasses import dataclass

from gradbase.errors import BindError
from gradbase.frontend.convert import Converter
from gradbase.frontend.cursor import read_number
from gradbase.frontend.dialect import nulls_of
from gradbase.frontend.names import distinct_names
from gradbase.frontend.rich import Bound, Rich, render
from gradbase.frontend.select_list import Item, read_items
from gradbase.frontend.sources import HIDDEN
from gradbase.frontend.structure import Block, Span, Unrecognised
from gradbase.frontend.tokens import quote_identifier
from gradbase.ir.analytic import analytics
from gradbase.ir.node import find
from gradbase.ir.relational import Aggregate, Filter, Join, Limit, Project, Relation, Sort
from gradbase.ir.scalar import Column, Scalar, SqlScalar, conjunction, conjuncts
from gradbase.ir.types import TEXT

_KNOWN = frozenset(("SELECT", "FROM", "WHERE", "GROUP", "ORDER", "LIMIT", "OFFSET"))
_ALL_ROWS = 2**62


@dataclass(frozen=True)
class Key:
    """One key of ORDER BY: an output (`output`) or a scalar over the source."""

    order: str
    output: int | None = None
    span: Span | None = None


def bind_simple(converter: Converter, block: Block, *_: object) -> Bound:
    """The block as operators of the IR; Unrecognised where a clause needs the engine's rules."""
    clauses = block.clauses
    if set(clauses) - _KNOWN or (block.distinct and block.distinct[1] - block.distinct[0] > 1):
        raise Unrecognised
    limit = _limit(converter, clauses)
    items = read_items(converter, clauses.get("SELECT"))
    names = distinct_names([i.name for i in items])
    keys = _sort_keys(converter, clauses.get("ORDER"), items)
    aggregated = [i for i in items if i.span is not None and converter.is_aggregate(i.span)]
    predicate = filter_predicate(converter, clauses.get("WHERE"))
    if aggregated or "GROUP" in clauses:
        if block.distinct:
            raise Unrecognised
        outputs = _aggregate(converter, clauses.get("GROUP"), items, keys)
    else:
        outputs = [_value(converter, i) for i in items]
        outputs += [converter.scalar(k.span) for k in keys if k.span is not None]
    source = converter.source.finish()
    below = filtered(source.relation, predicate)
    hidden = [f"{HIDDEN}_k{i}" for i, k in enumerate(keys) if k.span is not None]
    if isinstance(outputs, list):
        relation = _project(below, (*names, *hidden), outputs)
        stub = _project_stub((*names, *hidden), outputs, converter.source.stub)
    else:
        relation, stub = outputs.over(below, (*names, *hidden), converter.source.stub)
    if block.distinct:
        if hidden:
            raise Unrecognised
        columns = tuple(Column(f.name, f.type) for f in relation.schema)
        relation = Aggregate(relation, relation.schema.names, columns, (), ())
    if keys:
        relation = _sorted(relation, keys, names, hidden)
    if limit is not None:
        relation = Limit(relation, *limit)
    stub = converter.prefix(Rich((stub,))).stub
    return _without(hidden, Bound(relation, stub), names)


def _sorted(relation: Relation, keys: list[Key], names: list[str], hidden: list[str]) -> Sort:
    rest = iter(hidden)
    by = [next(rest) if k.output is None else names[k.output] for k in keys]
    columns = tuple(Column(n, relation.schema.type_of(n)) for n in by)
    return Sort(relation, columns, tuple(k.order for k in keys))


def _without(hidden: list[str], found: Bound, names: list[str]) -> Bound:
    """The block's own outputs, where keys of ORDER BY were computed beside them."""
    if not hidden:
        return found
    kept = tuple(Column(n, found.schema.type_of(n)) for n in names)
    items = ", ".join(quote_identifier(n) for n in names)
    project = Project(found.relation, tuple(names), kept)
    return Bound(project, f"SELECT {items} FROM ({found.stub}) AS __gb_q")


def _project(child: Relation, names: tuple[str, ...], values: list[Scalar]) -> Relation:
    """The projection, or `child` where it would change nothing."""
    same = tuple(Column(f.name, f.type) for f in child.schema)
    if names == child.schema.names and tuple(values) == same:
        return child
    return Project(child, names, tuple(values))


def _value(converter: Converter, item: Item) -> Scalar:
    if item.column is not None:
        return Column(item.column.out, item.column.type)
    assert item.span is not None
    return converter.scalar(item.span)


def _project_stub(names: tuple[str, ...], values: list[Scalar], source: str) -> str:
    items = (f"{render(v)} AS {quote_identifier(n)}" for n, v in zip(names, values, strict=True))
    return f"SELECT {', '.join(items)} FROM ({source}) AS __gb_q"


def filter_predicate(converter: Converter, span: Span | None) -> Scalar | None:
    """WHERE as one condition over the source; subqueries' conditions go into the source's text."""
    kept: list[Scalar] = []
    pieces = converter.conjuncts(span) if span is not None else []
    for piece in (*converter.source.conditions, *pieces):
        predicts, has_subquery = converter.holds(piece)
        if has_subquery and not predicts and not converter.uses_alias(piece):
            converter.source.pushed.append(converter.rewrite(piece))
        else:
            kept.append(converter.condition(piece))
    return conjunction(tuple(kept)) if kept else None


def filtered(child: Relation, predicate: Scalar | None) -> Relation:
    """`child` filtered; over a cross join what does not predict goes first: it makes the join."""
    if predicate is None:
        return child
    if any(j.kind == "cross" for j in find(child, Join)):
        free = tuple(c for c in conjuncts(predicate) if not c.predictions)
        rest = tuple(c for c in conjuncts(predicate) if c.predictions)
        if free and rest:
            return Filter(Filter(child, conjunction(free)), conjunction(rest))
    return Filter(child, predicate)


# -- GROUP BY ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Grouping:
    """Keys and outputs of an aggregation; an output is a key's index or an aggregate."""

    keys: tuple[Scalar, ...]
    outputs: tuple[int | Scalar, ...]

    def over(self, child: Relation, names: tuple[str, ...], source: str) -> tuple[Relation, str]:
        """The aggregation and the projection that puts its columns in order, with a stub."""
        key_names = tuple(f"{HIDDEN}_g{i}" for i in range(len(self.keys)))
        made: dict[str, Scalar] = {}
        columns: list[Scalar] = []
        for name, output in zip(names, self.outputs, strict=True):
            if isinstance(output, int):
                columns.append(Column(key_names[output], self.keys[output].type))
            else:
                made[name] = output
                columns.append(Column(name, output.type))
        relation = Aggregate(child, key_names, self.keys, tuple(made), tuple(made.values()))
        stub = f"SELECT {self._texts(names)} FROM ({source}) AS __gb_q{self._group_by}"
        return Project(relation, names, tuple(columns)), stub

    def _texts(self, names: tuple[str, ...]) -> str:
        values = (render(self.keys[o] if isinstance(o, int) else o) for o in self.outputs)
        return ", ".join(
            f"{v} AS {quote_identifier(n)}" for n, v in zip(names, values, strict=True)
        )

    @property
    def _group_by(self) -> str:
        return f" GROUP BY {', '.join(render(k) for k in self.keys)}" if self.keys else ""


def _aggregate(
    converter: Converter, group: Span | None, items: list[Item], keys: list[Key]
) -> Grouping:
    scalars = tuple(_group_key(converter, s, items) for s in _group_spans(converter, group))
    outputs: list[int | Scalar] = []
    spans = [(i.span, i) for i in items] + [(k.span, None) for k in keys if k.span is not None]
    for span, item in spans:
        if span is not None and converter.is_aggregate(span):
            outputs.append(_aggregate_scalar(converter, span, scalars))
            continue
        value = _value(converter, item) if item is not None else converter.scalar(span or (0, 0))
        if value not in scalars:
            raise Unrecognised
        outputs.append(scalars.index(value))
    return Grouping(scalars, tuple(outputs))


def _group_spans(converter: Converter, group: Span | None) -> list[Span]:
    if group is None:
        return []
    words = {converter.text.word(i) for i in range(*group)}
    if words & {"ALL", "ROLLUP", "CUBE", "GROUPING"}:
        raise Unrecognised
    return converter.text.split(group)


def _group_key(converter: Converter, span: Span, items: list[Item]) -> Scalar:
    position = _position(converter, span, len(items))
    return converter.scalar(span) if position is None else _value(converter, items[position])


def _aggregate_scalar(converter: Converter, span: Span, keys: tuple[Scalar, ...]) -> Scalar:
    """The expression's text as one scalar; its type comes from the grouped query."""
    draft = converter.scalar(span)
    if analytics(draft):
        raise BindError(
            "an aggregate cannot be taken of a function that learns from all rows",
            at=converter.text.at(span),
            hint="compute ML.… OVER () in a subquery first",
        )
    if not isinstance(draft, SqlScalar):
        draft = SqlScalar(("", ""), (draft,), TEXT)
    grouped = f" GROUP BY {', '.join(render(k) for k in keys)}" if keys else ""
    probe = f"SELECT {render(draft)} FROM ({converter.source.stub}) AS __gb_q{grouped}"
    of = converter.asker.types(converter.prefix(Rich((probe,))).stub)[0][1]
    return draft.replace(of=of)


# -- ORDER BY and LIMIT --------------------------------------------------------------------------


def _sort_keys(converter: Converter, span: Span | None, items: list[Item]) -> list[Key]:
    if span is None:
        return []
    keys: list[Key] = []
    by_name: dict[str, int] = {}
    for i, item in enumerate(items):
        by_name.setdefault(item.name.casefold(), i)
    for piece in converter.text.split(span):
        expression, order = _direction(converter, piece)
        if converter.text.word(expression[0]) == "ALL":
            raise Unrecognised
        output = _position(converter, expression, len(items))
        if output is None and expression[1] - expression[0] == 1:
            token = converter.text.tokens[expression[0]]
            output = by_name.get(token.name.casefold()) if token.is_name else None
        if output is None:
            output = _same_text(converter, expression, items)
        keys.append(Key(order, output, expression if output is None else None))
    return keys


def _same_text(converter: Converter, span: Span, items: list[Item]) -> int | None:
    """The output written with the same tokens, so that it is computed once."""
    words = [t.text for t in converter.text.tokens[slice(*span)]]
    for i, item in enumerate(items):
        if item.span and [t.text for t in converter.text.tokens[slice(*item.span)]] == words:
            return i
    return None


def _direction(converter: Converter, span: Span) -> tuple[Span, str]:
    text, (first, last) = converter.text, span
    nulls, direction = "", "asc"
    if last - first > 2 and text.word(last - 2) == "NULLS":
        nulls, last = text.word(last - 1).lower(), last - 2
    if last - first > 1 and text.word(last - 1) in ("ASC", "DESC"):
        direction, last = text.word(last - 1).lower(), last - 1
    return (first, last), f"{direction} nulls {nulls or nulls_of(direction)}"


def _position(converter: Converter, span: Span, count: int) -> int | None:
    """The output that ``ORDER BY 2`` or ``GROUP BY 2`` means (from 0)."""
    token = converter.text.tokens[span[0]]
    if span[1] - span[0] != 1 or token.kind != "number" or not token.text.isdigit():
        return None
    if not 1 <= int(token.text) <= count:
        raise Unrecognised
    return int(token.text) - 1


def _limit(converter: Converter, clauses: dict[str, Span]) -> tuple[int, int] | None:
    if "LIMIT" not in clauses and "OFFSET" not in clauses:
        return None
    count = _whole(converter, clauses["LIMIT"]) if "LIMIT" in clauses else _ALL_ROWS
    offset = _whole(converter, clauses["OFFSET"]) if "OFFSET" in clauses else 0
    return count, offset


def _whole(converter: Converter, span: Span) -> int:
    """A whole number, written out or as a parameter."""
    token = converter.text.tokens[span[0]]
    if span[1] - span[0] != 1:
        raise Unrecognised
    value: object = None
    if token.kind == "number":
        value = read_number(token.text)
    elif token.kind == "param":
        value = converter.asker.value(token.text[1:])
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise Unrecognised
    return value
