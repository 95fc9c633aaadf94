"""Expressions computed on batches mean what they mean in the engine."""

from __future__ import annotations

import math

import pyarrow as pa
import pytest

from gradbase.engines import connect
from gradbase.ir import scalar as s
from gradbase.ir.types import BOOL, FLOAT32, FLOAT64, INT64, TEXT, SqlType
from gradbase.runtime.expressions import compile_scalar

ROWS = pa.table({
    "x": pa.array([1.0, 0.5, None, math.nan, -math.inf, 2.0]),
    "n": pa.array([1, 2, None, -3, 2**53 + 1, 0]),
    "c": pa.array(["a", "b", None, "", "é", "a"]),
    "b": pa.array([True, False, None, True, False, None]),
})  # fmt: skip
X, N, C, B = s.Column("x", FLOAT64), s.Column("n", INT64), s.Column("c", TEXT), s.Column("b", BOOL)


def literal(value, of):
    return s.Literal(value, of)


CASES = [
    *(s.Compare(op, X, literal(0.5, FLOAT64)) for op in s.COMPARISONS),
    *(s.Compare(op, literal(1, INT64), X) for op in s.COMPARISONS),
    *(s.Compare(op, N, literal(2**53, INT64)) for op in s.COMPARISONS),
    *(s.Compare(op, C, literal("a", TEXT)) for op in s.COMPARISONS),
    s.Compare("=", B, literal(True, BOOL)),
    s.Not(B),
    s.IsNull(X),
    s.And((B, s.Compare(">", X, literal(0.7, FLOAT64)), s.Not(s.IsNull(C)))),
    s.Or((B, s.Compare(">", X, literal(0.7, FLOAT64)))),
    literal(7, INT64),
    C,
]


@pytest.fixture(scope="module")
def engine():
    made = connect(":memory:")
    made.register("rows", ROWS)
    yield made
    made.close()


@pytest.mark.parametrize("case", CASES, ids=repr)
def test_the_engine_gives_the_same(engine, case):
    compute = compile_scalar(case, {})
    assert compute is not None
    from gradbase.ir import relational as r

    scan = r.Scan("rows", "", engine.schema("SELECT * FROM rows"))
    expected = engine.fetch(engine.compile(r.Project(scan, ("v",), (case,))))["v"].to_pylist()
    assert compute(ROWS.to_batches()[0]).to_pylist() == expected


@pytest.mark.parametrize(
    "case",
    [
        s.SqlScalar(("x + 1",), (), FLOAT64),
        s.Compare(">", X, N),
        s.Compare(">", s.Column("x", FLOAT32), literal(0.1, FLOAT64)),
        s.Compare(">", X, literal(math.nan, FLOAT64)),
        s.Compare(">", N, literal(0.5, FLOAT64)),
        s.Compare("=", s.Column("d", SqlType("date")), literal("2024-01-01", SqlType("date"))),
        s.Compare(">", X, s.Parameter("p", FLOAT64)),
        s.Not(s.SqlScalar(("b",), (), BOOL)),
        s.And((B, s.SqlScalar(("b",), (), BOOL))),
    ],
    ids=repr,
)
def test_what_needs_casts_or_text_is_left_to_the_engine(case):
    assert compile_scalar(case, {}) is None


def test_parameters_are_constants():
    compute = compile_scalar(s.Compare(">", X, s.Parameter("p", FLOAT64)), {"p": 1})
    assert compute(ROWS.to_batches()[0]).to_pylist() == [False, False, None, True, False, True]
