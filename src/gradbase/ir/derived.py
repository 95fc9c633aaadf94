"""Columns computed from others: what TRANSFORM gives and networks read; who can compute them."""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Iterable

from gradbase.errors import BindError
from gradbase.ir.analytic import Analytic, analytics
from gradbase.ir.node import Node, node, walk
from gradbase.ir.preprocessing import Normalize, Preprocessing, member
from gradbase.ir.scalar import Column, Literal, Scalar, scalars, substituted
from gradbase.ir.tensor import Param

EXACT_NORMS = (0.0, 1.0, 2.0, math.inf)
"""Norms whose arithmetic is the same everywhere; libraries differ in the last bit of powers."""


@node
class Derived(Node):
    """A column computed from others: ``expr AS name``."""

    name: str
    expr: Scalar


def engine_can(scalar: Scalar, unsupported: Container[str]) -> bool:
    """Whether an engine computes `scalar` in SQL; functions named in `unsupported` it has not."""
    return not any(
        isinstance(n, Param | Analytic)
        or (isinstance(n, Preprocessing) and type(n).__name__ in unsupported)
        for n in walk(scalar)
    )


def program_can(scalar: Scalar) -> bool:
    """Whether the program computes `scalar` on batches of rows."""
    return all(computed_here(n) for n in scalars(scalar, Scalar))


def computed_here(scalar: Scalar) -> bool:
    """Whether the program computes `scalar` from its arguments' values."""
    if isinstance(scalar, Normalize):
        return scalar.p in EXACT_NORMS
    return isinstance(scalar, Column | Literal | Preprocessing)


def has_program_only(scalar: Scalar) -> bool:
    """Whether part of `scalar` (once learnt) must be computed by the engine from an analytic one.

    Such an analytic function must not become something that only the program can compute.
    """
    return any(
        not computed_here(n) and not isinstance(n, Analytic) and analytics(n)
        for n in scalars(scalar, Scalar)
    )


def leaves(exprs: Iterable[Scalar]) -> tuple[Scalar, ...]:
    """The largest parts, other than columns and constants, without a preprocessing function."""
    found: dict[Scalar, None] = {}
    stack = list(exprs)[::-1]
    while stack:
        top = stack.pop()
        if isinstance(top, Column | Literal):
            continue
        if any(isinstance(n, Preprocessing | Analytic) for n in scalars(top, Scalar)):
            stack.extend(c for c in reversed(top.children) if isinstance(c, Scalar))
        else:
            found[top] = None
    return tuple(found)


def typed_columns(columns: Iterable[Derived]) -> dict[Column, bool]:
    """Columns that something is computed of; True: by SQL, which was bound for their type."""
    found: dict[Column, bool] = {}
    for parent in (n for d in columns for n in scalars(d.expr, Scalar)):
        for child in parent.children:
            if isinstance(child, Column):
                in_sql = not isinstance(parent, Preprocessing | Analytic)
                found[child] = found.get(child, False) or in_sql
    return found


def as_columns(
    exprs: tuple[Scalar, ...], parts: Iterable[Scalar], name: Callable[[], str]
) -> tuple[dict[Scalar, Column], tuple[Scalar, ...]]:
    """`exprs` with each of `parts` replaced by a column of a new name, and these columns."""
    columns = {part: Column(name(), part.type) for part in parts}
    return columns, tuple(substituted(e, columns) for e in exprs)


def flattened(columns: Iterable[Derived]) -> tuple[Derived, ...]:
    """`columns` with each struct as one column per field: ``struct_field``.

    Raises
    ------
    BindError
        Two columns get the same name.
    """
    found: dict[str, Derived] = {}
    for column in columns:
        fields = column.expr.type.fields
        flat = [Derived(f"{column.name}_{f}", member(column.expr, f)) for f, _ in fields]
        for one in flat or [column]:
            if one.name in found:
                raise BindError(
                    f"field `{one.name[len(column.name) + 1 :]}` of `{column.name}` becomes column "
                    f"`{one.name}`, which is there already",
                    hint="give one of them another name",
                )
            found[one.name] = one
    return tuple(found.values())
