"""Interning, children, traversal."""

from __future__ import annotations

import gc
import math

import pytest

from gradbase.ir.conversion import ToTensor, Vector
from gradbase.ir.derived import Derived
from gradbase.ir.node import find, same, transform, walk
from gradbase.ir.preprocessing import Rescale
from gradbase.ir.scalar import Column, IsNull, Literal, Not, PredictCall, substituted
from gradbase.ir.tensor import Unary
from gradbase.ir.types import BOOL, FLOAT64, INT64

from .samples import ALL, CHURN, LITERALS


@pytest.mark.parametrize("node", ALL, ids=lambda n: type(n).__name__)
def test_rebuilding_over_the_same_children_gives_the_same_node(node):
    assert node.with_children(node.children) is node
    assert node.replace() is node


def test_literals_of_other_type_or_bits_are_other_nodes():
    assert len(set(LITERALS)) == len(LITERALS)


def test_equal_nodes_are_one_object():
    assert Literal(math.nan, FLOAT64) is Literal(math.nan, FLOAT64)
    assert Literal(1, INT64) is not Literal(True, INT64)
    assert same((1, 2.0), (1, 2.0))
    assert not same((1,), (True,))
    assert not same(0.0, -0.0)


def test_unused_nodes_are_forgotten():
    made = id(Literal("only here 4711", FLOAT64))
    gc.collect()
    again = Literal("only here 4711", FLOAT64)
    assert again is Literal("only here 4711", FLOAT64)
    del made


def test_shared_nodes_are_visited_once_children_first():
    node = ToTensor("v", Vector(4))
    for _ in range(50):
        node = Unary("relu", node)
    seen = list(walk(node))
    assert len(seen) == len(set(seen)) == 52
    assert seen[-1] is node


def test_transforming_and_substituting_rewrite_deep_chains():
    deep = Column("a", BOOL)
    for _ in range(5_000):
        deep = Not(deep)
    b = Column("b", BOOL)
    change = lambda n: b if isinstance(n, Column) else None  # noqa: E731
    rewritten = transform(deep, change)
    assert rewritten is substituted(deep, {Column("a", BOOL): b})
    assert set(find(rewritten, Column)) == {b}


def test_columns_of_a_model_are_not_those_of_a_prediction():
    a, z = Column("a", INT64), Column("z", INT64)
    model = CHURN.replace(columns=(Derived("a", a), Derived("b", Rescale(a, 1.0, 2.0))))
    call = PredictCall(model, "proba", (z, z))
    assert call.columns == {"z"}
    assert substituted(call, {a: z}) is call


def test_facts_of_scalars_follow_from_what_is_below():
    assert IsNull(Column("a", INT64)).columns == {"a"}
    assert not Not(IsNull(Column("a", INT64))).volatile
