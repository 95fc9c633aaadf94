"""Predictions wherever they stand in SQL equal those computed with NumPy from the stored weights.

The reference: a table `scored` that holds every row's predictions as plain columns. Each query is
written once with PREDICT and once with these columns, for the engine alone.
"""

from __future__ import annotations

import math
import re
import shutil

import numpy as np
import pyarrow as pa
import pytest
import reference

import gradbase as gb
import shop

MODELS = {"churn": "binary", "linear": "binary", "plans": "multiclass", "spend": "regression"}
MARGIN = 1e-3
"""Rows nearer than this to a decision or a threshold are left out: there rounding may decide."""


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def softmax(z):
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def computed(db, rows):
    """Columns <model>_label, <model>_p, spend_value, and which rows are clear of every edge."""
    given, columns, clear = rows.to_pydict(), {}, np.ones(rows.num_rows, bool)
    for name, task in MODELS.items():
        model = db.store.model(name)
        z = reference.logits(model, given, db.store.blobs)
        if task == "regression":
            output = model.outputs[0]
            columns[f"{name}_value"] = z[:, 0] * output.scale + output.shift
            continue
        classes = [c.value for c in model.outputs[0].classes]
        p = sigmoid(z[:, 0]) if task == "binary" else softmax(z)
        if task == "binary":
            labels = [classes[int(v > 0.5)] for v in p]
            for edge in (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9):
                clear &= np.abs(p - edge) > MARGIN
        else:
            labels = [classes[i] for i in p.argmax(axis=1)]
            best = np.sort(p, axis=1)
            clear &= best[:, -1] - best[:, -2] > MARGIN
        columns[f"{name}_label"] = labels
        columns[f"{name}_p"] = list(p)
    return columns, clear


@pytest.fixture(scope="session")
def scored(shop_folder, tmp_path_factory):
    """A session with models, `customers` (clear rows, some twice), `scored`, and `orders`."""
    folder = tmp_path_factory.mktemp("scored") / "shop"
    shutil.copytree(shop_folder, folder)
    with gb.connect(str(folder / "shop.duckdb"), progress=False) as db:
        rows = shop.customers(400, seed=12)
        columns, clear = computed(db, rows)
        for name, values in columns.items():
            rows = rows.append_column(name, pa.array(values))
        rows = rows.filter(pa.array(clear))
        shop.load(db, rows, "scored")
        shop.load(db, rows.drop(list(columns)))
        db.sql(
            "CREATE TABLE orders AS SELECT i AS order_id, (i * 7) % 450 AS id, (i * i) % 97 AS amount "
            "FROM range(900) r(i)"
        )
        db.sql("CREATE TABLE nobody AS SELECT * FROM customers WHERE false")
        db.sql("CREATE TABLE nobody_scored AS SELECT * FROM scored WHERE false")
        yield db


# A query with predictions; its reference is the same text with PREDICT(churn, …) and the like
# replaced by columns of `scored`, and `customers` by `scored`.
QUERIES = """
SELECT id, PREDICT(churn, *) AS label, PREDICT_PROBA(churn, *) AS p FROM customers
SELECT id, PREDICT(plans, *) AS label, PREDICT_PROBA(plans, *) AS p FROM customers
SELECT id, PREDICT(spend, *) AS v, PREDICT(linear, *) AS l, PREDICT_PROBA(linear, *) AS p FROM customers
SELECT c.id, PREDICT(churn, c.*) FROM customers c WHERE c.fee > 20 AND PREDICT_PROBA(churn, c.*) > 0.5
SELECT id FROM customers WHERE PREDICT_PROBA(churn, *) > 0.5 AND PREDICT(plans, *) = 'B' AND region = 'south'
SELECT id FROM customers WHERE PREDICT_PROBA(churn, *) > 0.7 OR region IS NULL
SELECT id FROM customers WHERE NOT (PREDICT(churn, *) = 'yes') AND member
SELECT id, PREDICT_PROBA(churn, *) AS p FROM customers WHERE p BETWEEN 0.2 AND 0.8
SELECT id, PREDICT_PROBA(churn, *) AS p FROM customers ORDER BY p DESC, id LIMIT 7
SELECT id FROM customers ORDER BY PREDICT(spend, *) LIMIT 5 OFFSET 3
SELECT id, PREDICT(spend, *) AS v FROM customers WHERE region = 'north' ORDER BY id LIMIT 10
SELECT PREDICT(churn, *) AS label, count(*) AS n, avg(fee) AS fee FROM customers GROUP BY label
SELECT region, avg(PREDICT_PROBA(churn, *)) AS p, max(PREDICT(spend, *)) AS v FROM customers GROUP BY region
SELECT region, count(*) AS n FROM customers GROUP BY region HAVING avg(PREDICT_PROBA(churn, *)) > 0.3
SELECT PREDICT(plans, *) AS plan, region, count(*) FROM customers GROUP BY ALL
SELECT count(*) FROM customers WHERE PREDICT_PROBA(churn, *) > 0.6 AND id < 200
SELECT count(*) FILTER (WHERE PREDICT(churn, *) = 'yes') AS n, sum(PREDICT(spend, *)) AS s FROM customers
SELECT DISTINCT PREDICT(plans, *) AS plan FROM customers
SELECT CASE WHEN PREDICT_PROBA(churn, *) > 0.7 THEN 'hi' WHEN fee > 30 THEN 'mid' ELSE 'lo' END AS c, id FROM customers
SELECT round(PREDICT(spend, *) + 10 * PREDICT_PROBA(churn, *), 1) AS v, id FROM customers WHERE PREDICT(churn, *) = 'no'
SELECT o.order_id, PREDICT(churn, c.*) AS label FROM orders o JOIN customers c ON o.id = c.id WHERE o.amount > 50
SELECT o.order_id, PREDICT_PROBA(churn, c.*) AS p FROM orders o LEFT JOIN customers c ON o.id = c.id WHERE c.id IS NOT NULL
SELECT PREDICT(churn, c.*) AS label, sum(o.amount) AS s FROM customers c JOIN orders o USING (id) WHERE o.amount > 10 GROUP BY label
SELECT c.id, count(*) AS n FROM customers c JOIN orders o ON o.id = c.id AND PREDICT(churn, c.*) = 'yes' GROUP BY c.id
WITH p AS (SELECT id, PREDICT(churn, *) AS label FROM customers) SELECT label, count(*) FROM p GROUP BY label
WITH p AS (SELECT * FROM customers WHERE fee < 30) SELECT id, PREDICT(spend, *) AS v FROM p
WITH p AS (SELECT id, PREDICT_PROBA(churn, *) AS p FROM customers) SELECT a.id, b.p FROM p a JOIN p b ON a.id = b.id + 1
SELECT label, avg(v) FROM (SELECT PREDICT(churn, *) AS label, PREDICT(spend, *) AS v FROM customers) q GROUP BY label
SELECT id FROM customers WHERE id IN (SELECT id FROM customers WHERE PREDICT_PROBA(churn, *) > 0.8)
SELECT id FROM customers WHERE PREDICT(spend, *) > (SELECT avg(PREDICT(spend, *)) FROM customers)
SELECT id FROM customers c WHERE PREDICT(spend, c.*) >= (SELECT max(PREDICT(spend, i.*)) FROM customers i WHERE i.region = c.region)
SELECT id, row_number() OVER (PARTITION BY region ORDER BY PREDICT(spend, *), id) AS k FROM customers
SELECT id, sum(PREDICT(spend, *)) OVER (ORDER BY id ROWS 2 PRECEDING) AS s FROM customers
SELECT id, PREDICT(spend, *) AS v FROM customers QUALIFY row_number() OVER (PARTITION BY region ORDER BY v DESC, id) = 1
SELECT id, PREDICT(churn, *) AS label FROM customers UNION ALL SELECT id, PREDICT(linear, *) FROM customers
SELECT id FROM customers WHERE PREDICT(churn, *) = 'yes' EXCEPT SELECT id FROM customers WHERE PREDICT(linear, *) = 'yes'
SELECT * EXCLUDE (since, taste, paid), PREDICT(churn, *) AS label FROM customers
SELECT id, PREDICT(plans, *) || '!' AS s, coalesce(PREDICT(churn, *), '?') AS c FROM customers
SELECT PREDICT(churn, *) AS label, PREDICT_PROBA(churn, *) AS p FROM nobody
SELECT count(*), avg(PREDICT_PROBA(churn, *)) FROM nobody
SELECT id, PREDICT_PROBA(churn, *) AS p FROM customers WHERE id = 17 OR id = 18 ORDER BY p LIMIT 1
FROM customers SELECT id, PREDICT(churn, *) AS label WHERE id < 40
SELECT region, list(PREDICT(churn, *) ORDER BY id) AS l FROM customers GROUP BY region
SELECT id FROM customers WHERE EXISTS (SELECT 1 FROM orders o WHERE o.id = customers.id) AND PREDICT_PROBA(churn, *) < 0.4
""".strip().splitlines()

COLUMNS = {"PREDICT_PROBA": "_p", "PREDICT": "_label"}
CALL = re.compile(r"(PREDICT(?:_PROBA)?)\((\w+), (?:(\w+)\.)?\*\)")


def plain(query):
    """The query over columns of `scored`."""

    def column(match):
        function, model, table = match.groups()
        suffix = "_value" if model == "spend" else COLUMNS[function]
        return (f"{table}." if table else "") + model + suffix

    text = CALL.sub(column, query)
    text = re.sub(r"\bcustomers\b", "scored", re.sub(r"\bnobody\b", "nobody_scored", text))
    scores = "churn_label, churn_p, linear_label, linear_p, plans_label, plans_p, spend_value"
    return text.replace("EXCLUDE (", f"EXCLUDE ({scores}, ")


def ordered(rows):
    return sorted(rows, key=lambda row: [(v is None, str(_coarse(v))) for v in row])


def _coarse(value):
    """Equal for values that differ by rounding, most of the time: only for sorting."""
    return round(value, 2) if isinstance(value, float) else value


def same(found, expected):
    """Equal, numbers within 1e-4 absolute and relative."""
    if isinstance(expected, float) and isinstance(found, float):
        return math.isclose(found, expected, rel_tol=1e-4, abs_tol=1e-4)
    if isinstance(expected, (list, tuple)) and isinstance(found, (list, tuple)):
        return len(found) == len(expected) and all(map(same, found, expected))
    return found == expected


def assert_same(found, expected, *, in_order):
    keyed = found and isinstance(found[0][0], int)
    if not in_order:
        key = (lambda rows: sorted(rows, key=lambda r: (r[0], str(r[1:2])))) if keyed else ordered
        found, expected = key(found), key(expected)
    assert len(found) == len(expected)
    differ = [(f, e) for f, e in zip(found, expected, strict=True) if not same(f, e)]
    assert differ == []


SETTINGS = {
    "default": "",
    "plain": "SET gradbase.optimizer = off",
    "udf": "SET gradbase.representation = 'udf'",
    "dl": "SET gradbase.representation = 'dl'",
    "small batches": "SET gradbase.batch_rows = 7",
}


@pytest.fixture(params=SETTINGS)
def configured(scored, request):
    """The session under one configuration, reset afterwards."""
    if SETTINGS[request.param]:
        scored.sql(SETTINGS[request.param])
    yield scored
    scored.sql("RESET gradbase.optimizer; RESET gradbase.representation; RESET gradbase.batch_rows")


@pytest.mark.parametrize("query", QUERIES)
def test_query_equals_the_one_over_computed_columns(configured, query):
    assert CALL.search(query)
    expected = configured.sql(plain(query)).fetchall()
    found = configured.sql(query).fetchall()
    assert_same(found, expected, in_order="ORDER BY" in query and "LIMIT" in query)


# -- table functions ---------------------------------------------------------------------------


def test_ml_predict_adds_its_columns_in_front(configured):
    expected = configured.sql("SELECT churn_label, churn_p, id FROM scored ORDER BY id").fetchall()
    found = configured.sql(
        "SELECT * FROM ML.PREDICT(MODEL churn, TABLE customers) ORDER BY id"
    ).arrow()
    names = found.column_names
    # Six trials: the one that was used is named.
    assert names[:3] == ["trial_id", "predicted_churned", "predicted_churned_probs"]
    assert names[3:] == configured.table("customers").columns
    rows = found.select([*names[1:3], "id"]).to_pylist()
    for row, (label, p, id_) in zip(rows, expected, strict=True):
        probs = row["predicted_churned_probs"]
        assert (row["id"], row["predicted_churned"]) == (id_, label)
        assert [q["label"] for q in probs] == ["no", "yes"]
        assert [q["prob"] for q in probs] == pytest.approx([1 - p, p], abs=1e-5)


def test_ml_predict_with_a_threshold_and_of_a_query(configured):
    query = (
        "SELECT id, predicted_churned FROM ML.PREDICT(MODEL churn, "
        "(SELECT * FROM customers WHERE fee > 30), STRUCT(0.3 AS threshold)) ORDER BY id"
    )
    text = "SELECT id, CASE WHEN churn_p > 0.3 THEN 'yes' ELSE 'no' END FROM scored WHERE fee > 30 ORDER BY id"
    assert configured.sql(query).fetchall() == configured.sql(text).fetchall()


@pytest.mark.parametrize("trial", [1, 4])
def test_any_trial_can_be_used(configured, trial):
    rows = configured.sql("SELECT * FROM customers ORDER BY id").arrow()
    model = configured.store.model("churn", trial=trial)
    z = reference.logits(model, rows.to_pydict(), configured.store.blobs)
    query = (
        f"SELECT predicted_churned_probs[2].prob FROM ML.PREDICT(MODEL churn, TABLE customers, "
        f"STRUCT({trial} AS trial_id)) ORDER BY id"
    )
    found = np.array(configured.sql(query).fetchall())[:, 0]
    np.testing.assert_allclose(found, sigmoid(z[:, 0]), atol=1e-5)
    by_handle = configured.model("churn", trial=trial).predict_proba(rows)[:, 1]
    np.testing.assert_allclose(by_handle, sigmoid(z[:, 0]), atol=1e-5)


def test_ml_evaluate_equals_metrics_by_hand(configured):
    (row,) = (
        configured.sql("SELECT * FROM ML.EVALUATE(MODEL churn, TABLE customers)")
        .arrow()
        .to_pylist()
    )
    rows = configured.sql("SELECT churned = 'yes', churn_p FROM scored").fetchall()
    y, p = (np.array(c, float) for c in zip(*rows, strict=True))
    said, hit = p > 0.5, (p > 0.5) == (y == 1)
    by_hand = {
        "accuracy": hit.mean(),
        "precision": y[said].mean(),
        "recall": said[y == 1].mean(),
        "log_loss": -np.mean(np.log(np.where(y == 1, p, 1 - p))),
        "roc_auc": (np.sign(p[y == 1][:, None] - p[y == 0]).mean() + 1) / 2,
    }
    by_hand["f1_score"] = 2 / (1 / by_hand["precision"] + 1 / by_hand["recall"])
    assert row.pop("trial_id") == configured.store.record("churn").best_trial
    assert row == pytest.approx(by_hand, abs=1e-5)
    assert configured.model("churn").evaluate("customers") == pytest.approx(by_hand, abs=1e-5)


def test_ml_evaluate_of_a_regression(configured):
    (row,) = (
        configured.sql("SELECT * FROM ML.EVALUATE(MODEL spend, TABLE customers)")
        .arrow()
        .to_pylist()
    )
    y, v = np.array(configured.sql("SELECT spent, spend_value FROM scored").fetchall()).T
    assert row["mean_squared_error"] == pytest.approx(np.mean((y - v) ** 2), rel=1e-4)
    assert row["mean_absolute_error"] == pytest.approx(np.mean(np.abs(y - v)), rel=1e-4)
    assert row["median_absolute_error"] == pytest.approx(np.median(np.abs(y - v)), rel=1e-4)
    assert row["r2_score"] == pytest.approx(
        1 - np.sum((y - v) ** 2) / np.sum((y - y.mean()) ** 2), rel=1e-4
    )


# -- around, with parameters, by position ------------------------------------------------------


def test_parameters_and_expressions_for_features(configured):
    query = "SELECT id, PREDICT_PROBA(churn, *, CAST(? AS DOUBLE) AS fee) AS p FROM customers WHERE id < ? ORDER BY id"
    found = configured.sql(query, params=[25.0, 30]).fetchall()
    rows = configured.sql(
        "SELECT * REPLACE (25.0 AS fee) FROM customers WHERE id < 30 ORDER BY id"
    ).arrow()
    z = reference.logits(configured.store.model("churn"), rows.to_pydict(), configured.store.blobs)
    np.testing.assert_allclose([p for _, p in found], sigmoid(z[:, 0]), atol=1e-5)


def test_features_by_position(configured):
    names = ", ".join(f.name for f in configured.store.model("churn").features)
    found = configured.sql(
        f"SELECT id, PREDICT(churn, {names}) FROM customers ORDER BY id"
    ).fetchall()
    assert found == configured.sql("SELECT id, churn_label FROM scored ORDER BY id").fetchall()


def test_predictions_stored_in_tables(configured, tmp_path):
    """CREATE TABLE AS, INSERT, COPY and views over a query with predictions."""
    select = (
        "SELECT id, PREDICT(churn, *) AS label FROM customers WHERE PREDICT_PROBA(churn, *) > 0.5"
    )
    expected = configured.sql(
        "SELECT id, churn_label FROM scored WHERE churn_p > 0.5 ORDER BY id"
    ).fetchall()
    configured.sql(f"CREATE OR REPLACE TABLE likely AS {select}")
    assert configured.sql("FROM likely ORDER BY id").fetchall() == expected
    configured.sql("DELETE FROM likely")
    configured.sql(f"INSERT INTO likely {select}")
    assert configured.sql("FROM likely ORDER BY id").fetchall() == expected
    configured.sql(f"COPY ({select}) TO '{tmp_path}/likely.parquet' (FORMAT parquet)")
    assert configured.sql(f"FROM '{tmp_path}/likely.parquet' ORDER BY id").fetchall() == expected
    configured.sql("DROP TABLE likely")


def test_handles_equal_sql(configured):
    rows = configured.sql("SELECT * FROM scored ORDER BY id").arrow()
    for name, task in MODELS.items():
        handle = configured.model(name)
        if task == "regression":
            np.testing.assert_allclose(
                handle.predict(rows), rows["spend_value"].to_numpy(), rtol=1e-4
            )
            continue
        assert list(handle.predict(rows)) == rows[f"{name}_label"].to_pylist()
        p = handle.predict_proba(rows)
        expected = np.array(rows[f"{name}_p"].to_pylist())
        np.testing.assert_allclose(p[:, 1] if task == "binary" else p, expected, atol=1e-5)
        np.testing.assert_allclose(p.sum(axis=1), 1)
