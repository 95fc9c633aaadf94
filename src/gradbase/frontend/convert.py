"""Expressions of a block as scalars of the IR: structure where it helps, else the user's text."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from sqlglot import exp

from gradbase.errors import BindError
from gradbase.frontend.calls import Call
from gradbase.frontend.cursor import read_number
from gradbase.frontend.expression_spans import column_chains, span_of
from gradbase.frontend.expressions import Expressions, Masked
from gradbase.frontend.rich import Asker, Rich, render
from gradbase.frontend.sources import Source
from gradbase.frontend.structure import Span, Unrecognised
from gradbase.frontend.tokens import Token
from gradbase.ir.scalar import (
    UNTYPED,
    And,
    Column,
    Compare,
    IsNull,
    Literal,
    Not,
    Or,
    Parameter,
    PredictCall,
    Scalar,
    SqlScalar,
)
from gradbase.ir.types import BOOL, FLOAT64, INT64, TEXT, SqlType

_COMPARISONS: dict[type, str] = {
    exp.EQ: "=", exp.NEQ: "<>", exp.LT: "<", exp.LTE: "<=", exp.GT: ">", exp.GTE: ">=",
}  # fmt: skip
_AGGREGATES = (
    exp.AggFunc, exp.AnonymousAggFunc, exp.CombinedAggFunc, exp.ParameterizedAgg, exp.WithinGroup,
    exp.IgnoreNulls, exp.RespectNulls,
)  # fmt: skip
_SET_RETURNING = (exp.Explode, exp.Unnest, exp.Columns, exp.PositionalColumn, exp.Star)
_VOLATILE = frozenset(
    "random uuid gen_random_uuid uuidv4 uuidv7 nextval currval lastval setseed clock_timestamp "
    "random_normal rand randn randstr monotonically_increasing_id spark_partition_id "
    "input_file_name".split()
)
_ATOMIC = (Column, Literal, Parameter, PredictCall)
_INT32 = SqlType("int32")


@dataclass
class Converter(Expressions):
    """Turns spans of one block into scalars over `source`."""

    source: Source
    asker: Asker
    predict: Callable[[Call, Converter], Scalar]
    rewrite: Callable[[Span], Rich]
    prefix: Callable[[Rich], Rich]
    aliases: Mapping[str, Span] = field(default_factory=dict)
    _open: list[str] = field(default_factory=list)

    # -- what an expression is ------------------------------------------------------------------

    def is_aggregate(self, span: Span) -> bool:
        """Whether `span` holds an aggregate; Unrecognised for windows and the like."""
        node, _ = self.tree(span)
        if node.find(exp.Window, *_SET_RETURNING) is not None and not _only_count_star(node):
            raise Unrecognised
        if node.find(*_AGGREGATES) is not None:
            return True
        if node.find(exp.Anonymous) is not None and not self._binds_in_where(span):
            raise Unrecognised
        return False

    def _binds_in_where(self, span: Span) -> bool:
        """Whether the engine takes the expression as a condition: then it is no aggregate."""
        value = render(self.scalar(span))
        probe = f"SELECT 1 FROM ({self.source.stub}) AS __gb_q WHERE ({value}) IS NULL"
        return self.asker.probe(self.prefix(Rich((probe,))).stub) is not None

    def uses_alias(self, span: Span) -> bool:
        """Whether a name in `span` can only be an alias of the select list."""
        node, masked = self.tree(span)
        chains = [c for c in column_chains(node) if c[0][0] not in masked.items]
        return any(
            self.source.resolve([p[0] for p in c]) is None and c[0][0].casefold() in self.aliases
            for c in chains
        )

    # -- conversion -----------------------------------------------------------------------------

    def condition(self, span: Span) -> Scalar:
        """`span` as a condition (numbers count as booleans, as in SQL)."""
        return as_bool(self.scalar(span))

    def scalar(self, span: Span) -> Scalar:
        """`span` as a scalar over the source; Unrecognised where it is not taken apart."""
        node, masked = self.tree(span)
        self._check_covered(node, masked, span)
        end = self.text.tokens[span[1] - 1].end
        node.meta.setdefault("span", (7, 7 + end - masked.start))
        return self._convert(node, masked)

    def _check_covered(self, node: exp.Expression, masked: Masked, span: Span) -> None:
        """Every name that could be a column must be one that sqlglot reported."""
        starts = {masked.start + p[1] for c in column_chains(node) for p in c}
        if node.find(exp.Lambda, exp.Comprehension) is not None and not self.source.is_single:
            raise Unrecognised
        skip = span[0]
        for i in range(*span):
            if i < skip:
                continue
            covered, item, _ = self._maskable(i)
            if item is not None:
                skip = covered
            elif (
                self._could_be_column(self.text.tokens[i], i)
                and self.text.tokens[i].start not in starts
            ):
                raise Unrecognised

    def _could_be_column(self, token: Token, i: int) -> bool:
        if (
            not token.is_name
            or self.text.word(i - 1) == "."
            or self.text.word(i + 1) in ("(", ":=")
        ):
            return False
        return self.source.resolve([token.name]) is not None

    def _convert(self, node: exp.Expression, masked: Masked) -> Scalar:
        match node:
            case exp.Paren() if span_of(node.this) is not None:
                return self._convert(node.this, masked)
            case exp.And() | exp.Or():
                return self._connect(node, masked)
            case exp.Not() if span_of(node.this) is not None:
                return Not(as_bool(self._convert(node.this, masked)))
            case exp.Not(this=exp.Is(this=inner, expression=exp.Null())) if span_of(inner):
                return Not(IsNull(self._convert(inner, masked)))
            case exp.Is(this=inner, expression=exp.Null()) if span_of(inner) is not None:
                return IsNull(self._convert(inner, masked))
            case exp.Column():
                return self._column(node, masked)
            case exp.Placeholder() if isinstance(node.this, str):
                return self._parameter(node.this)
            case exp.Null():  # some engines would call it a text
                return UNTYPED
        if type(node) in _COMPARISONS and span_of(node.this) and span_of(node.expression):
            return self._compare(node, masked)
        return _literal(node, None) or self._opaque(node, masked)

    def _connect(self, node: exp.Expression, masked: Masked) -> Scalar:
        kind = type(node)
        operands: list[Scalar] = []
        stack = [node]
        while stack:
            top = stack.pop()
            if isinstance(top, kind):
                stack += [top.expression, top.this]
            elif span_of(top) is None:
                return self._opaque(node, masked)
            else:
                operands.append(as_bool(self._convert(top, masked)))
        return And(tuple(operands)) if kind is exp.And else Or(tuple(operands))

    def _compare(self, node: exp.Expression, masked: Masked) -> Scalar:
        left, right = self._convert(node.this, masked), self._convert(node.expression, masked)
        left = _literal(node.this, right.type) or left
        right = _literal(node.expression, left.type) or right
        return Compare(_COMPARISONS[type(node)], left, right)

    def _parameter(self, name: str) -> Scalar:
        return Parameter(name, self.asker.types(f"SELECT ${name}")[0][1])

    def _column(self, node: exp.Expression, masked: Masked) -> Scalar:
        chain = column_chains(node)
        if chain and len(chain) == 1:
            found = self._reference([p[0] for p in chain[0]], masked)
            if found is not None and found[1] == len(chain[0]):
                return found[0]
        return self._opaque(node, masked)

    def _reference(self, names: list[str], masked: Masked) -> tuple[Scalar, int] | None:
        """What a chain of names means, and how many of the names that takes."""
        item = masked.items.get(names[0])
        if isinstance(item, Call):
            return self.predict(item, self), 1
        if item is not None:
            return self.source.hide(self.rewrite(item), self.asker), 1
        found = self.source.resolve(names)
        if found is not None:
            return Column(found[0].out, found[0].type), found[1]
        if self.source.is_ambiguous(names[0]):
            raise BindError(
                f"column `{names[0]}` is in several tables of the query",
                hint="write the table's name before it",
            )
        span = self.aliases.get(names[0].casefold())
        if span is None or names[0].casefold() in self._open:
            return None
        self._open.append(names[0].casefold())
        try:
            return self.scalar(span), 1
        finally:
            self._open.pop()

    def _opaque(self, node: exp.Expression, masked: Masked) -> Scalar:
        """The user's text with columns and predictions in its gaps."""
        span = span_of(node)
        if span is None:
            raise Unrecognised
        whole = self._whole_subquery(node, span, masked)
        if whole is not None:
            return whole
        parts: list[str] = [""]
        args: list[Scalar] = []
        at = span[0]
        for chain in column_chains(node):
            found = self._reference([p[0] for p in chain], masked)
            if found is None:
                continue
            if chain[0][0] in masked.items:
                self._refuse_membership(node, chain[0][0], masked)
            value, taken = found
            atomic = isinstance(value, _ATOMIC)
            parts[-1] += masked.sql[at : chain[0][1]] + ("" if atomic else "(")
            args.append(value)
            parts.append("" if atomic else ")")
            at = chain[taken - 1][2]
        parts[-1] += masked.sql[at : span[1]]
        return self._typed(tuple(parts), tuple(args))

    def _whole_subquery(
        self, node: exp.Expression, span: tuple[int, int], masked: Masked
    ) -> Scalar | None:
        """``x IN (SELECT …)`` and ``EXISTS (…)`` computed beside FROM (x predicts nothing)."""
        names = {c[0][0] for c in column_chains(node)}
        inside = masked.has_subquery(names)
        if not inside or any(isinstance(masked.items.get(n), Call) for n in names):
            return None
        if any(self.source.resolve([n]) is None and n.casefold() in self.aliases for n in names):
            return None
        within = (0, len(self.text.tokens))
        tokens = self._tokens(masked.start + span[0], masked.start + span[1], within)
        return self.source.hide(self.rewrite(tokens), self.asker)

    def _refuse_membership(self, node: exp.Expression, name: str, masked: Masked) -> None:
        """A subquery behind IN cannot be one value."""
        if isinstance(masked.items[name], Call):
            return
        for member in node.find_all(exp.In):
            if any(c[0][0] == name for e in member.expressions for c in column_chains(e)):
                raise Unrecognised

    def _typed(self, parts: tuple[str, ...], args: tuple[Scalar, ...]) -> Scalar:
        words = {w.lower().rstrip("( ") for p in parts for w in p.replace("(", "( ").split()}
        volatile = bool(words & _VOLATILE)
        draft = SqlScalar(parts, args, TEXT, volatile)
        probe = f"SELECT {render(draft)} FROM ({self.source.stub}) AS __gb_q"
        of = self.asker.types(self.prefix(Rich((probe,))).stub)[0][1]
        return SqlScalar(parts, args, of, volatile)


def as_bool(scalar: Scalar) -> Scalar:
    """`scalar`, cast where it is not bool."""
    if scalar.type.kind in ("bool", "null"):
        return scalar
    return SqlScalar(("CAST(", " AS BOOLEAN)"), (scalar,), BOOL)


def _literal(node: exp.Expression, other: SqlType | None) -> Scalar | None:
    """A literal; `other` is the type it is compared with, which decides what it may become."""
    match node:
        case exp.Paren():
            return _literal(node.this, other)
        case exp.Boolean():
            return Literal(bool(node.this), BOOL)
        case exp.Neg(this=exp.Literal(is_string=False) as inner):
            found = _literal(inner, other)
            if isinstance(found, Literal) and isinstance(found.value, int | float):
                return Literal(-found.value, found.of)
        case exp.Literal(is_string=True) if other is not None and other.is_text:
            return Literal(node.this, TEXT)
        case exp.Literal(is_string=False):
            return _number(node.this, other)
    return None


def _number(text: str, other: SqlType | None) -> Literal | None:
    value = read_number(text)
    if isinstance(value, int):
        if abs(value) < 2**31:
            return Literal(value, _INT32)
        return Literal(value, INT64) if abs(value) < 2**63 else None
    is_double = "e" in text.lower() or (other is not None and other.is_float)
    return Literal(value, FLOAT64) if is_double else None


def _only_count_star(node: exp.Expression) -> bool:
    """Whether the only stars are those of ``count(*)``."""
    others = node.find(exp.Window, *(c for c in _SET_RETURNING if c is not exp.Star))
    return others is None and all(isinstance(s.parent, exp.Count) for s in node.find_all(exp.Star))
