"""FROM with several factors: columns by factor, and joins of the IR where they are plain."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gradbase.errors import EngineError
from gradbase.frontend.expressions import Expressions
from gradbase.frontend.predictions import over_source
from gradbase.frontend.rich import Bound, Rich, join_pieces
from gradbase.frontend.scopes import Scope, with_prefix
from gradbase.frontend.sources import HIDDEN, Source, SourceColumn, select_text
from gradbase.frontend.structure import Factor, Span, Unrecognised
from gradbase.frontend.tokens import quote_identifier
from gradbase.ir.relational import Join, Project, Relation, Scan
from gradbase.ir.scalar import Column, Compare, Scalar, conjunction
from gradbase.ir.types import Field, Schema

if TYPE_CHECKING:
    from gradbase.frontend.binder import Binder

_SEPARATOR = f"{HIDDEN}|"
_KINDS = {
    ",": "cross", "CROSS JOIN": "cross", "JOIN": "inner", "INNER JOIN": "inner",
    "LEFT JOIN": "left", "LEFT OUTER JOIN": "left", "RIGHT JOIN": "right",
    "RIGHT OUTER JOIN": "right", "FULL JOIN": "full", "FULL OUTER JOIN": "full",
    "SEMI JOIN": "semi", "ANTI JOIN": "anti",
}  # fmt: skip
_KEEPS_LEFT = frozenset(("cross", "inner", "left", "semi", "anti"))
"""Joins after which a column merged by USING is the left one's."""

Single = Callable[["Binder", Factor, Scope], Source]


def joined_source(
    binder: Binder, factors: list[Factor], scope: Scope, span: Span, single: Single
) -> Source:
    """The source of several factors; `single` makes that of one."""
    kinds = [_KINDS.get(f.joined, "") for f in factors[1:]]
    conditions, replaced = _predicting_conditions(binder, factors, kinds)
    from_text = binder.rewrite(span, scope, None, _aliases(binder, factors), replaced)
    names = [_qualifier(f, i) for i, f in enumerate(factors) if not f.is_hidden]
    columns = _columns_by_factor(binder, names, from_text, scope)
    types = binder.asker.types(with_prefix(join_pieces("SELECT * FROM ", from_text), scope).stub)
    star = _star(columns, [SourceColumn("", n, n, t) for n, t in types], set(kinds) <= _KEEPS_LEFT)
    folded = [c.name.casefold() for c in star]
    unmerged = frozenset(n for n in folded if folded.count(n) > 1)
    every = [*columns, *(c for c in star if not c.qualifier)]
    text = with_prefix(select_text(every, from_text), scope)
    schema = Schema(tuple({c.out: Field(c.out, c.type) for c in every}.values()))

    def prefix(rich: Rich) -> Rich:
        return with_prefix(rich, scope)

    def source(base: Callable[[], Bound]) -> Source:
        return Source(columns, star, "", from_text, prefix, base, conditions, unmerged)

    whole = text.bound(schema)
    made: list[Bound] = []

    def base() -> Bound:
        if not made:
            over = source(lambda: whole)
            tree = _Tree(binder, factors, kinds, scope, over, single).build()
            made.append(whole if tree is None else Bound(tree, whole.stub))
        return made[0]

    return source(base)


def _qualifier(factor: Factor, index: int) -> str:
    return factor.alias or f"{HIDDEN}_f{index}"


def _aliases(binder: Binder, factors: list[Factor]) -> dict[int, str]:
    """Aliases to write behind the factors that have none of their own."""
    return {
        f.whole[1]: f" AS {quote_identifier(_qualifier(f, i))}"
        for i, f in enumerate(factors)
        if not f.has_alias and (not f.alias or f.primary[0] in binder.calls)
    }


def _predicting_conditions(
    binder: Binder, factors: list[Factor], kinds: list[str]
) -> tuple[list[Span], dict[int, tuple[str, int]]]:
    """Conditions with predictions, taken out of ON, and what is left in their place."""
    found: list[Span] = []
    replaced: dict[int, tuple[str, int]] = {}
    for factor in factors:
        if factor.on is None or not binder.direct(factor.on):
            continue
        if not set(kinds) <= {"inner", "cross"}:
            raise Unrecognised  # an outer join's condition decides more than which rows are kept
        pieces = Expressions(binder.text, binder.calls).conjuncts(factor.on)
        predicting = [p for p in pieces if binder.direct(p)]
        rest = [f"({binder.text.slice(p)})" for p in pieces if p not in predicting]
        if any(binder.predicts(p) for p in pieces if p not in predicting):
            raise Unrecognised
        found += predicting
        replaced[factor.on[0]] = (" AND ".join(rest) or "TRUE", factor.on[1])
    return found, replaced


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


def _star(
    columns: list[SourceColumn], star: list[SourceColumn], keeps_left: bool
) -> list[SourceColumn]:
    """Columns of ``*``: a factor's, or one merged by USING or NATURAL."""
    if [c.name for c in columns] == [c.name for c in star]:
        return columns
    counts = {c.name: sum(s.name == c.name for s in star) for c in star}
    merged = {n for n in counts if sum(c.name == n for c in columns) > counts[n] == 1}
    rest = [c for c in columns if c.name not in merged]
    found: list[SourceColumn] = []
    for c in star:
        if c.name in merged:
            first = next(o for o in columns if o.name == c.name)
            found.append(first if keeps_left else c)
        elif rest and rest[0].name == c.name:
            found.append(rest.pop(0))
        else:
            raise Unrecognised
    return found


# -- joins of the IR -----------------------------------------------------------------------------


@dataclass(frozen=True)
class _Tree:
    """Joins over `factors`, whose columns `source` resolves."""

    binder: Binder
    factors: list[Factor]
    kinds: list[str]
    scope: Scope
    source: Source
    single: Single

    def build(self) -> Relation | None:
        """The joins, or None where the text says more than joins can."""
        if not self._is_plain():
            return None
        try:
            sides = [self._side(f, i) for i, f in enumerate(self.factors)]
            tree = sides[0]
            for factor, kind, right in zip(self.factors[1:], self.kinds, sides[1:], strict=True):
                tree = self._join(factor, kind, tree, right)
        except (Unrecognised, EngineError):
            return None
        return tree

    def _is_plain(self) -> bool:
        text = self.binder.text
        nested = any(
            text.word(f.whole[0] - 1) == "(" and not text.is_subquery(f.whole[0] - 1)
            for f in self.factors
        )
        merged = any(not c.qualifier for c in self.source.star)
        # A comma binds weaker than JOIN: a, b RIGHT JOIN c is not (a, b) RIGHT JOIN c.
        commas = any(f.joined == "," for f in self.factors)
        regrouped = commas and not {"right", "full"}.isdisjoint(self.kinds)
        return not (nested or merged or regrouped or "" in self.kinds)

    def _side(self, factor: Factor, index: int) -> Relation:
        """A factor with its columns called ``alias.column``."""
        text, (first, last) = self.binder.text, factor.primary
        is_function = text.word(last - 1) == ")" and text.tokens[first].is_name
        if factor.lateral or (is_function and first not in self.binder.calls):
            raise Unrecognised
        relation = self.single(self.binder, factor, self.scope).base().relation
        prefix = f"{_qualifier(factor, index)}."
        fields = tuple(Field(prefix + f.name, f.type) for f in relation.schema)
        if isinstance(relation, Scan) and not relation.prefix:
            return Scan(relation.table, prefix, Schema(fields))
        columns = tuple(Column(f.name, f.type) for f in relation.schema)
        return Project(relation, tuple(f.name for f in fields), columns)

    def _join(self, factor: Factor, kind: str, left: Relation, right: Relation) -> Relation:
        found = self._conditions(factor, left, right)
        visible = {*left.schema.names, *right.schema.names}
        if any(not c.columns <= visible for c in found):
            raise Unrecognised
        kind = "cross" if kind == "inner" and not found else kind
        if (kind == "cross") == bool(found):
            raise Unrecognised
        return Join(left, right, kind, conjunction(found) if found else None)

    def _conditions(self, factor: Factor, left: Relation, right: Relation) -> tuple[Scalar, ...]:
        if factor.using:
            return tuple(_equal(left, right, n) for n in factor.using)
        if factor.on is None:
            return ()
        converter = over_source(self.binder, self.source, self.scope, {})
        kept = [p for p in converter.conjuncts(factor.on) if p not in self.source.conditions]
        if any(converter.holds(p) != (False, False) for p in kept):
            raise Unrecognised
        return tuple(converter.condition(p) for p in kept)


def _equal(left: Relation, right: Relation, name: str) -> Scalar:
    """``left.name = right.name`` of USING; the first factor that has the name is meant."""
    sides: list[Scalar] = []
    for relation in (left, right):
        found = [
            f for f in relation.schema if f.name.partition(".")[2].casefold() == name.casefold()
        ]
        if not found:
            raise Unrecognised
        sides.append(Column(found[0].name, found[0].type))
    return Compare("=", sides[0], sides[1])
