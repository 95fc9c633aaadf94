"""What conditions below an operator say of the values of its columns."""

from __future__ import annotations

import dataclasses
import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass

from gradbase.ir.learning import Predict
from gradbase.ir.relational import Filter, Join, Limit, Project, Relation, Sort
from gradbase.ir.scalar import Column, Compare, IsNull, Literal, Not, Scalar, conjuncts
from gradbase.optimizer.analyses.joins import PRESERVED

_SWAPPED = {"<": ">", "<=": ">=", ">": "<", ">=": "<=", "=": "="}


@dataclass(frozen=True)
class Known:
    """A column is not NULL; numbers lie in [low, high] (NaN counts as above all); or it is `text`.

    Engines sort NaN behind all numbers, so a column with a finite `high` holds none.
    """

    low: float = -math.inf
    high: float = math.inf
    text: str | None = None

    @property
    def value(self) -> float | None:
        """The one number that the column holds, None where several are possible."""
        return self.low if self.low == self.high and math.isfinite(self.low) else None


def known_values(relation: Relation) -> dict[str, Known]:
    """By column: what must hold in every row of `relation`."""
    found: dict[str, Known] = {}
    stack: list[tuple[Relation, dict[str, str]]] = [
        (relation, {n: n for n in relation.schema.names})
    ]
    while stack:
        at, names = stack.pop()  # names: the column there -> the column of `relation`
        match at:
            case Filter(child=x, predicate=predicate):
                for column, known in _said(predicate):
                    if column in names:
                        found[names[column]] = _both(found.get(names[column], Known()), known)
                stack.append((x, names))
            case Project(child=x):
                stack.append((x, _renamed(at, names)))
            case Sort(child=x) | Limit(child=x) | Predict(child=x):
                stack.append((x, {c: n for c, n in names.items() if c in x.schema}))
            case Join(left=left, right=right, kind=kind):
                for side, kept in zip((left, right), PRESERVED[kind], strict=True):
                    if kept:
                        stack.append((side, {c: n for c, n in names.items() if c in side.schema}))
            case _:
                pass
    return found


def _renamed(at: Project, names: dict[str, str]) -> dict[str, str]:
    pairs = zip(at.names, at.exprs, strict=True)
    return {e.name: names[n] for n, e in pairs if n in names and isinstance(e, Column)}


def _said(predicate: Scalar) -> Iterator[tuple[str, Known]]:
    for part in conjuncts(predicate):
        match part:
            case Not(arg=IsNull(arg=Column() as column)):
                yield column.name, Known()
                continue
            case Compare(op=op, left=Column() as column, right=Literal() as literal):
                pass
            case Compare(op=op, left=Literal() as literal, right=Column() as column):
                op = _SWAPPED.get(op, op)
            case _:
                continue
        known = _one(op, column, literal)
        if known is not None:
            yield column.name, known


def _one(op: str, column: Column, literal: Literal) -> Known | None:
    value = literal.value
    if isinstance(value, str):
        plain = column.of.kind == "text" and literal.of.kind == "text" and op == "="
        return Known(text=value) if plain else None
    if isinstance(value, bool) or not isinstance(value, int | float) or not column.of.is_numeric:
        return None
    number = float(value)
    if not math.isfinite(number) or abs(number) > 2**53:
        return None
    match op:
        case "=":
            return Known(number, number)
        case "<" | "<=":
            return Known(high=number)
        case ">" | ">=":
            most = math.inf if column.of.is_float else sys.float_info.max  # then there is no NaN
            return Known(low=number, high=most)
    return None


def _both(one: Known, other: Known) -> Known:
    return dataclasses.replace(
        one,
        low=max(one.low, other.low),
        high=min(one.high, other.high),
        text=one.text or other.text,
    )
