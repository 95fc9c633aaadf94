"""Plan text: every node survives printing and parsing as the same object."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gradbase.errors import ParseError
from gradbase.ir.conversion import ToTensor, Vector
from gradbase.ir.node import walk
from gradbase.ir.parser import CLASSES, parse_plan
from gradbase.ir.printer import print_plan, print_scalar
from gradbase.ir.relational import Filter, Limit, Project, Scan
from gradbase.ir.scalar import And, Column, Compare, IsNull, Literal, Not, Or, SqlScalar
from gradbase.ir.tensor import Unary
from gradbase.ir.types import BOOL, FLOAT64, INT64, TEXT, Schema

from .samples import ALL, CALL, CHURN, SCAN


@pytest.mark.parametrize("node", ALL, ids=lambda n: type(n).__name__)
def test_printed_nodes_parse_to_the_same_object(node):
    assert parse_plan(print_plan(node)) is node


def test_every_operator_is_sampled():
    sampled = {type(below) for node in ALL for below in walk(node)}
    assert {k for k in CLASSES.values() if k not in sampled} == set()


def test_relations_read_as_in_the_rule_files():
    text = (
        "Filter[a > 1 and not (b is null)]\n"
        '  Project[`{a} + 1`:int64 as b, a, t as "say ""hi"""]\n'
        "    Scan t (a int64, b float64, t text)"
    )
    assert print_plan(parse_plan(text)) == text


def test_models_are_labelled_by_name_and_shared():
    text = print_plan(Filter(Project(SCAN, ("p",), (CALL,)), IsNull(Column("p", FLOAT64))))
    assert text.count("%churn = Model(") == 1
    assert "Project[predict(%churn, proba, a, `{b} + 1`:float64) as p]" in text


def test_known_nodes_are_referred_to_by_the_given_names():
    plan = Project(SCAN, ("p",), (CALL,))
    text = print_plan(plan, {CHURN: "m"})
    assert text.splitlines()[0] == "Project[predict(%m, proba, a, `{b} + 1`:float64) as p]"
    assert parse_plan(text, {"m": CHURN}) is plan


def test_scalars_print_over_a_schema():
    assert print_scalar(Compare("<", Column("a", INT64), Literal(1, INT64)), SCAN.schema) == "a < 1"


def deep_nots():
    node = Column("a", BOOL)
    for _ in range(20_000):
        node = Not(node)
    return node


def deep_filters():
    node = Scan("t", "", Schema.of(a=INT64))
    for number in range(20_000):
        node = Filter(node, Compare(">", Column("a", INT64), Literal(number % 7, INT64)))
    return Limit(node, 3)


def deep_network():
    node = ToTensor("v", Vector(4))
    for _ in range(20_000):
        node = Unary("relu", node)
    return node


@pytest.mark.parametrize("make", [deep_nots, deep_filters, deep_network])
def test_chains_of_20_000_nodes_need_no_recursion(make):
    node = make()
    assert parse_plan(print_plan(node)) is node


def test_text_of_a_shared_dag_is_linear():
    node = IsNull(Column("a", INT64))
    for _ in range(200):
        node = And((node, node))
    text = print_plan(node)
    assert len(text) < 20_000
    assert parse_plan(text) is node


names = st.text(min_size=1, max_size=5)
literals = st.one_of(
    st.integers().map(lambda v: Literal(v, INT64)),
    st.floats(allow_nan=True).map(lambda v: Literal(v, FLOAT64)),
    st.text().map(lambda v: Literal(v, TEXT)),
    st.just(Literal(None, BOOL)),
)
leaves = st.one_of(names.map(lambda n: Column(n, BOOL)), literals)


def grow(inner):
    pairs = st.lists(inner, min_size=2, max_size=3).map(tuple)
    condition = inner.map(IsNull)
    return st.one_of(
        st.tuples(st.sampled_from(["=", "<>", "<"]), inner, inner).map(lambda t: Compare(*t)),
        st.lists(condition, min_size=2, max_size=3).map(lambda a: And(tuple(a))),
        st.lists(condition, min_size=2, max_size=3).map(lambda a: Or(tuple(a))),
        condition.map(Not),
        st.tuples(st.text(), st.text(), st.text(), pairs, st.booleans()).map(
            lambda t: SqlScalar(t[:3], t[3][:2], FLOAT64, t[4])
        ),
    )


@settings(max_examples=150, deadline=None)
@given(st.recursive(leaves, grow, max_leaves=20))
def test_any_expression_round_trips(scalar):
    assert parse_plan(print_plan(scalar)) is scalar


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no plan in the text"),
        ("Filter[a > 1]", "Filter stands over 1 relations, found 0 lines"),
        ("Filter[c > 1]\n  Scan t (a int64)", "no column `c`"),
        ("Filtre[a > 1]\n  Scan t (a int64)", "did you mean `Filter`"),
        ("Scan t (a int65)", "`int65` is not a type"),
        ("a and b:bool", "column `a` needs a type here"),
        ("Scan t (a int64)\nScan u (a int64)", "the plan ends above"),
        ("  Scan t (a int64)", "the first line is indented"),
        ("Filter[a is null and a is null or a is null]\n  Scan t (a int64)", "put parentheses"),
        ("Project[%9 as x]\n  Scan t (a int64)", "nothing is labelled `%9`"),
        ("Filter[`{a:int64` is null]", "backquote is not closed"),
        ("`a } b`:int64", "must be doubled"),
        ("Project[`1`:int64]\n  Scan t (a int64)", "needs a name"),
        ("(" * 400 + "1" + ")" * 400, "nested deeper than"),
        ("Limit[x]\n  Scan t (a int64)", "expected a whole number"),
        ("Mlp(hidden=(3))", "describes no valid node"),
        ("Scan t (a int64) ?", "`?` is not plan text"),
    ],
)
def test_bad_text_says_what_and_where(text, message):
    with pytest.raises(ParseError, match=re.escape(message)):
        parse_plan(text)
