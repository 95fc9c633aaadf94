"""CREATE MODEL, fit, handles and studies through the session."""

from __future__ import annotations

import json

import numpy as np
import polars as pl
import pytest

import gradbase as gb
import shop
from gradbase.errors import BindError


def test_create_model_returns_its_summary(db):
    row = db.sql(shop.create_model("m", **shop.SIX)).arrow().to_pylist()[0]
    assert row.keys() == {
        "model",
        "version",
        "trials",
        "failed",
        "best_trial",
        "metric",
        "value",
        "seconds",
    }
    assert (row["model"], row["version"], row["trials"], row["failed"]) == ("m", 1, 6, 0)
    assert row["metric"] == "roc_auc"
    best = db.study("m").record.trial(row["best_trial"])
    assert row["value"] == best.metrics["roc_auc"] > 0.5


def test_versions(db):
    assert db.sql(shop.create_model("m")).fetchall()[0][1] == 1
    assert db.sql(shop.create_model("m", verb="CREATE OR REPLACE MODEL")).fetchall()[0][1] == 2
    assert db.model("m").model.version == 2
    assert db.model("m", version=1).model.version == 1
    assert db.sql(shop.create_model("m", verb="CREATE MODEL IF NOT EXISTS")).fetchall() == []
    assert db.model("m").model.version == 2
    db.sql("DROP MODEL m")
    assert db.sql("SHOW MODELS").fetchall() == []
    db.sql("DROP MODEL IF EXISTS m")


def test_lineage_and_options_are_kept(db):
    text = shop.create_model("m", **shop.SIX)
    db.sql(text)
    record, lineage = db.store.record("m"), db.store.lineage("m")
    assert (record.sql, lineage.query, lineage.seed) == (text, shop.rows_for("churned"), 7)
    assert record.options["space"] == {
        "learn_rate": {"Choice": {"values": [0.003, 0.01, 0.03]}},
        "l2_reg": {"Choice": {"values": [0.0, 0.1]}},
    }
    assert record.options["split"]["eval_fraction"] == 0.2
    assert json.loads(json.dumps(record.options)) == record.options
    (row,) = db.sql("SELECT label, model_type FROM gradbase.versions").fetchall()
    assert row == ("churned", "dnn_classifier")


def test_dropping_a_model_frees_its_blobs(db):
    db.sql(shop.create_model("m", **shop.SIX))
    blobs = lambda: [p for p in (db.store.path / "blobs").rglob("*") if p.is_file()]  # noqa: E731
    assert blobs()
    db.sql("DROP MODEL m")
    assert blobs() == []
    assert db.sql("SELECT count(*) FROM gradbase.trials").fetchall() == [(0,)]


def test_info_functions(trained):
    trials = trained.sql("SELECT * FROM ML.TRIAL_INFO(MODEL churn)").arrow().to_pylist()
    assert [t["trial_id"] for t in trials] == [1, 2, 3, 4, 5, 6]
    assert sum(t["is_optimal"] for t in trials) == 1
    assert trials[0]["hyperparameters"] == {"learn_rate": 0.003, "l2_reg": 0.0}
    epochs = trained.sql("SELECT * FROM ML.TRAINING_INFO(MODEL churn)").arrow()
    assert epochs.num_rows == 6 * 8
    (row,) = trained.sql("SELECT * FROM ML.EVALUATE(MODEL plans)").arrow().to_pylist()
    assert row["roc_auc"] > 0.5
    assert len(trained.sql("SHOW MODELS").fetchall()) == 4
    assert trained.sql("SELECT name FROM gradbase.models ORDER BY name").fetchall()[0] == ("churn",)


def test_a_model_may_learn_from_another_s_predictions(own_shop):
    with gb.connect(str(own_shop), progress=False) as db:
        query = "SELECT id, fee, PREDICT(spend, *) AS expected, PREDICT_PROBA(plans, *)[1] AS a, churned FROM customers"
        db.sql(shop.create_model("stacked", query))
        features = [f.name for f in db.store.model("stacked").features]
        assert features == ["fee", "expected", "a"]
        found = db.sql(f"SELECT count(PREDICT(stacked, *)) FROM ({query})").fetchall()
        assert found == [(shop.ROWS,)]


def test_labels_of_other_types_come_back_as_they_were(db):
    for name, expression, values in (
        ("whole", "CASE WHEN churned = 'yes' THEN 7 ELSE -3 END", {7, -3}),
        ("truth", "churned = 'yes'", {True, False}),
        ("kind", "plan::ENUM ('C', 'A', 'B')", {"A", "B", "C"}),
    ):
        query = f"SELECT id, fee, region, {expression} AS y FROM customers"
        db.sql(shop.create_model(name, query, label="y", max_epochs=1))
        found = db.sql(f"SELECT DISTINCT PREDICT({name}, *) FROM ({query})").fetchall()
        assert {v for (v,) in found} <= values
        assert set(db.model(name).classes) == values


def test_rows_without_a_label_are_left_out(db):
    query = "SELECT * EXCLUDE (plan, spent) REPLACE (CASE WHEN id % 4 > 0 THEN churned END AS churned) FROM customers"
    db.sql(shop.create_model("m", query))
    db.sql(shop.create_model("n", f"SELECT * FROM ({query}) WHERE churned IS NOT NULL"))
    assert shop.weights(db, "m") == shop.weights(db, "n")


# -- from Python -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    with gb.connect(str(folder / "d.duckdb"), progress=False) as db:
        shop.load(db)
        search = gb.search(
            gb.mlp(hidden=gb.choice([4], [8])), lr=gb.loguniform(1e-3, 1e-1), trials=4, epochs=4,
            metric="log_loss", seed=3, split="random", eval_fraction=0.3, row_key=["id"],
        )  # fmt: skip
        yield db.table(shop.rows_for("churned")).fit(search, target="churned", name="m")


def test_study_shows_the_search(study, tmp_path):
    assert len(study.trials) == 4
    assert {"trial", "hidden_units", "learn_rate", "log_loss", "status", "best"} <= set(
        study.trials
    )
    assert study.trials["best"].sum() == 1
    assert (
        study.trials.loc[study.trials["best"], "log_loss"].item() == study.trials["log_loss"].min()
    )
    study.plot(path=tmp_path / "curves.png")
    assert (tmp_path / "curves.png").stat().st_size > 1000
    assert "best is trial" in repr(study)


def test_handle_predicts_whatever_form_the_rows_have(study):
    best, table = study.best, shop.customers(30)
    expected = best.predict(table)
    assert expected.shape == (30,)
    assert set(expected) <= set(best.classes) == {"no", "yes"}
    p = best.predict_proba(table)
    assert p.shape == (30, 2)
    np.testing.assert_allclose(p.sum(axis=1), 1)
    assert [best.classes[i] for i in p.argmax(axis=1)] == list(expected)
    for rows in (table.to_pandas(), pl.from_arrow(table.drop(["taste"])).with_columns(
        pl.Series("taste", table["taste"].to_pylist(), pl.Array(pl.Float32, 3))
    )):  # fmt: skip
        assert list(best.predict(rows)) == list(expected)
    db = best.session
    db.register("a_few", table)
    for rows in ("a_few", db.table("a_few"), "SELECT * FROM a_few"):
        assert list(best.predict(rows)) == list(expected)
    db.unregister("a_few")
    assert "m@1#" in repr(best)
    assert best.features == list(shop.FEATURES)


def test_score_and_evaluate(study):
    rows = "SELECT * FROM customers"
    metrics = study.best.evaluate(rows)
    assert metrics.keys() >= {"accuracy", "roc_auc", "log_loss"}
    assert study.best.score(rows) == metrics["accuracy"] > 0.6
    labels = study.best.session.sql("SELECT churned FROM customers").arrow()[0].to_pylist()
    assert metrics["accuracy"] == np.mean(
        [p == y for p, y in zip(study.best.predict(rows), labels, strict=True)]
    )


def test_any_trial_is_a_handle(study):
    handles = [study.trial(k) for k in (1, 2, 3, 4)]
    assert len({tuple(h.predict_proba("customers")[:, 1].round(9)) for h in handles}) == 4


def test_scores_of_a_regression(trained):
    handle = trained.model("spend")
    assert handle.classes == []
    values = handle.predict("customers")
    assert values.dtype == np.float64
    truth = trained.sql("SELECT spent FROM customers").arrow()[0].to_numpy()
    r2 = 1 - np.sum((truth - values) ** 2) / np.sum((truth - truth.mean()) ** 2)
    assert handle.score("customers") == pytest.approx(r2, rel=1e-4)


def test_probabilities_of_several_classes(trained):
    handle = trained.model("plans")
    p = handle.predict_proba("customers")
    assert p.shape == (shop.ROWS, 3)
    assert handle.classes == ["A", "B", "C"]
    assert [handle.classes[i] for i in p.argmax(axis=1)] == list(handle.predict("customers"))


def test_no_rows_give_no_predictions(trained):
    empty = shop.customers(10).slice(0, 0)
    assert trained.model("churn").predict(empty).shape == (0,)
    assert trained.model("churn").predict_proba(empty).shape == (0, 2)
    assert trained.model("plans").predict_proba(empty).shape == (0, 3)


def test_fit_of_a_name_that_is_there(db):
    search = gb.search(gb.mlp([4]), epochs=1, row_key=["id"])
    table = db.table(shop.rows_for("churned"))
    assert table.fit(search, target="churned", name="m").version == 1
    assert table.fit(search, target="churned", name="m").version == 2
    with pytest.raises(BindError, match="`m` exists already"):
        table.fit(search, target="churned", name="m", replace=False)
    with pytest.raises(BindError, match=r"epochs belong into gb.search"):
        table.fit(search, target="churned", name="m", epochs=3)
    assert table.fit(gb.mlp([4]), target="churned", name="n", epochs=1).version == 1


def test_nothing_imports_a_model_s_code_to_use_it(trained):
    """A stored model is plan text and numbers."""
    programs = trained.sql(
        "SELECT program FROM gradbase.trials WHERE program IS NOT NULL"
    ).fetchall()
    assert all(text.startswith(("Model", "%")) for (text,) in programs)
