"""Relations as SQL: the rows are those of the plain query, names and constants survive."""

from __future__ import annotations

import datetime as dt
import decimal
import math
import struct

import pyarrow as pa
import pytest

from gradbase.engines import Function
from gradbase.engines.duckdb.literals import literal
from gradbase.engines.duckdb.types import type_name
from gradbase.errors import DataError, UnsupportedError
from gradbase.ir.conversion import Numeric, ToTable, ToTensor
from gradbase.ir.learning import Evaluate, Feature, Model, Predict
from gradbase.ir.relational import (
    Aggregate,
    Filter,
    Join,
    Limit,
    Project,
    Scan,
    Sort,
    SqlFragment,
    Union,
    Values,
)
from gradbase.ir.scalar import (
    And,
    Column,
    Compare,
    IsNull,
    Literal,
    Not,
    Or,
    Parameter,
    PredictCall,
    SqlScalar,
)
from gradbase.ir.tensor import Const, Linear
from gradbase.ir.types import BOOL, FLOAT64, INT64, TEXT, Schema, SqlType, parse_type

I = Column("i", INT64)
K = Column("k", INT64)


@pytest.fixture
def engine(engine):
    engine.run("CREATE TABLE t AS SELECT range AS i, range % 3 AS k FROM range(10)")
    engine.run("CREATE TABLE u AS SELECT range * 2 AS i, 'n' || range AS name FROM range(4)")
    return engine


T = Scan("t", "", Schema.of(i=INT64, k=INT64))
U = Scan('"main"."u"', "u.", Schema.of(**{"u.i": INT64, "u.name": TEXT}))


def number(n):
    return Literal(n, INT64)


def less(a, n):
    return Compare("<", a, number(n))


def call(text, *args, kind=INT64):
    return SqlScalar(text, args, kind)


def text(sql, columns=None):
    return SqlFragment((sql,), (), columns or Schema.of(i=INT64, k=INT64))


SUM = call(("sum(", ")::BIGINT"), I)
EQUAL = Compare("=", I, Column("u.i", INT64))

PLANS = {
    "scan": (T, "SELECT i, k FROM t"),
    "prefix": (U, 'SELECT i AS "u.i", name AS "u.name" FROM u'),
    "filter": (Filter(T, less(I, 4)), "SELECT * FROM t WHERE i < 4"),
    "three-valued": (
        Filter(T, Or((And((less(I, 4), Not(less(I, 2)))), IsNull(K), Compare("=", I, number(9))))),
        "SELECT * FROM t WHERE i IN (2, 3, 9)",
    ),
    "project": (
        Project(T, ("b", "i"), (call(("", " + 1"), I), K)),
        "SELECT i + 1 AS b, k AS i FROM t",
    ),
    "project over project": (
        Project(Project(T, ("i", "j"), (K, I)), ("i", "k"), (Column("j", INT64), I)),
        "SELECT i, k FROM t",
    ),
    "inner join": (
        Join(T, U, "inner", EQUAL),
        'SELECT t.*, u.i AS "u.i", name FROM t JOIN u USING (i)',
    ),
    "left join": (
        Join(T, U, "left", EQUAL),
        "SELECT t.*, u.i, name FROM t LEFT JOIN u ON t.i = u.i",
    ),
    "semi join": (Join(T, U, "semi", EQUAL), "SELECT * FROM t WHERE i IN (SELECT i FROM u)"),
    "anti join": (Join(T, U, "anti", EQUAL), "SELECT * FROM t WHERE i NOT IN (SELECT i FROM u)"),
    "cross join": (Join(T, U, "cross", None), "SELECT t.*, u.* FROM t, u"),
    "aggregate": (
        Aggregate(T, ("i",), (K,), ("s", "n"), (SUM, call(("count(*)",)))),
        "SELECT k, sum(i)::BIGINT, count(*) FROM t GROUP BY k",
    ),
    "aggregate without keys": (Aggregate(T, (), (), ("s",), (SUM,)), "SELECT 45"),
    "only keys": (Aggregate(T, ("k",), (K,), (), ()), "SELECT DISTINCT k FROM t"),
    "limit of sort": (
        Limit(Sort(T, (K, I), ("desc nulls last", "asc nulls first")), 2, 1),
        "VALUES (5, 2), (8, 2)",
    ),
    "limit": (Aggregate(Limit(T, 3), (), (), ("n",), (call(("count(*)",)),)), "SELECT 3"),
    "union all": (
        Union((T, Filter(T, less(I, 1))), keep_duplicates=True),
        "SELECT * FROM t UNION ALL VALUES (0, 0)",
    ),
    "union": (Union((T, T), keep_duplicates=False), "SELECT * FROM t"),
    "values": (
        Values(
            Schema.of(a=INT64, b=TEXT),
            (number(1), Literal("x", TEXT), number(2), Literal(None, TEXT)),
        ),
        "VALUES (1, 'x'), (2, NULL)",
    ),
    "no values": (Values(Schema.of(a=INT64), ()), "SELECT 1 WHERE false"),
    "fragment": (
        SqlFragment(
            ("SELECT i, k FROM ", " AS a WHERE k = 1 -- only these"),
            (Filter(T, less(I, 5)),),
            T.schema,
            ("t",),
            (),
            (0,),
        ),
        "VALUES (1, 1), (4, 1)",
    ),
    "filter over a comment": (Filter(text("SELECT * FROM t -- all"), less(I, 1)), "VALUES (0, 0)"),
    "expression with a comment": (
        Filter(T, call(("", " < 1 -- few"), I, kind=BOOL)),
        "VALUES (0, 0)",
    ),
    "no columns": (
        Aggregate(Scan("t", "", Schema(())), (), (), ("n",), (call(("count(*)",)),)),
        "SELECT 10",
    ),
    "join with a side without columns": (
        Join(Filter(T, less(I, 1)), Scan("u", "", Schema(())), "cross", None),
        "SELECT 0, 0 FROM u",
    ),
    "parameter": (
        Filter(T, Compare("<", I, Parameter("p1", INT64))),
        "SELECT * FROM t WHERE i < 4",
    ),
    "shared": (
        Union(
            (Filter(F := Filter(T, less(I, 6)), less(I, 2)), Filter(F, less(K, 1))),
            keep_duplicates=True,
        ),
        "VALUES (0, 0), (1, 1), (0, 0), (3, 0)",
    ),
}


@pytest.mark.parametrize("name", PLANS)
def test_rows_are_those_of_the_plain_query(engine, name):
    """Compared as sorted rows; columns by position."""
    plan, sql = PLANS[name]
    compiled = engine.compile(plan)
    found = engine.run(compiled, {"p1": 4})
    assert sorted(found.fetchall(), key=str) == sorted(engine.run(sql).fetchall(), key=str)
    assert found.columns == list(plan.schema.names)


def test_sort_keeps_its_order(engine):
    """ORDER BY at the root, and below a projection."""
    plan = Project(Sort(T, (I,), ("desc nulls last",)), ("x",), (I,))
    assert engine.run(engine.compile(plan)).fetchall() == [(n,) for n in range(9, -1, -1)]


def test_deep_and_shared_plans(engine):
    """Neither recursion nor doubling: 30 unions of a plan with itself are one short text."""
    deep = T
    for n in range(400):
        deep = Filter(deep, less(I, 1000 + n))
    assert engine.compile(deep).count("WHERE") == 400
    double = Filter(T, less(I, 1))
    for n in range(30):
        double = Filter(Union((double, double), keep_duplicates=False), less(I, 1000 + n))
    compiled = engine.compile(double)
    assert len(compiled) < 10_000
    assert engine.run(compiled).fetchall() == [(0, 0)]


def test_names_stand_for_views(engine):
    """A sub-relation computed already is read from its view, and not compiled again."""
    inner = Filter(T, less(I, 5))
    plan = Aggregate(inner, (), (), ("s",), (SUM,))
    compiled = engine.compile(plan, {inner: 'v "1"'})
    assert "WHERE" not in compiled
    view = pa.table({"i": [100], "k": [1]})
    assert engine.fetch(compiled, views={'v "1"': view})["s"].to_pylist() == [100]
    assert engine.fetch(engine.compile(inner, {inner: "w"}), views={"w": view}).num_rows == 1


# -- predictions -----------------------------------------------------------------------------------


def trained():
    x = ToTensor("i", Numeric(0.0, 1.0, indicator=False))
    out = Linear(x, Const((2.0,), (1, 1)), None)
    outputs = (ToTable(out, "value", FLOAT64), ToTable(out, "raw", FLOAT64))
    return Model("m", 1, 0, "regression", "y", (Feature("i", INT64),), outputs)


MODEL = trained()
DOUBLE = Function(
    "double it", [INT64], FLOAT64, lambda a: pa.array([2.0 * v for v in a[0].to_pylist()])
)


def test_prediction_inside_an_expression(engine):
    """A call in the user's text becomes a call of the function given for it."""
    call = PredictCall(MODEL, "value", (I,))
    fragment = SqlFragment(
        ("SELECT i, ", " AS p, sum(", ") OVER () AS k FROM t WHERE i < 3"),
        (), Schema.of(i=INT64, p=FLOAT64, k=FLOAT64), ("t",), (call,), (0, 0),
    )  # fmt: skip
    compiled = engine.compile(
        Filter(fragment, Compare(">", call, number(1))), functions={call: "double it"}
    )
    found = engine.fetch(compiled, functions=[DOUBLE]).to_pydict()
    assert found == {"i": [1, 2], "p": [2.0, 4.0], "k": [6.0, 6.0]}


def test_predict_as_one_function_per_output(engine):
    """Each method is a column computed by its own function."""
    plan = Predict(Filter(T, less(I, 2)), MODEL, ("i",), ("value", "raw"), ("a", "b"), "udf")
    functions = {PredictCall(MODEL, m, (I,)): "double it" for m in ("value", "raw")}
    found = engine.fetch(engine.compile(plan, functions=functions), functions=[DOUBLE])
    assert found.to_pydict() == {"i": [0, 1], "k": [0, 1], "a": [0.0, 2.0], "b": [0.0, 2.0]}


def test_predict_as_one_function_of_all_outputs(engine):
    """One call per row returns a struct with a field per method."""
    plan = Predict(Filter(T, less(I, 2)), MODEL, ("i",), ("value", "raw"), ("a", "b"), "udf")
    both = parse_type("struct<value: float64, raw: float64>")
    rows = []

    def run(arrays):
        rows.extend(arrays[0].to_pylist())
        return pa.array([{"value": 2.0 * v, "raw": -1.0} for v in arrays[0].to_pylist()])

    function = Function("all", [INT64], both, run, volatile=True)
    found = engine.fetch(engine.compile(plan, functions={plan: "all"}), functions=[function])
    assert found.to_pydict() == {"i": [0, 1], "k": [0, 1], "a": [0.0, 2.0], "b": [-1.0, -1.0]}
    assert sorted(rows) == [0, 1]


def test_what_runs_elsewhere_is_refused(engine):
    """The message names operator or model."""
    plan = Predict(T, MODEL, ("i",), ("value",), ("p",))
    with pytest.raises(UnsupportedError, match="model `m` has no function in this statement"):
        engine.compile(plan)
    assert engine.compile(plan, {plan: "v"}) == 'SELECT * FROM "v"'
    with pytest.raises(UnsupportedError, match="cannot run Evaluate itself"):
        engine.compile(Evaluate(T, MODEL, ("i",), "k"))


# -- constants -------------------------------------------------------------------------------------

NASTY = ["", "'", "''; DROP TABLE t; --", '"', "a\0b", "\0", "\\n", "$p1", "é日😀", "--", "/* */"]


@pytest.mark.parametrize("value", NASTY)
def test_text_survives(engine, value):
    """As a literal, as a column name, as a parameter."""
    plan = Project(Limit(T, 1), ("c",), (Literal(value, TEXT),))
    assert engine.run(engine.compile(plan)).fetchall() == [(value,)]
    assert engine.run("SELECT $v", {"v": value}).fetchall() == [(value,)]
    if value and "\0" not in value:
        named = Project(Limit(T, 1), (value,), (number(1),))
        assert engine.run(engine.compile(Filter(named, IsNull(Column(value, INT64))))).columns == [
            value
        ]


@pytest.mark.parametrize(
    "value", [0.0, -0.0, 0.1, 1e308, 5e-324, 1 / 3, math.inf, -math.inf, math.nan]
)
def test_floats_survive_bit_for_bit(engine, value):
    """Signs of zero, the smallest and the largest numbers, NaN."""
    (found,) = engine.run(f"SELECT {literal(value, FLOAT64)}").fetchall()[0]
    assert struct.pack("<d", found) == struct.pack("<d", value)


@pytest.mark.parametrize(
    ("value", "kind", "found"),
    [
        (None, "int64", None),
        (True, "bool", True),
        (True, "int8", 1),
        (-(2**127), "int128", -(2**127)),
        (2**64 - 1, "uint64", 2**64 - 1),
        (0.1, "float32", struct.unpack("<f", struct.pack("<f", 0.1))[0]),
        ("12.50", "decimal(9,2)", decimal.Decimal("12.50")),
        ("2020-02-29", "date", dt.date(2020, 2, 29)),
        (
            "2020-02-29 10:00:00.000001",
            "timestamp",
            dt.datetime.fromisoformat("2020-02-29 10:00:00.000001"),
        ),
        ("10:30:00", "time", dt.time(10, 30)),
        (b"\x00\xff'", "blob", b"\x00\xff'"),
        ("[1.5, -2]", "float32[2]", [1.5, -2.0]),
        ("['a']", "list<text>", ["a"]),
        ("a", "enum", "a"),
        ('{"a": 1}', "json", '{"a": 1}'),
    ],
)
def test_constants_of_every_type(engine, value, kind, found):
    """Literal -> SQL -> value."""
    assert engine.run(f"SELECT {literal(value, parse_type(kind))} AS c").fetchall() == [(found,)]


def test_text_that_is_no_text():
    """Half a surrogate pair cannot reach the engine."""
    with pytest.raises(DataError, match="is no text"):
        literal("\ud800", TEXT)


def test_type_without_a_name():
    """Said by name."""
    with pytest.raises(UnsupportedError, match="no type for"):
        type_name(SqlType("quaternion"))
