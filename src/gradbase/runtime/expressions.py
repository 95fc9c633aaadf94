"""Scalar expressions simple enough to be computed on Arrow batches, with the engine's meaning.

Columns, constants, comparisons of a column with a constant, AND, OR, NOT, IS NULL, preprocessing
functions. Everything else is left to the engine. NaN is larger than every number, as in the engine.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import pyarrow as pa

from gradbase.ir.derived import program_can
from gradbase.ir.preprocessing import Preprocessing
from gradbase.ir.scalar import And, Column, Compare, IsNull, Literal, Not, Or, Parameter, Scalar
from gradbase.runtime.arrow_types import constants
from gradbase.runtime.columns import kernels
from gradbase.runtime.encode import Blobs
from gradbase.runtime.preprocess.compute import preprocessing

Compute = Callable[[pa.RecordBatch], Any]
"""Batch to an array of one value per row."""

_MIRRORED = {"=": "=", "<>": "<>", "<": ">", "<=": ">=", ">": "<", ">=": "<="}


def compile_scalar(
    scalar: Scalar, parameters: Mapping[str, Any], blobs: Blobs | None = None
) -> Compute | None:
    """A function computing `scalar` on batches, None where only the engine can.

    `blobs` is where long vocabularies of preprocessing functions are.
    """
    match scalar:
        case Preprocessing() if program_can(scalar):
            return _preprocessed(scalar, parameters, blobs)
        case Column(name=name):
            return lambda batch: batch.column(name)
        case Literal() if scalar.of.kind not in ("null", "other"):
            value = constants([scalar], scalar.of)[0]
            return lambda batch: pa.repeat(value, batch.num_rows)
        case Compare():
            return _comparison(scalar, parameters)
        case And(args=args) | Or(args=args):
            parts = [compile_scalar(a, parameters) for a in args]
            kernel = kernels.and_kleene if isinstance(scalar, And) else kernels.or_kleene
            return _chain(kernel, parts)
        case Not(arg=arg):
            return _after(kernels.invert, compile_scalar(arg, parameters))
        case IsNull(arg=arg):
            return _after(kernels.is_null, compile_scalar(arg, parameters))
    return None


def _preprocessed(
    scalar: Preprocessing, parameters: Mapping[str, Any], blobs: Blobs | None
) -> Compute | None:
    compute = preprocessing(scalar, blobs)
    given = (c for c in scalar.children if isinstance(c, Scalar))
    parts = [compile_scalar(c, parameters, blobs) for c in given]
    args = [p for p in parts if p is not None]
    if len(args) < len(parts):
        return None
    return lambda batch: compute([arg(batch) for arg in args])


def _after(kernel: Callable[[Any], Any], inner: Compute | None) -> Compute | None:
    return None if inner is None else lambda batch: kernel(inner(batch))


def _chain(kernel: Callable[[Any, Any], Any], parts: list[Compute | None]) -> Compute | None:
    found = [p for p in parts if p is not None]
    if len(found) < len(parts):
        return None

    def run(batch: pa.RecordBatch) -> Any:
        value = found[0](batch)
        for part in found[1:]:
            value = kernel(value, part(batch))
        return value

    return run


def _comparison(scalar: Compare, parameters: Mapping[str, Any]) -> Compute | None:
    op, left, right = scalar.op, scalar.left, scalar.right
    if not isinstance(left, Column):
        op, left, right = _MIRRORED[op], right, left
    if not isinstance(left, Column):
        return None
    value = _constant(left, right, parameters)
    if value is None:
        return None
    name = left.name
    # NaN compares false in Arrow; turned round, "not <=" is ">" with NaN as the largest.
    plain, negated = {
        "=": (kernels.equal, False),
        "<>": (kernels.not_equal, False),
        "<": (kernels.less, False),
        "<=": (kernels.less_equal, False),
        ">": (kernels.less_equal, True),
        ">=": (kernels.less, True),
    }[op]
    if negated:
        return lambda batch: kernels.invert(plain(batch.column(name), value))
    return lambda batch: plain(batch.column(name), value)


def _constant(column: Column, other: Scalar, parameters: Mapping[str, Any]) -> Any:
    """The constant to compare with in the column's own type; None where types need a cast."""
    match other:
        case Literal(value=value, of=of):
            pass
        case Parameter(name=name, of=of) if name in parameters:
            value = parameters[name]
        case _:
            return None
    kind = column.of.kind
    if isinstance(value, bool):
        return pa.scalar(value) if kind == "bool" else None
    if kind == "float64" and isinstance(value, (int, float)) and not math.isnan(value):
        return pa.scalar(float(value))
    if kind == "float64" and of.kind == "decimal" and isinstance(value, str):
        return pa.scalar(float(value))
    if column.of.is_integer and column.of.width_bytes <= 8 and isinstance(value, int):
        return pa.scalar(value) if -(2**63) <= value < 2**63 and kind != "uint64" else None
    if kind == "text" and of.kind == "text" and isinstance(value, str):
        return pa.scalar(value)
    return None
