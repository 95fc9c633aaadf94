"""What is known of a model, from SQL and from its handle."""

from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
import pytest

import gradbase as gb
import shop
from gradbase.errors import BindError, UnsupportedError


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """A session with linear models of every task over columns of every kind."""
    path = tmp_path_factory.mktemp("functions") / "shop.duckdb"
    with gb.connect(str(path), progress=False) as session:
        shop.load(session)
        session.sql(
            "CREATE TABLE many AS SELECT *, 'c' || (id % 90)::VARCHAR AS code FROM customers"
        )
        for name, label, kind in (
            ("churn", "churned", "logistic_reg"),
            ("plans", "plan", "logistic_reg"),
            ("spend", "spent", "linear_reg"),
        ):
            query = shop.rows_for(label).replace("customers", "many")
            session.sql(
                shop.create_model(name, query, label=label, model_type=kind, hidden_units=None,
                                  max_epochs=4, learn_rate=0.1)
            )  # fmt: skip
        session.sql(shop.create_model("tuned", **shop.SIX, model_type="logistic_reg",
                                      hidden_units=None, max_epochs=1))  # fmt: skip
        yield session


def by_hand(rows, row, *, standardized=None):
    """Sum of weight x input over the rows of ML.WEIGHTS for one row of the table."""
    total = 0.0
    for w in rows:
        name = w["processed_input"]
        if w["category_weights"]:
            weights = {c["category"]: c["weight"] for c in w["category_weights"]}
            total += weights.get(row[name], 0.0)
        elif name == "__INTERCEPT__":
            total += w["weight"]
        elif name.endswith(" IS NULL"):
            total += w["weight"] * (row[name.removesuffix(" IS NULL")] is None)
        else:
            value = standardized(name, row) if standardized else plain(name, row)
            total += w["weight"] * value
    return total


def seconds(value):
    return pa.scalar(value).cast(pa.timestamp("us")).value / 1e6


def plain(name, row):
    """The input that a weight in plain units belongs to; missing ones count as the mean."""
    if "[" in name:
        column, position = name[:-1].split("[")
        return row[column][int(position) - 1]
    part, _, column = name.removesuffix(")").rpartition("(")
    value = row[column or name]
    if value is None:
        return row["means"][name]
    match part:
        case "month" | "day" | "hour":
            return getattr(value, part)
        case "weekday":
            return value.weekday()
    return seconds(value) if hasattr(value, "year") else float(value)


def complete(session, name, limit=40):
    """Rows without missing values, and what the model gives for them."""
    known = " AND ".join(f"{c} IS NOT NULL" for c in ("region", "age", "since"))
    return session.sql(
        f"SELECT *, {name} FROM many WHERE {known} ORDER BY id LIMIT {limit}"
    ).arrow().to_pylist()  # fmt: skip


def test_plain_weights_give_the_predictions(lab):
    """Numbers, dates, vectors, categories with and without an embedding, and the intercept."""
    rows = lab.sql("SELECT * FROM ML.WEIGHTS(MODEL churn)").arrow().to_pylist()
    names = [r["processed_input"] for r in rows]
    assert names[-1] == "__INTERCEPT__"
    assert {"age", "age IS NULL", "month(since)", "taste[3]", "code", "region"} <= set(names)
    (code,) = (r for r in rows if r["processed_input"] == "code")
    kept = {r["input"]: r for r in lab.model("churn").feature_info().arrow().to_pylist()}
    assert code["weight"] is None
    assert len(code["category_weights"]) == kept["code"]["category_count"] > 64
    for row in complete(lab, "PREDICT_PROBA(churn, *) AS p"):
        logit = math.log(row["p"] / (1 - row["p"]))
        assert by_hand(rows, row) == pytest.approx(logit, abs=2e-4)


def test_weights_of_a_regression_are_in_the_unit_of_the_label(lab):
    """With and without standardising."""
    rows = lab.model("spend").weights().arrow().to_pylist()
    for row in complete(lab, "PREDICT(spend, *) AS p"):
        assert by_hand(rows, row) == pytest.approx(row["p"], abs=2e-2)
    info = {r["input"]: r for r in lab.model("spend").feature_info().arrow().to_pylist()}
    scaled = {
        r["processed_input"]: r
        for r in lab.model("spend").weights(standardize=True).arrow().to_pylist()
    }
    rows = {r["processed_input"]: r for r in rows}
    population = info["fee"]["stddev"] * math.sqrt(191 / 192)
    assert scaled["fee"]["weight"] == pytest.approx(rows["fee"]["weight"] * population, rel=1e-6)
    assert scaled["fee"]["category_weights"] == []


def test_weights_of_several_classes(lab):
    """A row per input and class, with the class."""
    found = lab.sql("SELECT * FROM ML.WEIGHTS(MODEL plans)").arrow()
    assert found.column_names == ["processed_input", "weight", "category_weights", "class_label"]
    rows = found.to_pylist()
    row = complete(lab, "PREDICT_PROBA(plans, *) AS p", 1)[0]
    logits = [by_hand([r for r in rows if r["class_label"] == c], row) for c in "ABC"]
    assert np.exp(logits) / np.exp(logits).sum() == pytest.approx(row["p"], abs=1e-4)


def test_missing_values_and_unseen_categories(lab):
    """The first count as the mean beside their own weight, the second weigh nothing."""
    rows = lab.model("churn").weights().arrow().to_pylist()
    query = (
        "SELECT * REPLACE (NULL AS age, NULL AS region, 'never seen' AS code), "
        "PREDICT_PROBA(churn, * , NULL::INT AS age, NULL::VARCHAR AS region, 'never seen' AS code) AS p "
        "FROM many WHERE since IS NOT NULL ORDER BY id LIMIT 5"
    )
    info = {r["input"]: r["mean"] for r in lab.model("churn").feature_info().arrow().to_pylist()}
    for row in lab.sql(query).arrow().to_pylist():
        logit = math.log(row["p"] / (1 - row["p"]))
        assert by_hand(rows, row | {"means": info}) == pytest.approx(logit, abs=2e-4)


def test_weights_of_every_trial(lab):
    """The number of the trial comes first; one trial where it is named."""
    found = lab.sql("SELECT * FROM ML.WEIGHTS(MODEL tuned)").arrow()
    assert found.column_names[0] == "trial_id"
    assert set(found["trial_id"].to_pylist()) == {1, 2, 3, 4, 5, 6}
    one = lab.sql("SELECT * FROM ML.WEIGHTS(MODEL tuned, STRUCT(2 AS trial_id))").arrow()
    assert set(one["trial_id"].to_pylist()) == {2}
    assert set(lab.model("tuned").weights().arrow()["trial_id"].to_pylist()) == {
        lab.model("tuned").model.trial
    }


def test_weights_are_for_linear_models(trained):
    """Others say so, and where all their weights can be had."""
    with pytest.raises(UnsupportedError, match="`churn` has other layers") as caught:
        trained.sql("SELECT * FROM ML.WEIGHTS(MODEL churn)").fetchall()
    assert "EXPORT MODEL" in caught.value.hint


def test_what_training_kept_equals_the_same_rows_given(db):
    """Confusion matrix and curve of the evaluation rows, told by a column of the split."""
    db.sql("CREATE TABLE parted AS SELECT *, id % 5 = 0 AS held_out FROM customers")
    made = shop.create_model(
        "m", "SELECT * EXCLUDE (plan, spent) FROM parted", data_split_method="custom",
        data_split_col="held_out", data_split_eval_fraction=None, **shop.SIX,
    )  # fmt: skip
    db.sql(made)
    rows = "(SELECT * FROM parted WHERE held_out)"
    for function in ("CONFUSION_MATRIX", "ROC_CURVE"):
        for options in ("", ", STRUCT(2 AS trial_id)"):
            kept = db.sql(f"SELECT * FROM ML.{function}(MODEL m{options})").arrow()
            given = db.sql(f"SELECT * FROM ML.{function}(MODEL m, {rows}{options})").arrow()
            assert close(kept, given), (kept, given)
    for threshold in (0.0, 0.3, 0.5, 1.0):
        struct = f"STRUCT({threshold} AS threshold)"
        kept = db.sql(f"SELECT * FROM ML.CONFUSION_MATRIX(MODEL m, {struct})").arrow()
        given = db.sql(f"SELECT * FROM ML.CONFUSION_MATRIX(MODEL m, {rows}, {struct})").arrow()
        assert kept.equals(given)
    accuracy = db.sql("SELECT accuracy FROM ML.EVALUATE(MODEL m) WHERE trial_id = 1").fetchone()[0]
    matrix = db.model("m", trial=1).confusion_matrix().arrow().to_pylist()
    assert accuracy == (matrix[0]["no"] + matrix[1]["yes"]) / 48


def close(a, b):
    """Equal but for the last bits of scores."""
    return a.column_names == b.column_names and all(
        (pa.types.is_floating(x.type) and np.allclose(x.to_numpy(), y.to_numpy(), atol=1e-6))
        or x.equals(y)
        for x, y in zip(a.columns, b.columns, strict=True)
    )


def test_handles_say_what_sql_says(lab):
    """The same functions under the same names."""
    handle = lab.model("churn")
    for function, call in (
        ("FEATURE_INFO(MODEL churn)", handle.feature_info()),
        ("WEIGHTS(MODEL churn)", handle.weights()),
        ("WEIGHTS(MODEL churn, STRUCT(TRUE AS standardize))", handle.weights(standardize=True)),
        ("CONFUSION_MATRIX(MODEL churn)", handle.confusion_matrix()),
        ("CONFUSION_MATRIX(MODEL churn, TABLE many, STRUCT(0.2 AS threshold))",
         handle.confusion_matrix("many", threshold=0.2)),
        ("ROC_CURVE(MODEL churn)", handle.roc_curve()),
        ("ROC_CURVE(MODEL churn, TABLE many, [0.25, 0.5])",
         handle.roc_curve(lab.table("many"), thresholds=np.array([0.5, 0.25]))),
        ("SCHEMA_DRIFT(MODEL churn, TABLE many)", handle.drift("many")),
        ("DESCRIBE(MODEL churn)", handle.describe()),
    ):  # fmt: skip
        assert lab.sql(f"SELECT * FROM ML.{function}").arrow().equals(call.arrow()), function


def test_handles_take_frames(lab):
    """pandas, Polars and Arrow, registered for as long as it takes."""
    table = lab.sql("SELECT * FROM many").arrow()
    expected = lab.model("churn").confusion_matrix("many").arrow()
    import polars as pl

    for rows in (table, table.to_pandas(), pl.from_arrow(table)):
        assert lab.model("churn").confusion_matrix(rows).arrow().equals(expected)
    assert shop.leftovers(lab) == []


def test_comparing_versions(lab):
    """By number and alias, in either order."""
    lab.sql(shop.create_model("pair", max_epochs=1))
    again = shop.create_model("pair", verb="CREATE OR REPLACE MODEL", max_epochs=6)
    lab.sql(again)
    handle = lab.model("pair")
    handle.alias("old", 1)
    found = {r["metric"]: r for r in handle.compare("old", 2, "customers").arrow().to_pylist()}
    back = {r["metric"]: r for r in handle.compare(2, 1, "customers").arrow().to_pylist()}
    for metric, value in lab.model("pair@1").evaluate("customers").items():
        assert found[metric]["first"] == pytest.approx(value)
        assert back[metric]["difference"] == -found[metric]["difference"]
    one, two = (lab.model(f"pair@{v}").predict("customers") for v in (1, 2))
    assert found["different_predictions"]["difference"] == (one != two).mean() > 0
    lab.sql("DROP MODEL pair")


def test_drift_of_rows(lab):
    """Everything at once, where a prediction lists what stops it."""
    lab.sql(
        "CREATE OR REPLACE TEMP VIEW drifted AS SELECT * EXCLUDE (fee, code) REPLACE "
        "(age::VARCHAR AS age, CASE WHEN id < 120 THEN 'mars' ELSE region END AS region), 1 AS more FROM many"
    )
    rows = {r["column_name"]: r for r in lab.model("churn").drift("drifted").arrow().to_pylist()}
    assert {n: r["status"] for n, r in rows.items() if r["status"] != "ok"} == {
        "age": "type changed", "fee": "missing", "code": "missing", "id": "extra", "more": "extra",
        "plan": "extra", "spent": "extra",
    }  # fmt: skip
    region = rows["region"]
    assert 0.5 < region["unseen_share"] < 0.6
    assert region["trained_null_share"] == pytest.approx(14 / 192)
    assert rows["paid"]["mean"] == pytest.approx(rows["paid"]["trained_mean"], rel=0.1)
    with pytest.raises(BindError) as caught:
        lab.model("churn").predict("drifted")
    text = str(caught.value)
    for part in ("3 columns have drifted", "`age`: trained as int32, found text",
                 "`fee`: trained as float64, not there", "`code`: trained as text, not there",
                 "not read: id, plan, spent, more"):  # fmt: skip
        assert part in text


def test_older_versions_say_what_was_not_kept(own_shop):
    """As of a store that was upgraded."""
    with gb.connect(str(own_shop), progress=False) as session:
        with session.store.catalog.write() as handle:
            for table in ("features", "scores", "confusion"):
                handle.execute(f"DELETE FROM gradbase.{table}")
        for function in ("CONFUSION_MATRIX", "ROC_CURVE", "FEATURE_INFO"):
            with pytest.raises(BindError, match=r"of model `churn@1` no .* were kept") as caught:
                session.sql(f"SELECT * FROM ML.{function}(MODEL churn)")
            assert "train a new version" in caught.value.hint
        assert session.model("churn").drift("customers").arrow()["mean"][1].as_py() is not None
        assert session.model("churn").describe().arrow().num_rows > 20


@pytest.mark.parametrize(
    ("clause", "expected"),
    [
        ("region, age, churned", 1 / 3),
        ("ML.ONE_HOT_ENCODER(region, 'none', 100, 0) OVER () AS code, age, churned", 1 / 3),
        ("upper(region) AS code, age, churned", None),
    ],
)
def test_drift_below_a_transform_tells_unseen_texts(db, clause, expected):
    """Where the network or an encoder reads the column itself."""
    db.sql(
        f"CREATE MODEL t TRANSFORM ({clause}) OPTIONS (model_type = 'logistic_reg', "
        "input_label_cols = ['churned'], max_epochs = 1) AS SELECT age, region, churned FROM customers"
    )
    rows = "SELECT age, ['mars', 'mars', region][id % 3 + 1] AS region FROM customers WHERE region IS NOT NULL"
    db.sql(f"CREATE TABLE other AS {rows.replace('mars', 'north', 1)}")
    seen = {r[0] for r in db.sql("SELECT DISTINCT region FROM customers").fetchall()}
    known = db.sql("SELECT region FROM other").arrow()["region"].to_pylist()
    share = sum(r not in seen for r in known) / len(known)
    found = db.model("t").drift("other").arrow().to_pylist()
    [unseen] = [r["unseen_share"] for r in found if r["column_name"] == "region"]
    assert unseen == (None if expected is None else pytest.approx(share))
    assert share > 0
