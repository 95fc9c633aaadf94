"""Rows equal in all features are predicted once."""

from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
import pytest
import torch

import gradbase as gb
from gradbase.runtime.distinct import distinct_rows

NAN = float("nan")
COLUMNS = {
    "numbers": (pa.array([1, 2, 1, None, None, 2]), [0, 1, 0, 2, 2, 1]),
    "zeros differ": (pa.array([0.0, -0.0, 0.0, -0.0]), [0, 1, 0, 1]),
    "NaN equals NaN, not NULL": (pa.array([NAN, None, NAN, 1.0], from_pandas=False), [0, 1, 0, 2]),
    "small floats": (pa.array([0.5, 0.25, 0.5], pa.float32()), [0, 1, 0]),
    "texts": (pa.array(["a", "", None, "a", ""]), [0, 1, 2, 0, 1]),
    "dictionaries": (pa.array(["x", None, "x", "y"]).dictionary_encode(), [0, 1, 0, 2]),
    "no rows": (pa.array([], pa.int64()), []),
    "a slice": (pa.array([9.0, 1.0, None, 1.0]).slice(1), [0, 1, 0]),
}


@pytest.mark.parametrize("kind", list(COLUMNS))
def test_rows_of_one_kind_have_one_number(kind):
    column, expected = COLUMNS[kind]
    first, same = distinct_rows([column])
    assert same.to_pylist() == expected
    assert [expected[i] for i in first] == sorted(set(expected))


def test_many_columns_of_many_values():
    """More combinations than fit an integer."""
    random = np.random.default_rng(0)
    rows = random.integers(0, 900, (1000, 9))
    rows[500:] = rows[:500]
    first, same = distinct_rows([pa.array(c) for c in rows.T])
    assert sorted(first) == list(range(500))
    assert same[:500] == same[500:]


@pytest.fixture(scope="module")
def db():
    with gb.connect(progress=False) as session:
        session.sql("""CREATE TABLE t AS SELECT i AS id, (i % 3)::DOUBLE AS a,
          CASE i % 4 WHEN 0 THEN NULL WHEN 1 THEN 'nan'::DOUBLE WHEN 2 THEN 0.0 ELSE -0.0 END AS b
          FROM range(40000) r(i)""")
        torch.manual_seed(0)
        net = torch.nn.Sequential(torch.nn.Linear(2, 512), torch.nn.ReLU(), torch.nn.Linear(512, 1))
        session.import_model("net", net, features=["a", "b"])
        yield session


def both(db, query):
    """The rows with the rule and without any."""
    found = db.sql(query).fetchall()
    rules = db.last_plan.rules
    db.sql("SET gradbase.optimizer = 'off'")
    expected = db.sql(query).fetchall()
    db.sql("RESET gradbase.optimizer")
    return rules, found, expected


def test_the_same_predictions_also_of_null_and_nan(db):
    rules, found, expected = both(db, "SELECT id, PREDICT(net, a, b) AS p FROM t ORDER BY id")
    assert "predict_distinct" in rules
    for (id_, p), (other, q) in zip(found, expected, strict=True):
        assert id_ == other
        assert p is q or (math.isnan(p) and math.isnan(q)) or p == pytest.approx(q, rel=1e-6)


def test_how_many_were_spared(db):
    before = dict(db.metrics.rows()).get("repeated_rows", 0)
    db.sql("SELECT sum(PREDICT(net, a, b)) FROM t").fetchall()
    assert dict(db.metrics.rows())["repeated_rows"] - before > 39_000


def test_rows_that_differ_after_all_are_predicted_as_they_are(db):
    """What statistics expected of the table is not so in these rows."""
    rules, found, expected = both(
        db, "SELECT PREDICT(net, a, b) AS p FROM t WHERE id < 1 OR id = 7 ORDER BY id"
    )
    assert found == pytest.approx(expected, nan_ok=True)
    del rules


def test_an_error_names_the_row_as_it_is(db):
    db.sql("CREATE TABLE bad AS SELECT CASE WHEN id = 777 THEN 'inf'::DOUBLE ELSE a END AS a, "
           "id % 2 AS b FROM t")  # fmt: skip
    db.sql(
        "CREATE MODEL own OPTIONS (model_type = 'dnn_regressor', hidden_units = [512], "
        "max_epochs = 1, input_label_cols = ['y']) AS SELECT a, id % 2 AS b, a AS y FROM t LIMIT 99"
    )
    with pytest.raises(gb.errors.DataError, match="77"):
        db.sql("SELECT sum(PREDICT(own, a, b)) FROM bad").fetchall()
