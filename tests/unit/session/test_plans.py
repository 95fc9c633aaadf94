"""Kept plans: a repeated query is planned once, and anew when what its plan rests on changed."""

from __future__ import annotations

import duckdb
import pytest

import gradbase as gb
import shop
from gradbase.session.plans import KEPT, Kept

QUERY = "SELECT id, PREDICT_PROBA(churn, *) AS p FROM customers ORDER BY id"


@pytest.fixture
def own(own_shop):
    """A session that the test may change, with the table `own`."""
    with gb.connect(str(own_shop), progress=False) as session:
        session.sql("CREATE TABLE own AS FROM customers")
        yield session


def plan_of(db, query, params=None):
    rows = db.sql(query, params=params).fetchall()
    return db.last_plan, rows


def test_a_repeated_query_is_planned_once(own):
    first, expected = plan_of(own, QUERY)
    again, rows = plan_of(own, QUERY)
    assert again is first
    assert rows == expected


def test_values_of_parameters_share_a_plan(own):
    query = "SELECT id, PREDICT(churn, *) FROM own WHERE id < ? ORDER BY id"
    first, few = plan_of(own, query, [3])
    again, more = plan_of(own, query, [7])
    assert again is first
    assert [len(few), len(more)] == [3, 7]


def test_a_column_added_shows_in_a_star(own):
    query = "SELECT *, PREDICT(churn, *) FROM own"
    before = own.sql(query).columns
    own.sql("ALTER TABLE own ADD COLUMN extra INTEGER")
    assert own.sql(query).columns == [*before[:-1], "extra", before[-1]]


def test_a_feature_dropped_is_reported(own):
    query = "SELECT PREDICT(churn, *) FROM own"
    own.sql(query).fetchall()
    own.sql("ALTER TABLE own DROP COLUMN region")
    with pytest.raises(gb.errors.BindError, match="region"):
        own.sql(query).fetchall()


def test_a_change_through_another_connection_is_seen(own):
    query = "SELECT *, PREDICT(churn, *) FROM own"
    before = own.sql(query).columns
    config = {"python_enable_replacements": False}
    with duckdb.connect(str(own.engine.path), config=config) as other:
        other.execute("ALTER TABLE own ADD COLUMN extra INTEGER")
    assert own.sql(query).columns == [*before[:-1], "extra", before[-1]]


def test_a_new_version_of_the_model_predicts(own):
    query = QUERY.replace("churn", "fresh")
    own.sql(shop.create_model("fresh", max_epochs=1, hidden_units=[4]))
    first, before = plan_of(own, query)
    own.sql(
        shop.create_model("fresh", max_epochs=2, hidden_units=[4]).replace(
            "CREATE", "CREATE OR REPLACE", 1
        )
    )
    again, after = plan_of(own, query)
    assert again is not first
    assert after != before
    own.sql("DROP MODEL fresh")
    with pytest.raises(gb.errors.BindError, match="fresh"):
        own.sql(query)


def test_settings_belong_to_a_plan(own):
    first, expected = plan_of(own, QUERY)
    own.sql("SET gradbase.representation = 'udf'")
    try:
        forced, rows = plan_of(own, QUERY)
    finally:
        own.sql("RESET gradbase.representation")
    assert forced is not first
    assert [r[0] for r in rows] == [r[0] for r in expected]
    assert plan_of(own, QUERY)[0] is first


def test_a_table_that_grew_is_planned_anew(own):
    query = "SELECT id, PREDICT(churn, *) FROM own"
    first, rows = plan_of(own, query)
    own.sql("INSERT INTO own FROM own LIMIT 3")
    assert plan_of(own, query)[0] is first
    for _ in range(2):
        own.sql("INSERT INTO own FROM own")
    again, more = plan_of(own, query)
    assert again is not first
    assert len(more) == 4 * (len(rows) + 3)


def test_only_the_plans_used_last_are_kept():
    kept = Kept[int]()
    for i in range(KEPT):
        kept.put(i, i)
    assert kept.get(0) == 0
    kept.put(KEPT, KEPT)
    assert kept.get(0) == 0
    assert kept.get(1) is None


# -- plans that rest on promises -------------------------------------------------------------------

JOINED = "SELECT f.id, PREDICT(line, f.x, 1) AS p FROM f LEFT JOIN d ON f.k = d.k ORDER BY f.id, p"


@pytest.fixture
def star():
    """Facts, a dimension with a key, a model that reads one column of each."""
    with gb.connect(progress=False) as db:
        db.sql("CREATE TABLE d (k INTEGER PRIMARY KEY, z DOUBLE)")
        db.sql("INSERT INTO d SELECT i, i FROM range(5) r(i)")
        db.sql(
            "CREATE TABLE f AS SELECT i AS id, (i % 6)::INTEGER AS k, i % 4 AS x FROM range(12) r(i)"
        )
        db.sql(
            "CREATE MODEL line OPTIONS (model_type = 'linear_reg', input_label_cols = ['y'], "
            "optimizer = 'sgd', l1_reg = 0.5, learn_rate = 0.1, max_epochs = 40, early_stop = FALSE, "
            "data_split_method = 'no_split') AS SELECT f.x, f.id % 2 AS z, 5.0 * f.x AS y FROM f"
        )
        yield db


def test_a_key_that_is_gone_brings_the_join_back(star):
    """The table by that name has a row twice now."""
    first, rows = plan_of(star, JOINED)
    assert "remove_joins" in first.rules
    assert len(rows) == 12
    assert plan_of(star, JOINED)[0] is first
    star.sql(
        "CREATE OR REPLACE TABLE d AS SELECT (i % 5)::INTEGER AS k, 1.0 AS z FROM range(6) r(i)"
    )
    later, rows = plan_of(star, JOINED)
    assert "remove_joins" not in later.rules
    assert len(rows) == 14


def test_a_key_dropped_by_somebody_else_is_noticed(star):
    """Another connection to the same database writes; nothing was said here."""
    first, _ = plan_of(star, JOINED)
    assert "remove_joins" in first.rules
    with star.engine.transaction(writes=True) as transaction:
        for text in ("DROP TABLE d", "CREATE TABLE d (k INTEGER, z DOUBLE)"):
            transaction.execute(text)
        transaction.execute("INSERT INTO d VALUES (1, 0), (1, 0)")
    later, rows = plan_of(star, JOINED)
    assert "remove_joins" not in later.rules
    assert len(rows) == 14


def test_a_value_that_is_an_error_brings_an_idle_feature_back(star):
    """Its weight is 0, so nobody needs it while all values are finite."""
    query = "SELECT PREDICT(line, f.x, d.z) AS p FROM f JOIN d ON f.k = d.k"
    first, _ = plan_of(star, query)
    assert "drop_idle_features" in first.rules
    star.sql("INSERT INTO d VALUES (5, 'inf')")
    with pytest.raises(gb.errors.DataError, match="inf"):
        star.sql(query).fetchall()
    star.sql("DELETE FROM d WHERE k = 5")
    assert len(star.sql(query).fetchall()) == 10


def test_a_table_hidden_by_another_promises_nothing(star):
    plan_of(star, JOINED)
    star.sql("CREATE TEMP TABLE d AS SELECT 1 AS k, 0.0 AS z FROM range(2)")
    later, rows = plan_of(star, JOINED)
    assert "remove_joins" not in later.rules
    assert len(rows) == 14
