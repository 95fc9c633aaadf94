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
