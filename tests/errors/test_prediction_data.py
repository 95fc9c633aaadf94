"""Rows that a model cannot be applied to: the error says which column, and where in the text."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

import shop
from gradbase.errors import BindError, DataError, UnsupportedError

# query, error, what its text must say
QUERIES = {
    "missing column": (
        "SELECT id, PREDICT(churn, *) FROM (SELECT * EXCLUDE (region) FROM customers)",
        BindError, ["model `churn` reads column `region`, which is not there", "there are id, age", "^^^^"],
    ),
    "misspelt column": (
        "SELECT PREDICT(churn, *) FROM (SELECT * RENAME (region AS regoin) FROM customers)",
        BindError, ["reads column `region`", "did you mean `regoin`?"],
    ),
    "misspelt column in a table function": (
        "SELECT * FROM ML.PREDICT(MODEL churn, (SELECT * RENAME (fee AS feee) FROM customers))",
        BindError, ["reads column `fee`", "did you mean `feee`?"],
    ),
    "text for a number": (
        "SELECT PREDICT(churn, *) FROM (SELECT * REPLACE (fee::VARCHAR AS fee) FROM customers)",
        BindError, ["was trained on `fee` of type float64, found text", "AS fee)"],
    ),
    "number for a text": (
        "SELECT PREDICT(churn, *, 1 AS region) FROM customers",
        BindError, ["was trained on `region` of type text, found int"],
    ),
    "a changed star": (
        "SELECT PREDICT(churn, * REPLACE (1 AS fee)) FROM customers",
        UnsupportedError, ["REPLACE", "PREDICT(model, *, x + 1 AS x)"],
    ),
    "a changed star of a table": (
        "SELECT PREDICT(churn, c.* EXCLUDE (fee), 1 AS fee) FROM customers c", UnsupportedError, ["EXCLUDE"],
    ),
    "number for a date": (
        "SELECT PREDICT(churn, *) FROM (SELECT * REPLACE (7 AS since) FROM customers)",
        BindError, ["`since` of type date", "found int"],
    ),
    "vector of another length": (
        "SELECT PREDICT(churn, *) FROM (SELECT * REPLACE ([1, 2]::FLOAT[2] AS taste) FROM customers)",
        BindError, ["`taste`", "[3]", "[2]"],
    ),
    "lists of another length": (
        "SELECT PREDICT(churn, *, [1.0, 2.0] AS taste) FROM customers",
        DataError, ["`taste` has a vector of length 2 in row 1", "was trained on length 3"],
    ),
    "too few arguments": (
        "SELECT PREDICT(churn, fee, age) FROM customers",
        BindError, ["reads 8 features (region, age", "2 were given", "PREDICT(model, *)"],
    ),
    "a column that two tables have": (
        "SELECT PREDICT(churn, *) FROM customers a JOIN (SELECT id, fee + 1 AS fee FROM customers) b USING (id)",
        BindError, ["`fee`, which several tables have", "t.*"],
    ),
    "probabilities of a regression": (
        "SELECT PREDICT_PROBA(spend, *) FROM customers", BindError, ["has no probabilities", "use PREDICT"],
    ),
    "evaluation without the label": (
        "SELECT * FROM ML.EVALUATE(MODEL churn, (SELECT * EXCLUDE (churned) FROM customers))",
        BindError, ["churned"],
    ),
    "infinite feature": (
        "SELECT PREDICT(churn, *) FROM (SELECT * REPLACE ('inf'::DOUBLE AS fee) FROM customers)",
        DataError, ["`fee` holds inf in row 1", "isfinite(fee)"],
    ),
    "infinity far down": (
        "SELECT PREDICT(churn, *, CASE WHEN id = 200 THEN '-inf'::DOUBLE ELSE fee END AS fee) FROM customers",
        DataError, ["`fee` holds -inf in row 201"],
    ),
    "evaluation of an unknown class": (
        "SELECT * FROM ML.EVALUATE(MODEL churn, (SELECT * REPLACE ('maybe' AS churned) FROM customers))",
        DataError, ["`maybe`", "no, yes"],
    ),
    "threshold out of range": (
        "SELECT * FROM ML.PREDICT(MODEL churn, TABLE customers, STRUCT(1.5 AS threshold))",
        BindError, ["threshold is in [0, 1], found 1.5"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", QUERIES)
def test_query_that_does_not_fit_the_model(trained, name):
    query, kind, words = QUERIES[name]
    before = shop.leftovers(trained)
    with pytest.raises(kind) as error:
        trained.sql(query).fetchall()
    assert [w for w in words if w not in str(error.value)] == []
    assert shop.leftovers(trained) == before
    # The session is none the worse.
    assert trained.sql("SELECT count(PREDICT(churn, *)) FROM customers").fetchall() == [
        (shop.ROWS,)
    ]


@pytest.mark.parametrize("representation", ["dl", "udf"])
def test_infinity_is_found_by_every_representation(own_shop, representation):
    import gradbase as gb

    with gb.connect(str(own_shop), progress=False) as db:
        db.sql(f"SET gradbase.representation = '{representation}'")
        with pytest.raises(DataError, match=r"`fee` holds inf in row"):
            db.sql("SELECT PREDICT(churn, *, fee / 0 AS fee) FROM customers").fetchall()
        with pytest.raises(DataError, match=r"`fee` holds inf in row"):
            db.sql("SELECT sum(PREDICT_PROBA(churn, *, fee / 0 AS fee)) FROM customers").fetchall()


def test_handles_say_the_same(trained):
    model = trained.model("churn")
    table = shop.customers(20)
    with pytest.raises(BindError, match="reads column `region`, which is not there"):
        model.predict(table.drop(["region"]))
    with pytest.raises(BindError, match="was trained on `fee` of type float64, found text"):
        model.predict_proba(table.set_column(3, "fee", pa.array(["x"] * 20)))
    with pytest.raises(BindError, match="label `churned` is not among the columns"):
        model.score(table.drop(["churned"]))
    with pytest.raises(BindError, match="has no probabilities"):
        trained.model("spend").predict_proba(table)
    with pytest.raises(DataError, match="`fee` holds inf in row 1"):
        model.predict(table.set_column(3, "fee", pa.array(np.full(20, np.inf))))
