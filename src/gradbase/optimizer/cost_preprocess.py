"""Seconds of preprocessing functions, in the engine and in the program, and the cheapest cut.

Measured per row on 2 cores of an EPYC with DuckDB 2.0 (400,000 rows, arrays of 8 elements, 16,384
rows a batch, without handing values over): a rescaled number 1 ns in SQL and 2 ns in the program,
10 buckets 18 and 28, a code out of 200 words 220 and 24, counts of terms 4,300 and 860.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from gradbase.ir.analytic import Analytic
from gradbase.ir.derived import computed_here, engine_can
from gradbase.ir.preprocessing import (
    Bucketize,
    Cross,
    HashBucket,
    Impute,
    Member,
    NGrams,
    Normalize,
    Product,
    Rescale,
    Struct,
)
from gradbase.ir.scalar import Column, Literal, Scalar
from gradbase.ir.scalar import scalars as every
from gradbase.ir.types import SqlType
from gradbase.ir.vocabulary import Coded
from gradbase.optimizer.context import Context

_NS = 1e-9
ELEMENTS = 8
"""Elements of an array of which nothing is known."""
_TEXT_VALUES = 4
"""A text is handed over like so many numbers."""
_EXPRESSION_NS = 1.0
_LEARNING_NS = 50.0
"""Keeping a value, and learning from it."""


def own_seconds(node: Scalar) -> tuple[float, float]:
    """(engine, program): a function of one row, its arguments being there already."""
    engine, program = _nanoseconds(node)
    return engine * _NS, program * _NS


def _nanoseconds(node: Scalar) -> tuple[float, float]:
    match node:
        case Rescale(clipped=clipped):
            return (7.0, 3.0) if clipped else (1.0, 2.0)
        case Bucketize(points=points):
            return 5.0 + 1.2 * len(points), 25.0 + 0.3 * len(points)
        case Impute() | Product():
            return 1.5, 3.0
        case Normalize():
            return 50.0 * ELEMENTS, 8.0 * ELEMENTS
        case Cross(args=args):
            return 12.0 * len(args), 11.0 * len(args)
        case HashBucket():
            return 130.0, 35.0
        case NGrams(low=low, high=high):
            sizes = high - low + 1
            return 170.0 * sizes * ELEMENTS, 500.0 * sizes * ELEMENTS
        case Coded(vocabulary=vocabulary, takes_arrays=arrays):
            times = ELEMENTS if arrays else 1
            engine = (100.0 if arrays else 15.0) + 1.1 * vocabulary.count * (2 if arrays else 1)
            return engine * times, (110.0 if arrays else 25.0) * times
        case Struct() | Member():
            return _EXPRESSION_NS, _EXPRESSION_NS
        case Analytic():
            return math.inf, _LEARNING_NS
        case _:
            return _EXPRESSION_NS * (1 + len(node.columns)), math.inf


def handing_seconds(of: SqlType, context: Context) -> float:
    """A value of a row going from the engine to the program."""
    return _values(of) * context.calibration.arrow_value_s


def _values(of: SqlType) -> float:
    match of.kind:
        case "array" if of.element is not None:
            return of.size[0] * _values(of.element)
        case "list" if of.element is not None:
            return ELEMENTS * _values(of.element)
        case "struct":
            return sum(_values(t) for _, t in of.fields)
        case "text" | "enum" | "json" | "blob":
            return _TEXT_VALUES
    return 1.0


@dataclass(frozen=True)
class Cut:
    """Scalars divided between engine and program.

    Parameters
    ----------
    engine : tuple of Scalar
        The parts that the engine computes; the program does the rest.
    seconds : float
        Of a row, with handing over.
    """

    engine: tuple[Scalar, ...]
    seconds: float


def cheapest_cut(scalars: Iterable[Scalar], context: Context, *, plain: bool = False) -> Cut:
    """How to compute `scalars`, which the program needs, in least time.

    `plain`: the engine does what it can.
    """
    engine: dict[Scalar, float] = {}
    program: dict[Scalar, float] = {}
    parts: dict[Scalar, None] = {}
    total = 0.0
    for root in scalars:
        for node in every(root, Scalar):
            if node not in engine:
                _cost(node, engine, program, context, plain=plain)
        stack = [root]
        total += min(program[root], engine[root] + handing_seconds(root.type, context))
        while stack:
            node = stack.pop()
            if program[node] <= engine[node] + handing_seconds(node.type, context):
                stack.extend(c for c in node.children if isinstance(c, Scalar))
            else:
                parts[node] = None
    return Cut(tuple(parts), total)


def _cost(
    node: Scalar,
    engine: dict[Scalar, float],
    program: dict[Scalar, float],
    context: Context,
    *,
    plain: bool,
) -> None:
    """Seconds of `node` and all below it, its result being in the engine and in the program."""
    if isinstance(node, Column | Literal):
        engine[node] = 0.0
        program[node] = 0.0 if isinstance(node, Literal) else handing_seconds(node.of, context)
        return
    below = [c for c in node.children if isinstance(c, Scalar)]
    in_engine, in_program = own_seconds(node)
    possible = engine_can(node, context.capabilities.unsupported)
    engine[node] = in_engine + sum(engine[c] for c in below) if possible else math.inf
    if not computed_here(node) or (plain and possible):
        program[node] = math.inf
        return
    ready = (min(program[c], engine[c] + handing_seconds(c.type, context)) for c in below)
    program[node] = in_program + sum(ready)


def engine_seconds(scalars: Iterable[Scalar], context: Context) -> float:
    """Computing `scalars` for a row in the engine alone, nothing handed over."""
    unsupported = context.capabilities.unsupported
    nodes = {n for s in scalars for n in every(s, Scalar)}
    own = (own_seconds(n)[0] for n in nodes if not isinstance(n, Column | Literal))
    return sum(own) if all(engine_can(s, unsupported) for s in scalars) else math.inf


def program_seconds(scalars: Iterable[Scalar]) -> float:
    """Computing `scalars` for a row in the program, what they read being there."""
    nodes = {n for s in scalars for n in every(s, Scalar)}
    return sum(own_seconds(n)[1] for n in nodes if not isinstance(n, Column | Literal))
