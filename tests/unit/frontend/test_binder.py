"""Every clause of a query may hold predictions; results equal the formulas written out."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gradbase.errors import BindError, EngineError, ParseError, UnsupportedError
from gradbase.frontend.binder import bind_query
from gradbase.ir.learning import Evaluate, Model
from gradbase.ir.node import Node, find
from gradbase.ir.relational import Filter, Join, Limit, Relation, Scan, Sort, SqlFragment
from gradbase.ir.scalar import And, Column, Compare, Parameter, PredictCall, SqlScalar

from .fake import run

_LINES = (Path(__file__).parent / "queries.txt").read_text().splitlines()
QUERIES = [q for q in _LINES if q and not q.startswith("#")]
_FORMULAS = (
    (r"PREDICT_PROBA\(m, \*\)", "proba_(x, y)"),
    (r"PREDICT_PROBA\(m, t\.\*\)", "proba_(t.x, t.y)"),
    (r"PREDICT\(m, \*\)", "label_(x, y)"),
    (r"PREDICT\(r, \*\)", "raw_(x, y)"),
)


def shape(relation: Relation) -> str:
    """Class names of a plan's relations, ``Filter(Scan)``."""
    inputs = [shape(c) for c in relation.children if isinstance(c, Relation)]
    return type(relation).__name__ + (f"({', '.join(inputs)})" if inputs else "")


@pytest.mark.parametrize("line", QUERIES)
def test_results_equal_the_formulas_written_out(line, connection, relations, models):
    query, _, reference = line.partition(" ;; ")
    reference = reference or query
    for call, written in _FORMULAS:
        reference = re.sub(call, written, reference)

    found = run(connection, bind_query(query, relations, models))
    expected = connection.sql(reference).fetchall()

    assert sorted(found, key=repr) == sorted(expected, key=repr)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("SELECT id, PREDICT(m, *) AS p FROM t", "Project(Scan)"),
        (
            "SELECT id, PREDICT_PROBA(m, *) AS p FROM t WHERE region = 'EU' ORDER BY p DESC LIMIT 5",
            "Limit(Sort(Project(Filter(Scan))))",
        ),
        ("SELECT id FROM t ORDER BY PREDICT(r, *) LIMIT 3", "Project(Limit(Sort(Project(Scan))))"),
        ("SELECT region, avg(PREDICT(r, *)) a FROM t GROUP BY region", "Project(Aggregate(Scan))"),
        ("SELECT DISTINCT PREDICT(m, *) p FROM t", "Aggregate(Project(Scan))"),
        (
            "SELECT t.id, PREDICT(m, t.*) p FROM t JOIN u ON t.id = u.id",
            "Project(Join(Scan, Scan))",
        ),
        (
            "SELECT t.id FROM t, u WHERE t.id = u.id AND PREDICT(m, t.*) = 'yes'",
            "Project(Filter(Filter(Join(Scan, Scan))))",
        ),
        ("SELECT * FROM ML.PREDICT(MODEL r, TABLE t)", "Project(Scan)"),
        (
            "SELECT id FROM ML.PREDICT(MODEL r, TABLE t) WHERE region = 'EU'",
            "Project(Filter(Project(Scan)))",
        ),
        (
            "SELECT id, row_number() OVER (ORDER BY PREDICT(r, *)) k FROM t WHERE id < 3",
            "SqlFragment(Project(Filter(Scan)))",
        ),
        ("SELECT * FROM t", "Scan"),
        ("SELECT id FROM t WHERE x > 1", "SqlFragment"),
    ],
)
def test_blocks_are_taken_apart_so_that_the_optimiser_sees_them(query, expected, relations, models):
    assert shape(bind_query(query, relations, models)) == expected


def only(root: Node, kind: type) -> Node:
    (found,) = find(root, kind)
    return found


def test_where_keeps_the_conjuncts_in_the_users_order(relations, models):
    query = "SELECT id FROM t WHERE PREDICT_PROBA(m, *) > 0.5 AND region = 'EU' AND x IS NOT NULL"

    predicate = only(bind_query(query, relations, models), Filter).predicate

    assert isinstance(predicate, And)
    kinds = [type(a).__name__ for a in predicate.args]
    assert kinds == ["Compare", "Compare", "Not"]
    probability, region, _ = predicate.args
    assert isinstance(probability.left, PredictCall)
    assert probability.right.value == 0.5
    assert (region.left.name, region.right.value) == ("region", "EU")


def test_a_text_literal_stays_text_where_the_engine_decides_its_type(relations, models):
    query = "SELECT id, PREDICT(r, *) p FROM t WHERE d > '2020-01-05'"

    predicate = only(bind_query(query, relations, models), Filter).predicate

    assert isinstance(predicate, Compare)
    assert isinstance(predicate.right, SqlScalar)


def test_the_same_prediction_in_two_clauses_is_one_node(relations, models):
    query = "SELECT PREDICT(r, *) v FROM t WHERE PREDICT(r, x, y) > 1 ORDER BY PREDICT(r, *)"

    assert len(list(find(bind_query(query, relations, models), PredictCall))) == 1


def test_columns_of_two_tables_are_kept_apart_by_prefixes(relations, models):
    plan = bind_query("SELECT PREDICT(m, t.*) p FROM t JOIN u USING (id)", relations, models)

    tables = {s.table: s.prefix for s in find(plan, Scan)}
    join = only(plan, Join)
    assert tables == {"t": "t.", "u": "u."}
    assert (join.condition.left.name, join.condition.right.name) == ("t.id", "u.id")


def test_correlated_predictions_stay_in_the_text_as_calls(relations, models):
    query = "SELECT id, (SELECT PREDICT(r, u.w AS x, t.y AS y) FROM u WHERE u.id = t.id) v FROM t"

    plan = bind_query(query, relations, models)

    assert isinstance(plan, SqlFragment)
    (call,) = plan.calls
    assert [f.parts for f in call.features] == [("u.w",), ("t.y",)]
    assert plan.parts[0].startswith("SELECT id, (SELECT ")
    assert set(plan.reads) == {"t", "u"}


def test_a_with_query_used_twice_is_computed_once(relations, models):
    query = "WITH c AS (SELECT id, PREDICT(r, *) v FROM t) SELECT * FROM c a, c b WHERE a.v = b.v"

    plan = bind_query(query, relations, models)

    assert len(list(find(plan, PredictCall))) == 1
    assert len(list(find(plan, Scan))) == 1


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("SELECT id, PREDICT(m,   *) FROM t", ["id", "PREDICT(m, *)"]),
        ("SELECT id, id, ID, PREDICT(r, *) AS id FROM t", ["id", "id_1", "id_2", "id_3"]),
        ("SELECT count(*), max(PREDICT(r, *)) FROM t", ["count_star()", "max(PREDICT(r, *))"]),
        ("SELECT v: PREDICT(r, *), x + 1, 'a' FROM t", ["v", "(x + 1)", "'a'"]),
        (
            "SELECT * FROM ML.PREDICT(MODEL m, (SELECT x, y FROM t))",
            ["predicted_churned", "predicted_churned_probs", "x", "y"],
        ),
        (
            "SELECT * FROM ML.PREDICT(MODEL Tuned, (SELECT x, y, 1 AS predicted_churned FROM t))",
            ["trial_id", "predicted_churned", "predicted_churned_probs", "x", "y",
             "predicted_churned_1"],
        ),
    ],
)  # fmt: skip
def test_output_names(query, names, relations, models):
    assert list(bind_query(query, relations, models).schema.names) == names


def test_evaluate_names_its_features_and_label(relations, models):
    query = "SELECT * FROM ML.EVALUATE(MODEL m, (SELECT Y, x, s AS Churned FROM t), STRUCT(0.3 AS threshold))"

    plan = bind_query(query, relations, models)

    assert isinstance(plan, Evaluate)
    assert (plan.features, plan.label, plan.threshold) == (("x", "y"), "Churned", 0.3)


def test_trial_and_stored_results(connection, relations, models):
    plan = bind_query("SELECT PREDICT(Tuned, *, STRUCT(3 AS trial_id)) p FROM t", relations, models)
    info = bind_query("SELECT what, model FROM ML.TRAINING_INFO(MODEL m)", relations, models)

    assert only(plan, PredictCall).model.trial == 3
    assert run(connection, info) == [("TRAINING_INFO", "m")]


@pytest.mark.parametrize(
    ("query", "parameters", "rows"),
    [
        ("SELECT id FROM t WHERE id < ? AND PREDICT_PROBA(m, *) > ?", [5, 0.8], 2),
        ("SELECT id FROM t WHERE id < $2 AND PREDICT_PROBA(m, *) > $1", [0.8, 5], 2),
        ("SELECT id, PREDICT(m, *) p FROM t WHERE id < $top LIMIT $n", {"top": 9, "n": 4}, 4),
        ("SELECT id + ?, PREDICT(m, ? AS x, y) FROM t LIMIT ?", [1, 2.5, 2], 2),
    ],
)
def test_parameters(query, parameters, rows, relations, models):
    from gradbase.frontend.parameters import parameter_values

    plan = bind_query(query, relations, models, parameters)

    assert len(run(relations.connection, plan, parameter_values(parameters))) == rows


def test_a_compared_parameter_is_a_scalar_of_its_own(relations, models):
    plan = bind_query("SELECT id FROM t WHERE PREDICT(r, *) > ?", relations, models, [1])

    assert isinstance(only(plan, Filter).predicate.right, Parameter)


@pytest.mark.parametrize(
    ("query", "error", "text"),
    [
        ("SELECT PREDICT(mm, *) FROM t", BindError, r"no model `mm`(.|\n)*\^\^(.|\n)*`m`"),
        ("SELECT PREDICT(m, x AS x) FROM t", BindError, r"reads column `y`, which is not there"),
        ("SELECT PREDICT(m, x AS x, id AS yy) FROM t", BindError, r"did you mean `yy`"),
        ("SELECT PREDICT(m, x) FROM t", BindError, r"reads 2 features \(x, y\), 1 were given"),
        ("SELECT PREDICT(m, s, y) FROM t", BindError, r"`x` of type float64, found text"),
        ("SELECT PREDICT_PROBA(r, *) FROM t", BindError, r"no probabilities(.|\n)*use PREDICT"),
        ("SELECT PREDICT(m) FROM t", BindError, r"reads 2 features"),
        ("SELECT PREDICT() FROM t", ParseError, r"needs a model"),
        ("SELECT PREDICT(m, *) FROM t a, t b", BindError, r"`x`, which several tables have"),
        ("SELECT PREDICT(m, q.*) FROM t", BindError, r"no table `q` here; there are t"),
        (
            "SELECT id FROM t, u WHERE PREDICT(m, *) = 'yes'",
            BindError,
            r"`id` is in several tables",
        ),
        ("SELECT PREDICT(m@, *) FROM t", ParseError, r"number or alias of a version(.|\n)*\^"),
        ("SELECT PREDICT(m@1.5, *) FROM t", ParseError, r"found `1.5`"),
        ('SELECT PREDICT("m@", *) FROM t', ParseError, r"names no version"),
        ("SELECT PREDICT(m@2@3, *) FROM t", ParseError, r"name@version"),
        ("SELECT PREDICT(m, *), nope FROM t", EngineError, r"nope"),
        ("SELECT PREDICT(m, nope AS x, y) FROM t", EngineError, r"nope"),
        ("SELECT PREDICT(m, *) FROM nope", EngineError, r"nope"),
        ("SELECT PREDICT(m, *) FROM t WHERE x > ?", BindError, r"parameter `\$1` has no value"),
        ("SELECT * FROM ML.PREDICT(MODEL m)", BindError, r"needs rows"),
        ("SELECT * FROM ML.PREDICT(MODEL m, t)", ParseError, r"hint: TABLE t"),
        ("SELECT * FROM ML.PREDICT(m, TABLE t)", ParseError, r"expected MODEL"),
        ("SELECT * FROM ML.PREDICT(MODEL m, TABLE u)", BindError, r"`x`: trained as float64, not"),
        ("SELECT * FROM ML.PREDICT(MODEL m, (SELECT x FROM t))", BindError, r"reads column `y`"),
        ("SELECT * FROM ML.PREDICTS(MODEL m, TABLE t)", BindError, r"did you mean `PREDICT`"),
        ("SELECT * FROM ML.GLOBAL_EXPLAIN(MODEL m)", UnsupportedError, r"EXPLAIN is not offered"),
        ("SELECT * FROM ML.EVALUATE(MODEL m, TABLE t)", BindError, "needs the label `churned`"),
        (
            "SELECT * FROM ML.PREDICT(MODEL m, TABLE t, STRUCT(2 AS threshold))",
            BindError,
            r"threshold is in \[0, 1\]",
        ),
        (
            "SELECT * FROM ML.PREDICT(MODEL m, TABLE t, STRUCT(2 AS tral_id))",
            BindError,
            r"did you mean `trial_id`",
        ),
        ("SELECT * FROM ML.TRIAL_INFO(MODEL m, TABLE t)", BindError, r"takes no rows"),
    ],
)
def test_errors_say_what_and_where(query, error, text, relations, models):
    with pytest.raises(error, match=text):
        bind_query(query, relations, models)


@pytest.mark.parametrize(
    ("trained", "found", "fits"),
    [
        ("int64", "float32", True), ("decimal(5,2)", "int8", True), ("text", "enum", True),
        ("date", "timestamp", True), ("float32[3]", "float64[3]", True), ("bool", "bool", True),
        ("float64", "null", True), ("int64", "text", False), ("float32[3]", "float32[4]", False),
        ("date", "text", False), ("bool", "int64", False), ("list<float64>", "float64", False),
    ],
)  # fmt: skip
def test_feature_types_that_interchange(trained, found, fits):
    from gradbase.frontend.features import feature_type_fits
    from gradbase.ir.types import parse_type

    assert feature_type_fits(parse_type(trained), parse_type(found)) is fits


def test_quoted_and_unicode_names(connection, relations, models):
    query = (
        'SELECT q."Größe ""x""" AS "a b", PREDICT(m, q."Größe ""x""" AS X, "ñ" AS Y) AS "p;--" '
        'FROM (SELECT x AS "Größe ""x""", y AS ñ FROM t) AS q WHERE "p;--" = \'yes\''
    )

    plan = bind_query(query, relations, models)

    assert plan.schema.names == ("a b", "p;--")
    assert {row[1] for row in run(connection, plan)} == {"yes"}


def test_order_by_reads_the_output_it_names(relations, models):
    query = "SELECT PREDICT(m, *) AS p, count(*) AS n FROM t GROUP BY p ORDER BY n DESC LIMIT 1"

    plan = bind_query(query, relations, models)

    assert shape(plan) == "Limit(Sort(Project(Aggregate(Scan))))"
    assert only(plan, Sort).keys == (Column("n", plan.schema.type_of("n")),)
    assert only(plan, Limit).count == 1


@pytest.mark.parametrize(
    ("query", "tables"),
    [
        ("SELECT t.id FROM t, main.u AS v, vip WHERE t.id < 3", {"t", "main.u", "vip"}),
        ("WITH c AS (SELECT * FROM u) SELECT c.id FROM c JOIN t USING (id)", {"u", "t"}),
        ("SELECT id FROM t WHERE id IN (SELECT id FROM vip)", {"t", "vip"}),
        ("SELECT extract(year FROM d) FROM t WHERE x IS DISTINCT FROM y", {"t"}),
    ],
)
def test_a_fragment_says_which_tables_it_reads(query, tables, relations, models):
    assert set(bind_query(query, relations, models).reads) == tables


@pytest.mark.parametrize(
    ("written", "version"), [("m", 1), ("m@2", 2), ("m@old", 7), ("`m@2`", 2), ('"m@old"', 7)]
)
def test_predictions_by_version(written, version, relations, models):
    """In scalars, which may stand beside the engine's own @, and in table functions."""
    for query in (
        f"SELECT @x, PREDICT({written}, *) FROM t WHERE @ (x - 2) < 9",
        f"SELECT PREDICT_PROBA(MODEL {written}, x, y) FROM t",
        f"SELECT * FROM ML.PREDICT(MODEL {written}, TABLE t)",
    ):
        (model,) = find(bind_query(query, relations, models), Model)
        assert model.version == version


def test_predictions_name_their_version(relations, models):
    """On request, in a column before them."""
    query = "SELECT * FROM ML.PREDICT(MODEL m@old, TABLE t, STRUCT(TRUE AS with_version))"
    found = bind_query(query, relations, models)
    assert found.schema.names[:2] == ("model_version", "predicted_churned")
    with pytest.raises(BindError, match="`with_version` is TRUE or FALSE"):
        bind_query(query.replace("TRUE", "1"), relations, models)
    with pytest.raises(UnsupportedError, match=r"with_version belongs to ML\.PREDICT"):
        bind_query("SELECT PREDICT(m, *, STRUCT(TRUE AS with_version)) FROM t", relations, models)
