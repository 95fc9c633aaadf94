"""Rows that nothing can be learnt from: the error names column and row, and nothing is left."""

from __future__ import annotations

import pytest

import shop
from gradbase.errors import BindError, DataError, UnsupportedError

SIMPLE = {"row_key": None, "shards": 1, "max_epochs": 1}

# training query, error, what its text must say
QUERIES = {
    "empty table": ("SELECT * FROM customers WHERE false", DataError, ["returns no rows", "WHERE"]),
    "one row": ("SELECT * FROM customers LIMIT 1", DataError, ["one row", "at least two"]),
    "one row with a label": (
        "SELECT * REPLACE (CASE WHEN id = 3 THEN churned END AS churned) FROM customers",
        DataError, ["one row with a label"],
    ),
    "label missing everywhere": (
        "SELECT * REPLACE (NULL::VARCHAR AS churned) FROM customers",
        DataError, ["`churned` is NULL in all 240 rows", "input_label_cols"],
    ),
    "label not in the query": (
        "SELECT * EXCLUDE (churned) FROM customers", BindError, ["label column `churned`", "region"],
    ),
    "label constant": (
        "SELECT * REPLACE ('yes' AS churned) FROM customers",
        DataError, ["`churned` is constant", "'yes'", "nothing to learn"],
    ),
    "infinite feature": (
        "SELECT * REPLACE (CASE WHEN id = 41 THEN 'inf'::DOUBLE ELSE fee END AS fee) FROM customers ORDER BY id",
        DataError, ["`fee` holds inf in row 42", "is infinite", "isfinite(fee)"],
    ),
    "minus infinity": (
        "SELECT * REPLACE (CASE WHEN id = 0 THEN '-inf'::DOUBLE ELSE fee END AS fee) FROM customers ORDER BY id",
        DataError, ["`fee` holds -inf in row 1"],
    ),
    "infinite date": (
        "SELECT * REPLACE (CASE WHEN id = 9 THEN 'infinity'::TIMESTAMP ELSE seen END AS seen) FROM customers ORDER BY id",
        DataError, ["`seen` holds an infinite date in row 10"],
    ),
    "nothing but the label": (
        "SELECT churned FROM customers", BindError, ["no column to learn from besides churned"],
    ),
    "all features NULL": (
        "SELECT churned, NULL::DOUBLE AS a, NULL::VARCHAR AS b FROM customers",
        DataError, ["no column is left", "`a` is NULL in all training rows"],
    ),
    "a type that cannot be a feature": (
        "SELECT *, MAP {'a': 1} AS s FROM customers", UnsupportedError, ["`s`", "EXCLUDE (s)"],
    ),
    "two columns of one name": ("SELECT *, 1 AS fee FROM customers", BindError, ["fee"]),
    "too many classes": (
        "SELECT * REPLACE ((id * 10 + i)::VARCHAR AS churned) FROM customers, range(6) r(i)",
        DataError, ["1,440 distinct values", "at most 1,000"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", QUERIES)
def test_rows_that_cannot_be_learnt_from(db, name):
    query, kind, words = QUERIES[name]
    with pytest.raises(kind) as error:
        db.sql(shop.create_model("m", query, **SIMPLE))
    assert [w for w in words if w not in str(error.value)] == []
    assert db.sql("SHOW MODELS").fetchall() == []
    assert shop.leftovers(db) == []


REGRESSIONS = {
    "constant": ("SELECT * REPLACE (2.5 AS spent) FROM customers", ["`spent` is constant", "2.5"]),
    "infinite": (
        "SELECT * REPLACE (CASE WHEN id = 4 THEN 'inf'::DOUBLE ELSE spent END AS spent) FROM customers",
        ["`spent` is infinite in row", "isfinite(spent)"],
    ),
}


@pytest.mark.parametrize("name", REGRESSIONS)
def test_numbers_that_cannot_be_a_target(db, name):
    query, words = REGRESSIONS[name]
    with pytest.raises(DataError) as error:
        db.sql(shop.create_model("m", query, label="spent", **SIMPLE))
    assert [w for w in words if w not in str(error.value)] == []
    assert shop.leftovers(db) == []


def test_a_column_that_is_null_everywhere_is_left_out(db):
    """The model does not read it, so it need not be there for predictions either."""
    query = "SELECT *, NULL::DOUBLE AS empty FROM customers"
    db.sql(shop.create_model("m", query, **SIMPLE))
    features = [f.name for f in db.store.model("m").features]
    assert "empty" not in features
    assert "region" in features


def test_a_bad_split_says_what_it_needs(db):
    with pytest.raises(DataError, match=r"`plan` holds '[ABC]', it must hold TRAIN, EVAL or TEST"):
        db.sql(shop.create_model("m", data_split_method="custom", data_split_col="plan",
                                 data_split_eval_fraction=None, query="SELECT * FROM customers"))  # fmt: skip


def test_an_error_of_the_training_query_is_the_engine_s(db):
    from gradbase.errors import EngineError

    with pytest.raises(EngineError, match=r"(?s)custmers.*customers"):
        db.sql(shop.create_model("m", "SELECT * FROM custmers"))
    with pytest.raises(EngineError, match=r"(?i)could not convert"):
        db.sql(shop.create_model("m", "SELECT *, region::INT AS r FROM customers"))
    assert shop.leftovers(db) == []
