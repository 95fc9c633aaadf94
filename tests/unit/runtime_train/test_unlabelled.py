"""K-means and principal components against scikit-learn, and on files instead of memory."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pyarrow as pa
import pytest
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.metrics import davies_bouldin_score
from sklearn.preprocessing import StandardScaler

import gradbase as gb
from gradbase.errors import BindError

ROWS = 9_000


@pytest.fixture(scope="module")
def values():
    rng = np.random.default_rng(5)
    centres = rng.normal(0, 4, (5, 4))
    x = centres[rng.integers(0, 5, ROWS)] + rng.normal(0, 1, (ROWS, 4))
    return (x * [1, 10, 0.1, 3] + [0, 100, 5, -2]).astype(np.float64)


@pytest.fixture(scope="module")
def db(values):
    with gb.connect(progress=False) as session:
        columns = {f"x{i}": values[:, i] for i in range(4)} | {"id": np.arange(ROWS)}
        session.register("points", pa.table(columns))
        yield session


def train(db, name, options):
    query = f"""CREATE OR REPLACE MODEL {name} OPTIONS (row_key = ['id'], {options})
                AS SELECT * FROM points"""
    db.sql(query)
    return db.model(name)


def standardised(values):
    return StandardScaler().fit_transform(values.astype(np.float32).astype(np.float64))


def test_clusters_are_those_of_scikit_learn(db, values):
    """From the same first centroids, until nothing changes."""
    model = train(db, "k", "model_type = 'kmeans', num_clusters = 5, max_iterations = 300, "
                           "early_stop = FALSE, seed = 3")  # fmt: skip
    x = standardised(values)
    found = db.sql("SELECT feature, numerical_value FROM ML.CENTROIDS(MODEL k)").arrow()
    centroids = np.array(found.column(1)).reshape(5, 4)
    start = (centroids - values.mean(0)) / values.std(0)
    expected = KMeans(5, init=start, n_init=1, tol=0, max_iter=300).fit(x)
    labels = model.predict("points")
    assert (labels - 1 == expected.labels_).mean() > 0.999
    metrics = model.evaluate("points")
    assert metrics["mean_squared_distance"] == pytest.approx(expected.inertia_ / ROWS, rel=1e-4)
    score = davies_bouldin_score(x, labels)
    assert metrics["davies_bouldin_index"] == pytest.approx(score, rel=1e-3)


def test_components_are_those_of_scikit_learn(db, values):
    model = train(db, "p", "model_type = 'pca', num_principal_components = 3")
    expected = PCA(3).fit(standardised(values))
    info = db.sql("SELECT * FROM ML.PRINCIPAL_COMPONENT_INFO(MODEL p)").arrow()
    np.testing.assert_allclose(info.column("eigenvalue"), expected.explained_variance_, rtol=1e-4)
    ratios = expected.explained_variance_ratio_
    np.testing.assert_allclose(info.column("explained_variance_ratio"), ratios, rtol=1e-4)
    found = model.predict("points")
    scores = expected.transform(standardised(values))
    signs = np.sign((found * scores).sum(0))
    np.testing.assert_allclose(found, scores * signs, atol=1e-3)


def test_without_scaling_the_widest_column_leads(db, values):
    train(db, "raw", "model_type = 'pca', scale_features = FALSE")
    info = db.sql("SELECT eigenvalue FROM ML.PRINCIPAL_COMPONENT_INFO(MODEL raw)").arrow()
    expected = PCA(4).fit(values).explained_variance_
    np.testing.assert_allclose(info.column(0), expected, rtol=1e-4)


@pytest.mark.parametrize(
    "options",
    [
        "model_type = 'kmeans', num_clusters = 4, seed = 1",
        "model_type = 'kmeans', num_clusters = 4, kmeans_init_method = 'random', seed = 2",
        "model_type = 'kmeans', num_clusters = 4, distance_type = 'cosine'",
        "model_type = 'pca'",
    ],
)
def test_rows_that_do_not_fit_into_memory_give_the_same_bits(db, options, monkeypatch):
    """Encoded rows in a file; rows in another order."""
    function = "CENTROIDS" if "kmeans" in options else "PRINCIPAL_COMPONENTS"

    def learnt(name, order=""):
        db.sql(f"""CREATE OR REPLACE MODEL {name} OPTIONS (row_key = ['id'], {options})
                   AS SELECT * FROM points {order}""")
        return db.sql(f"SELECT * FROM ML.{function}(MODEL {name})").fetchall()

    expected = learnt("inside")
    assert learnt("shuffled", "ORDER BY (id * 7919) % 9001") == expected
    monkeypatch.setattr(
        "gradbase.runtime.train.prepare.Preparation.free_bytes", lambda _self: 1 << 12
    )
    assert learnt("outside") == expected


def test_models_without_a_label_have_no_score(db):
    model = train(db, "n", "model_type = 'kmeans', num_clusters = 2")
    with pytest.raises(BindError, match="model `n` has no label to be scored on"):
        model.score("points")
    assert repr(model).startswith("ModelHandle(n@")


def test_another_seed_starts_elsewhere(db):
    made = [
        train(db, "s", f"model_type = 'kmeans', num_clusters = 9, max_iterations = 1, seed = {s}")
        for s in (1, 1, 2)
    ]
    first, again, other = (m.predict("points").tolist() for m in made)
    assert first == again
    assert first != other


@pytest.mark.parametrize(
    "options", ["model_type = 'kmeans', num_clusters = 4", "model_type = 'pca'"]
)
def test_exports_predict_the_same(db, tmp_path, options):
    model = train(db, "e", options)
    session = onnxruntime.InferenceSession(str(model.export(tmp_path / "e.onnx")))
    rows = db.sql("SELECT * FROM points LIMIT 500").arrow()
    (found,) = session.run(None, gb.onnx_inputs(session, rows))
    np.testing.assert_allclose(found, model.predict(rows), atol=1e-5)
