"""One session: several statements, parameters, laziness, views, threads, plans."""

from __future__ import annotations

import threading

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import gradbase as gb
import shop
from gradbase.errors import BindError, EngineError, ParseError, StoreError


def test_native_sql_is_the_engine_s(db):
    assert db.sql("SELECT 40 + 2 AS answer").fetchall() == [(42,)]
    assert db.sql("FROM range(3)").fetchall() == [(0,), (1,), (2,)]
    assert db.sql("SELECT 'PREDICT(m, *)' AS s -- PREDICT(m, *)").fetchall() == [("PREDICT(m, *)",)]


def test_several_statements_in_one_text(db):
    text = "CREATE TABLE t (a INT); INSERT INTO t VALUES (1), (2); SELECT sum(a) FROM t; -- done"
    assert db.sql(text).fetchall() == [(3,)]
    assert [r.fetchall() for r in db.script("SELECT 1; SELECT ';'")] == [[(1,)], [(";",)]]


@pytest.mark.parametrize("text", ["", "  ", ";", "-- nothing", "/* nothing */ ;"])
def test_no_statement(db, text):
    with pytest.raises(ParseError, match="there is no statement"):
        db.sql(text)


def test_queries_wait_and_ddl_does_not(db):
    db.sql("CREATE TABLE t AS SELECT 1 AS a")
    waiting = db.sql("SELECT count(*) FROM t")
    db.sql("INSERT INTO t VALUES (2)")
    assert waiting.fetchall() == [(2,)]
    assert waiting.fetchall() == [(2,)]


@pytest.mark.parametrize(
    ("text", "params"),
    [
        ("SELECT ? + ?::INT", [40, 2]),
        ("SELECT $1 + $2::INT", [40, 2]),
        ("SELECT $a + $b::INT", {"a": 40, "b": 2}),
    ],
)
def test_parameters(db, text, params):
    assert db.sql(text, params=params).fetchall() == [(42,)]


@pytest.mark.parametrize(
    ("where", "params"), [("id < ?", [5]), ("id < $1", [5]), ("id < $top", {"top": 5})]
)
def test_parameters_beside_predictions(trained, where, params):
    query = f"SELECT id, PREDICT(churn, *) FROM customers WHERE {where} ORDER BY id"
    expected = trained.sql(query.replace(where, "id < 5")).fetchall()
    assert trained.sql(query, params=params).fetchall() == expected
    assert len(expected) == 5


def test_parameters_of_a_training_query(db):
    query = shop.rows_for("churned") + " WHERE id < $top"
    db.sql(shop.create_model("m", query), params={"top": 100})
    assert db.store.lineage("m").query == query


def test_a_missing_parameter_is_named(trained):
    with pytest.raises((BindError, EngineError), match=r"(?i)top|parameter"):
        trained.sql("SELECT PREDICT(churn, *) FROM customers WHERE id < $top").fetchall()


def test_system_tables(db):
    leases = db.sql("SELECT * FROM gradbase.leases").arrow()
    assert leases.column_names == ["id", "owner", "purpose", "threads", "bytes", "since"]
    assert leases["owner"].to_pylist() == ["duckdb"]
    db.sql("SELECT count(*) FROM customers").fetchall()
    metrics = dict(db.sql("SELECT metric, value FROM gradbase.metrics").fetchall())
    assert {"queries", "rows", "seconds", "bytes"} <= metrics.keys()


def test_metrics_count_what_ran(db):
    db.sql(shop.create_model("m", max_epochs=1))
    before = dict(db.sql("FROM gradbase.metrics").fetchall())
    db.sql("SELECT PREDICT(m, *) FROM customers").fetchall()
    after = dict(db.sql("FROM gradbase.metrics").fetchall())
    assert after["predicted_rows"] - before["predicted_rows"] == shop.ROWS
    assert after["queries"] > before["queries"]


# -- tables and frames -------------------------------------------------------------------------


def test_tables_by_name_and_query(db):
    db.sql(
        'CREATE SCHEMA s; CREATE TABLE s.t AS SELECT 1 AS a; CREATE TABLE "odd.name" AS SELECT 2 AS a'
    )
    assert db.table("customers").columns[:2] == ["id", "region"]
    assert db.table("s.t").arrow().to_pylist() == [{"a": 1}]
    assert db.table("odd.name").arrow().to_pylist() == [{"a": 2}]
    assert db.table("SELECT 3 AS a").df()["a"].tolist() == [3]
    assert db.table("FROM range(2)").result().fetchall() == [(0,), (1,)]
    assert db.table("WITH x AS (SELECT 4 AS a) SELECT * FROM x").arrow().num_rows == 1
    assert repr(db.table("SELECT 3 AS a")) == "Table('SELECT 3 AS a')"
    with pytest.raises(EngineError, match="customer"):
        db.table("custmers").columns  # noqa: B018


def test_a_name_cannot_inject(db):
    with pytest.raises(EngineError):
        db.table('customers"; DROP TABLE customers; --').columns  # noqa: B018
    assert len(db.table("customers").df()) == shop.ROWS


@pytest.mark.parametrize(
    "make", [lambda t: t, lambda t: t.to_pandas(), pl.from_arrow], ids=["arrow", "pandas", "polars"]
)
def test_frames_as_views(db, make):
    db.register("frame", make(pa.table({"a": [1, 2], "s": ["x", "y"]})))
    assert db.sql("SELECT sum(a), max(s) FROM frame").fetchall() == [(3, "y")]
    db.unregister("frame")
    with pytest.raises(EngineError, match="frame"):
        db.sql("SELECT * FROM frame").fetchall()


def test_variables_of_the_caller_are_no_tables(db):
    secrets = pd.DataFrame({"a": [1]})
    with pytest.raises(EngineError, match="secrets"):
        db.sql("SELECT * FROM secrets").fetchall()
    assert len(secrets) == 1


def test_temporary_tables_and_transactions_of_the_user(db):
    """Training and predicting see what the user sees, committed or not."""
    db.sql("CREATE TEMP TABLE mine AS SELECT * FROM customers WHERE id < 200")
    db.sql(shop.create_model("m", "SELECT * EXCLUDE (plan, spent) FROM mine", max_epochs=1))
    assert db.sql("SELECT count(PREDICT(m, *)) FROM mine").fetchall() == [(200,)]
    db.sql("BEGIN")
    db.sql("DELETE FROM customers WHERE id >= 50")
    assert db.sql("SELECT count(PREDICT(m, *)) FROM customers").fetchall() == [(50,)]
    db.sql("ROLLBACK")
    assert db.sql("SELECT count(PREDICT(m, *)) FROM customers").fetchall() == [(shop.ROWS,)]


# -- plans -------------------------------------------------------------------------------------

QUERY = "SELECT id, PREDICT_PROBA(churn, *) AS p FROM customers WHERE region = 'north' AND PREDICT_PROBA(churn, *) > 0.5"


def test_explain_shows_the_plan_that_runs(trained):
    text = trained.explain(QUERY)
    assert trained.sql(f"EXPLAIN {QUERY}").text() == text
    assert "push_filter_below_predict" in trained.last_plan.rules
    for word in ("Predict", "churn", "rows", "chosen: ", "total "):
        assert word in text
    verbose = trained.explain(QUERY, verbose=True)
    assert "push_filter_below_predict" in verbose
    assert len(verbose) > len(text)
    assert "measured: " in trained.sql(f"EXPLAIN ANALYZE {QUERY}").text()


@pytest.mark.parametrize("form", ["dl", "udf"])
def test_explain_analyze_tells_what_operators_did(trained, form):
    """Rows, bytes, seconds, leases, kept programs and overlap; the engine's part as one."""
    rows = len(trained.sql(QUERY).fetchall())
    trained.sql(f"SET gradbase.representation = '{form}'")
    try:
        lines = trained.explain(QUERY, analyze=True).splitlines()
    finally:
        trained.sql("RESET gradbase.representation")
    actual = [line.strip() for line in lines if "actual: " in line]
    assert actual[0].startswith(f"actual: {rows:,} rows, ")
    assert any("one query of the engine" in line for line in actual)
    assert any(", network " in line for line in actual)
    measured, overlap = lines[-2:]
    assert measured.startswith(f"measured: {rows:,} rows, ")
    assert "programs: " in measured
    assert " leases, " in measured
    assert overlap.startswith("overlap: waited ")


def test_the_engine_is_asked_once_about_a_table_while_a_statement_is_planned(trained, monkeypatch):
    statistics, asked = trained.engine.statistics, []
    found = statistics.query_rows
    monkeypatch.setattr(statistics, "query_rows", lambda sql: asked.append(sql) or found(sql))
    trained.explain(QUERY)
    assert len(asked) == len(set(asked)) == 1


def test_explain_of_training_trains_nothing(db):
    text = db.explain(shop.create_model("m", **shop.SIX))
    assert "Search" in text
    assert "fuse_fits" in db.last_plan.rules
    assert db.store.names() == ()
    assert not (db.store.path / "runs").exists()
    assert "measured: 6 trials" in db.explain(shop.create_model("m", **shop.SIX), analyze=True)
    assert db.store.names() == ("m",)


def test_explain_of_native_sql_is_the_engine_s(db):
    assert "customers" in db.explain("SELECT count(*) FROM customers WHERE id > 3")
    assert "Total Time" in db.explain("SELECT 1", analyze=True)


def test_rules_switched_off_do_not_fire(own_shop):
    with gb.connect(str(own_shop), progress=False) as db:
        db.sql("SET gradbase.disabled_rules = 'push_filter_below_predict'")
        db.explain(QUERY)
        assert "push_filter_below_predict" not in db.last_plan.rules
        db.sql("SET gradbase.optimizer = off")
        db.explain(QUERY)
        optional = set(db.last_plan.rules) - {"extract_predictions", "choose_representation"}
        assert optional == set()


# -- several threads, several sessions ---------------------------------------------------------


def test_a_session_may_be_used_from_several_threads(own_shop):
    """Queries, training and dropping side by side: each gets its own right answer."""
    errors, answers = [], []
    with gb.connect(str(own_shop), progress=False) as db:
        expected = db.sql(
            "SELECT count(*) FROM customers WHERE PREDICT(churn, *) = 'yes'"
        ).fetchall()

        def ask(number):
            try:
                for _ in range(3):
                    query = "SELECT count(*) FROM customers WHERE PREDICT(churn, *) = 'yes'"
                    answers.append(db.sql(query).fetchall())
                    answers.append(
                        expected if db.sql(f"SELECT {number}").fetchall() == [(number,)] else number
                    )
            except Exception as error:
                errors.append(error)

        def learn(number):
            try:
                db.sql(shop.create_model(f"m{number}", max_epochs=2))
                db.sql(f"DROP MODEL m{number}")
            except Exception as error:
                errors.append(error)

        threads = [threading.Thread(target=f, args=(i,)) for i in range(4) for f in (ask, learn)]
        [t.start() for t in threads]
        [t.join() for t in threads]
        assert errors == []
        assert answers == [expected] * 24
        assert shop.leftovers(db) == []
        assert db.store.names() == ("churn", "linear", "plans", "spend")
        assert db.fsck().ok


def test_two_sessions_of_one_process(own_shop):
    with gb.connect(str(own_shop)) as one, gb.connect(str(own_shop)) as two:
        one.sql(shop.create_model("fresh", max_epochs=1))
        assert two.sql("SELECT count(PREDICT(fresh, *)) FROM customers").fetchall() == [
            (shop.ROWS,)
        ]
        two.sql("DROP MODEL fresh")
        with pytest.raises(BindError, match="no model `fresh`"):
            one.sql("SELECT PREDICT(fresh, *) FROM customers")


def test_leaving_the_block_closes(tmp_path):
    with gb.connect(str(tmp_path / "x.duckdb")) as db:
        db.sql("CREATE TABLE t AS SELECT 1")
    with pytest.raises(StoreError, match="closed"):
        db.sql("SELECT 1")


def test_errors_in_a_script_say_where_their_statement_begins(db):
    """The third line is wrong, whoever finds out: gradbase or DuckDB."""
    for wrong in ("PREDICT(nosuch, *)", "nosuch"):
        with pytest.raises((BindError, EngineError)) as caught:
            list(db.script(f"SELECT 1;\n\nSELECT {wrong} FROM range(3)"))
        assert caught.value.__notes__ == ["in the statement on line 3"]
