"""Models that learn without a label, from Python."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest

import gradbase as gb
from gradbase.errors import BindError
from gradbase.selection import unlabelled

ROWS = """CREATE TABLE points AS SELECT i AS id, (i % 7) - 3.0::DOUBLE AS x, CASE WHEN i % 11 > 0
    THEN 2 * (i % 7) + i % 2 END AS y, ['red', 'green', 'blue'][i % 3 + 1] AS colour,
    CASE WHEN i % 5 > 0 THEN DATE '2024-01-01' + (i % 40)::INT END AS day FROM range(300) r(i)"""
KEY = {"row_key": ["id"]}


@pytest.fixture(scope="module")
def db():
    with gb.connect(progress=False) as session:
        session.sql(ROWS)
        yield session


def test_clusters_are_those_of_the_statement(db):
    options = "model_type = 'kmeans', num_clusters = 3, seed = 7, row_key = ['id']"
    db.sql(f"CREATE MODEL said OPTIONS ({options}) AS SELECT * FROM points")
    study = db.table("points").fit(gb.kmeans(3, seed=7), name="fitted", **KEY)
    assert study.record.metric == "davies_bouldin_index"
    assert np.array_equal(study.best.predict("points"), db.model("said").predict("points"))


def test_clusters_are_searched_over(db):
    found = db.table("points").fit(gb.kmeans(gb.choice(2, 3, 4), seed=1), name="searched", **KEY)
    assert [row["num_clusters"] for row in found.rows] == [2, 3, 4]
    assert found.best.evaluate("points")["mean_squared_distance"] > 0


def test_principal_components_are_those_of_the_statement(db):
    options = "model_type = 'pca', num_principal_components = 2"
    db.sql(f"CREATE MODEL parts OPTIONS ({options}) AS SELECT x, y FROM points")
    found = db.table("SELECT x, y FROM points").fit(gb.pca(2), name="fitted_parts")
    assert found.best.predict("points").shape == (300, 2)
    assert np.array_equal(found.best.predict("points"), db.model("parts").predict("points"))


@pytest.fixture(scope="module")
def squeezed(db):
    network = gb.autoencoder([8, 2, 8], activation="tanh")
    search = gb.search(network, lr=gb.choice(0.001, 0.03), epochs=8, seed=3)
    return db.table("points").fit(search, name="squeezed", replace=False, **KEY)


def test_an_autoencoder_is_searched_and_gives_latent_columns(squeezed):
    assert squeezed.record.model_type == "autoencoder"
    assert squeezed.best_trial == 2
    assert squeezed.best.predict("points").shape == (300, 2)
    assert squeezed.best.evaluate("points")["mean_squared_error"] < 0.6
    assert squeezed.curves[0].keys() >= {"mean_squared_error", "train_loss"}


def test_the_onnx_file_of_an_autoencoder_predicts_the_same(db, squeezed, tmp_path):
    """Latent columns and errors, with NULLs and a colour that was not seen."""
    rows = db.sql("""SELECT * REPLACE (CASE WHEN id % 9 = 0 THEN 'violet' ELSE colour END AS colour)
                     FROM points UNION ALL SELECT 999, NULL, NULL, NULL, NULL""").arrow()
    file = onnxruntime.InferenceSession(squeezed.best.export(tmp_path / "a.onnx"))
    names = ["predict", "mean_absolute_error", "mean_squared_error", "mean_squared_log_error"]
    latent, *errors = file.run(names, gb.onnx_inputs(file, rows))
    assert latent == pytest.approx(squeezed.best.predict(rows), abs=1e-5)
    db.register("given", rows)
    columns = ", ".join(names[1:])
    query = f"SELECT id, {columns} FROM ML.RECONSTRUCTION_LOSS(MODEL squeezed, TABLE given)"
    found = {row[0]: row[1:] for row in db.sql(query).fetchall()}
    expected = np.array([found[i] for i in rows["id"].to_pylist()])
    assert np.stack(errors, 1) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(
    ("what", "target", "text"),
    [
        (lambda: gb.mlp([3]), None, 'fit needs the column to predict(.|\n)*target="…"'),
        (lambda: gb.pca(2), "x", "pca learns without a target, found target='x'"),
        (lambda: gb.autoencoder([3]), "x", "autoencoder learns without a target"),
        (lambda: gb.search(gb.autoencoder([4, 2])), None, "odd number of layers"),
        (lambda: gb.kmeans(3, num_cluster=3), None, "no option `num_cluster`(.|\n)*num_clusters"),
        (lambda: gb.kmeans(3, lr=0.1), None, "`learn_rate` is not one of kmeans models"),
    ],
)
def test_what_does_not_fit_is_said(db, what, target, text):
    with pytest.raises(BindError, match=text):
        db.table("points").fit(what(), target=target, name="m", **KEY)


def test_a_model_without_a_label_has_pictures_of_its_search_only(squeezed):
    with pytest.raises(BindError, match="there is no `roc` of the reconstruction model"):
        squeezed.best.plot("roc")


def test_clusters_show_progress(db, monkeypatch):
    told = []

    class Listener:
        def __getattr__(self, name):
            return lambda *given: told.append((name, *given))

    monkeypatch.setattr(unlabelled, "listener_for", lambda *_: Listener())
    db.table("points").fit(gb.kmeans(gb.choice(2, 3)), name="watched", **KEY)
    steps = [name for name, *_ in told if name != "on_data"]
    assert steps == ["on_start", *["on_epoch", "on_trial_end"] * 2, "on_end"]
    assert told[-1][1].startswith("trained `watched` version 1: 2 trials")
