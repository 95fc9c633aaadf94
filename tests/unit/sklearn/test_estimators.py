"""Classifier and regressor among the tools of scikit-learn."""

from __future__ import annotations

import pickle

import joblib
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_iris, make_friedman1
from sklearn.ensemble import BaggingClassifier
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import gradbase as gb
from gradbase.errors import BindError, DataError, TrainingError, UnsupportedError
from gradbase.sklearn import GradbaseClassifier, GradbaseRegressor
from gradbase.sklearn.fitted import shared_session

QUICK = {"hidden_units": [8], "epochs": 15, "learn_rate": 0.02}


@pytest.fixture(scope="module")
def iris():
    X, y = load_iris(return_X_y=True, as_frame=True)
    return X, y.map(dict(enumerate(["setosa", "versicolor", "virginica"]))).rename("species")


@pytest.fixture(scope="module")
def messy():
    """Numbers, texts, a category, a boolean, a date, each with missing values; and what follows."""
    random = np.random.default_rng(0)
    n = 200
    size = random.normal(size=n)
    kind = random.choice(["a", "b", None], n)
    frame = pd.DataFrame(
        {
            "size": np.where(random.random(n) < 0.1, np.nan, size),
            "kind": pd.Series(kind, dtype=object),
            "band": pd.Categorical(random.choice(["low", "high"], n)),
            "flag": pd.array(random.choice([True, False, None], n), dtype="boolean"),
            "since": pd.Timestamp("2024-01-01") + pd.to_timedelta(random.integers(0, 300, n), "D"),
            "count": pd.array(random.integers(0, 9, n), dtype="Int64"),
        }
    )
    frame.loc[3, "since"] = pd.NaT
    frame.loc[5, "count"] = pd.NA
    return frame, np.where((size > 0) ^ (kind == "a"), "yes", "no")


# -- rows --------------------------------------------------------------------------------------


def test_frames_of_every_kind_give_the_same_model(messy):
    """pandas, Polars and Arrow hold the same rows, missing values and all."""
    frame, y = messy
    arrow = pa.Table.from_pandas(frame, preserve_index=False)
    polars = pl.from_arrow(arrow).with_columns(pl.col("band").cast(pl.String))
    models = [GradbaseClassifier(**QUICK).fit(X, y) for X in (frame, arrow, polars)]
    found = [m.predict_proba(X) for m, X in zip(models, (frame, arrow, polars), strict=True)]
    np.testing.assert_array_equal(found[1], found[0])
    np.testing.assert_allclose(found[2], found[0], atol=1e-6)
    assert models[0].score(frame, y) > 0.85
    assert list(models[0].feature_names_in_) == list(frame.columns)


def test_unseen_categories_and_missing_values_have_predictions(messy):
    """Rows are as messy at prediction as they like."""
    frame, y = messy
    model = GradbaseClassifier(**QUICK).fit(frame, y)
    rows = frame.head(3).copy()
    rows["kind"] = ["new", None, "a"]
    rows["size"] = None
    assert np.isfinite(model.predict_proba(rows)).all()
    assert set(model.predict(rows)) <= {"yes", "no"}


def test_arrays_of_objects_may_hold_texts():
    """A column of texts is a category, one of numbers a number; None and NaN are missing."""
    X = np.array([["a", 1.0], ["b", None], [None, 2.5], ["a", float("nan")]] * 20, dtype=object)
    y = [v == "a" for v in X[:, 0]]
    model = GradbaseClassifier(**QUICK).fit(X, y)
    assert model.score(X, y) == 1.0
    assert model.classes_.tolist() == [False, True]
    assert [f.of.kind for f in model.fitted_.model.features] == ["text", "float64"]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["a", "A"], ["x0", "x1"]),  # SQL does not tell them apart
        ([0, 1], ["x0", "x1"]),
        (["target", "b"], ["target", "b"]),
    ],
)
def test_columns_have_names_for_sql(names, expected):
    """A frame's own names are kept where SQL can use them."""
    X = pd.DataFrame(np.random.default_rng(0).normal(size=(30, 2)), columns=names)
    model = GradbaseRegressor(**QUICK).fit(X, X.to_numpy()[:, 0])
    assert [f.name for f in model.fitted_.model.features] == expected
    assert model.predict(X).shape == (30,)


def test_wide_arrays_are_one_vector():
    """The same as many columns would learn; missing values at prediction are imputed."""
    random = np.random.default_rng(0)
    X = random.normal(size=(120, 80))
    y = X[:, 0] + X[:, 1]
    wide = GradbaseRegressor(**QUICK).fit(X, y)
    assert [str(f.of) for f in wide.fitted_.model.features] == ["float64[80]"]
    frame = pd.DataFrame(X, columns=[f"x{i}" for i in range(80)])
    split = GradbaseRegressor(**QUICK).fit(frame, y)
    assert len(split.fitted_.model.features) == 80
    assert abs(wide.score(X, y) - split.score(frame, y)) < 0.1
    X[0, 5] = np.nan
    assert np.isfinite(wide.predict(X)).all()
    assert len(GradbaseRegressor(**QUICK).fit(X, y).fitted_.model.features) == 80


@pytest.mark.parametrize(
    ("X", "error", "message"),
    [
        (pd.DataFrame({"a": [1, "x", 2.0]}), DataError, "column|types"),
        (np.array([[1.0], ["x"], [2.0]], dtype=object), DataError, "column `x0` mixes texts"),
        (pd.DataFrame({"a": [1.0, np.inf, 2.0]}), DataError, "infinite|inf"),
        (pd.DataFrame({"a": []}), DataError, "0 sample"),
        (pd.DataFrame(index=range(3)), DataError, "0 feature"),
        (pd.DataFrame({"a": [None, None, None]}), DataError, "no column is left"),
        (pd.DataFrame({"a": [[1], [2, 3], []]}), DataError, "0 to 2 elements"),
    ],
)
def test_rows_that_cannot_be_learnt_from(X, error, message):
    """The error names the column."""
    with pytest.raises(error, match=message):
        GradbaseRegressor().fit(X, np.arange(len(X), dtype=float))


def test_other_columns_at_prediction_are_an_error(messy):
    """As scikit-learn does: names and number of columns are those of fit."""
    frame, y = messy
    model = GradbaseClassifier(**QUICK).fit(frame, y)
    with pytest.raises(ValueError, match="feature names"):
        model.predict(frame.rename(columns={"size": "sizes"}))
    with pytest.raises(BindError, match=r"trained on `size` of type .*, found text"):
        model.predict(frame.assign(size="x"))


# -- targets -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "classes",
    [
        [True, False], [3, -1], [2.0, 0.0], ["é", "z", "a"], np.array([250, 7, 9], np.uint8),
        np.array(["b", "a"]), pd.array(["x", "y"], dtype="string"), [0, 1, 2, 3],
    ],
    ids=str,
)  # fmt: skip
def test_classes_of_any_type_come_back(classes):
    """predict gives values of y, classes_ is sorted, probabilities follow its order."""
    y = np.resize(np.asarray(classes), 60)
    X = np.arange(60.0).reshape(-1, 1) % len(classes)
    model = GradbaseClassifier([16], epochs=80, learn_rate=0.05).fit(X, y)
    assert model.classes_.tolist() == sorted(set(np.asarray(classes).tolist()))
    assert model.predict(X).tolist() == y.tolist()
    likeliest = model.classes_[model.predict_proba(X).argmax(axis=1)]
    assert likeliest.tolist() == y.tolist()


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (np.array(["a", None, "b"] * 10, dtype=object), "y contains None"),
        (np.array(["2020", "2021", "2022"] * 10, dtype="datetime64[Y]"), "cannot be learnt"),
        ([0.5, np.nan, 1.0] * 10, "y contains NaN"),
        ([0.25, 0.5, 0.75] * 10, "continuous"),
    ],
)
def test_targets_that_are_no_classes(y, message):
    with pytest.raises(ValueError, match=message):
        GradbaseClassifier().fit(np.arange(30.0).reshape(-1, 1), y)


def test_a_constant_target_is_an_error():
    """There is nothing to learn, and the message says so."""
    X = np.arange(10.0).reshape(-1, 1)
    with pytest.raises(DataError, match="constant"):
        GradbaseRegressor().fit(X, np.ones(10))
    with pytest.raises(DataError, match="of one class, `a`"):
        GradbaseClassifier().fit(X, ["a"] * 10)


# -- the tools of scikit-learn -----------------------------------------------------------------


def test_in_a_pipeline_and_cross_validated(iris):
    """A pipeline fits it and cross_val_score clones it."""
    X, y = iris
    pipeline = make_pipeline(StandardScaler(), GradbaseClassifier(**QUICK))
    assert cross_val_score(pipeline, X, y, cv=3).mean() > 0.85


def test_behind_a_column_transformer(messy):
    """What a transformer makes of a frame can be learnt from."""
    frame, y = messy
    chosen = ColumnTransformer([("numbers", StandardScaler(), ["size"])], remainder="passthrough")
    chosen.set_output(transform="pandas")
    assert make_pipeline(chosen, GradbaseClassifier(**QUICK)).fit(frame, y).score(frame, y) > 0.85


def test_in_a_grid_search_in_threads(iris):
    """Estimators of several threads share one session; the result does not depend on how many."""
    X, y = iris
    grid = {"hidden_units": [[4], [16, 8]], "learn_rate": [0.001, 0.02]}

    def searched(n_jobs):
        with joblib.parallel_backend("threading"):
            search = GridSearchCV(GradbaseClassifier(epochs=10), grid, cv=3, n_jobs=n_jobs)
            return search.fit(X, y)

    alone, together = searched(1), searched(2)
    assert together.best_params_["learn_rate"] == 0.02
    for name in ("mean_test_score", "params"):
        assert list(together.cv_results_[name]) == list(alone.cv_results_[name])


@pytest.mark.slow
def test_in_other_processes(iris):
    """joblib's workers train, and send the models back."""
    X, y = iris
    bagged = BaggingClassifier(GradbaseClassifier(**QUICK), n_estimators=4, n_jobs=2).fit(X, y)
    assert bagged.score(X, y) > 0.9


def test_pickles_hold_the_model_as_plain_data(iris):
    """Program as text, weights as arrays; a clone of it is not fitted."""
    X, y = iris
    model = GradbaseClassifier(**QUICK).fit(X, y)
    data = pickle.dumps(model)
    assert b"gradbase.ir" not in data
    again = pickle.loads(data)
    np.testing.assert_array_equal(again.predict_proba(X), model.predict_proba(X))
    assert again.fitted_.program == model.fitted_.program
    with pytest.raises(NotFittedError):
        clone(again).predict(X)


def test_a_fit_leaves_nothing_in_the_shared_session(iris):
    """Neither a model nor its files nor a view."""
    X, y = iris
    GradbaseClassifier(**QUICK).fit(X, y)
    session = shared_session()
    assert session.store.names() == ()
    assert not [p for p in (session.store.path / "blobs").rglob("*") if p.is_file()]
    views = session.sql("SELECT view_name FROM duckdb_views() WHERE NOT internal").fetchall()
    assert not [v for (v,) in views if "gradbase_fit" in v]


# -- parameters --------------------------------------------------------------------------------


def test_the_same_rows_give_the_same_model(iris):
    """In any order; another random_state gives another."""
    X, y = iris
    shuffled = X.sample(frac=1.0, random_state=1)
    first = GradbaseClassifier(**QUICK).fit(X, y).predict_proba(X)
    second = GradbaseClassifier(**QUICK).fit(shuffled, y[shuffled.index]).predict_proba(X)
    np.testing.assert_array_equal(first, second)
    other = GradbaseClassifier(**QUICK, random_state=1).fit(X, y).predict_proba(X)
    assert not np.array_equal(first, other)
    state = np.random.RandomState(5)
    one, two = (GradbaseClassifier(**QUICK, random_state=state).fit(X, y) for _ in range(2))
    assert not np.array_equal(one.predict_proba(X), two.predict_proba(X))


def test_dimensions_are_searched_over():
    """A range and a choice, with trials; attributes tell what was tried."""
    X, y = make_friedman1(300, random_state=0)
    model = GradbaseRegressor(
        gb.choice([8], [32]), learn_rate=gb.loguniform(1e-4, 3e-2), trials=5, epochs=10
    ).fit(X, y)
    assert [t["trial"] for t in model.trials_] == [1, 2, 3, 4, 5]
    assert set(model.best_params_) == {"hidden_units", "learn_rate"}
    best = next(t for t in model.trials_ if t["best"])
    assert best["r2_score"] == max(t["r2_score"] for t in model.trials_)
    assert model.n_iter_ == 10
    assert len(model.history_) == 50
    assert model.fitted_.model.trial == best["trial"]


def test_a_whole_search_can_be_given(iris):
    """Networks written in Python come that way; parameters beside it are an error."""
    import torch

    def net(config):
        return torch.nn.Linear(config["n_inputs"], config["n_outputs"])

    X, y = iris
    search = gb.search(net, lr=gb.choice(0.001, 0.05), epochs=15, split="random", seed=3)
    model = GradbaseClassifier(search=search).fit(X, y)
    assert model.best_params_ == {"learn_rate": 0.05}
    assert clone(model).fit(X, y).predict(X).tolist() == model.predict(X).tolist()
    with pytest.raises(BindError, match="`epochs` and `search` were both given"):
        model.set_params(epochs=3).fit(X, y)
    with pytest.raises(BindError, match=r"what gb.search\(…\) returns, found 3"):
        GradbaseClassifier(search=3).fit(X, y)
    with pytest.raises(BindError, match="an open session or the path of a file, found 3"):
        GradbaseClassifier(database=3).fit(X, y)


@pytest.mark.parametrize(
    ("parameters", "error", "message"),
    [
        ({"epochs": 0}, BindError, "max_epochs"),
        ({"hidden_units": [0]}, BindError, "hidden_units"),
        ({"learn_rate": 1e30}, BindError, "learn_rate"),
        ({"optimizer": "adagrand"}, BindError, "did you mean `adagrad`"),
        ({"trials": 3}, BindError, "nothing is searched over"),
        ({"metric": "roc_auc"}, BindError, "no metric"),
        ({"eval_fraction": 1.5}, BindError, "eval_fraction"),
        (
            {"optimizer": "sgd", "learn_rate": 1.0, "epochs": 400},
            TrainingError,
            "not finite|failed",
        ),
    ],
)
def test_wrong_parameters_are_errors_of_fit(parameters, error, message):
    """As CREATE MODEL checks its options."""
    X, y = make_friedman1(60, random_state=0)
    with pytest.raises(error, match=message):
        GradbaseRegressor(**parameters).fit(X * 1e3, y**9)


# -- weights -----------------------------------------------------------------------------------


def test_whole_weights_are_copies_of_rows(iris):
    """Bitwise: a row of weight 2 stands there twice, one of weight 0 not at all."""
    X, y = iris
    weights = np.arange(len(y)) % 3
    weighted = GradbaseClassifier(**QUICK).fit(X, y, sample_weight=weights)
    repeated = GradbaseClassifier(**QUICK).fit(X.loc[X.index.repeat(weights)], y.repeat(weights))
    np.testing.assert_array_equal(weighted.predict_proba(X), repeated.predict_proba(X))


def test_other_weights_weigh_in_the_loss(iris):
    """Bitwise: a row of weight 0 is not there."""
    X, y = iris
    kept = (y != "virginica").to_numpy()
    weights = np.where(kept, np.where(y == "setosa", 0.001, 3.5), 0.0)
    model = GradbaseClassifier(**QUICK).fit(X, y, sample_weight=weights)
    assert model.classes_.tolist() == ["setosa", "versicolor"]
    alone = GradbaseClassifier(**QUICK).fit(X[kept], y[kept], sample_weight=weights[kept])
    np.testing.assert_array_equal(alone.predict_proba(X), model.predict_proba(X))
    assert (model.predict(X) == "versicolor").mean() > 0.9


def test_class_weights_multiply_those_of_rows(iris):
    """As scikit-learn multiplies them; "balanced" evens out rare classes."""
    X, y = iris[0][40:], (iris[1][40:] == "setosa").map({True: "rare", False: "common"})
    by_row = y.map({"rare": 2.5, "common": 0.5}).to_numpy()
    with_rows = GradbaseClassifier(**QUICK).fit(X, y, sample_weight=by_row)
    of_classes = GradbaseClassifier(**QUICK, class_weight={"rare": 2.5, "common": 0.5}).fit(X, y)
    np.testing.assert_array_equal(of_classes.predict_proba(X), with_rows.predict_proba(X))
    balanced = GradbaseClassifier(**QUICK, class_weight="balanced").fit(X, y)
    plain = GradbaseClassifier(**QUICK).fit(X, y)
    assert balanced.predict_proba(X)[:, 1].mean() > plain.predict_proba(X)[:, 1].mean()


@pytest.mark.parametrize("weights", [[-1.0] * 150, [np.nan] * 150, [1.0] * 149, [0.0] * 150])
def test_weights_that_cannot_be(iris, weights):
    """Negative, missing, too few, all zero."""
    with pytest.raises(ValueError, match=r"weight|Sample|samples"):
        GradbaseClassifier().fit(*iris, sample_weight=weights)


# -- databases ---------------------------------------------------------------------------------


def test_the_model_stays_in_a_database(iris, tmp_path):
    """In an open session SQL uses it at once, columns by their names."""
    X, y = iris
    with gb.connect(str(tmp_path / "flowers.duckdb"), progress=False) as db:
        model = GradbaseClassifier(**QUICK, database=db, name="species").fit(X, y)
        db.register("flowers", X)
        rows = db.sql("SELECT PREDICT(species, *) AS p FROM flowers").df()["p"]
        assert rows.tolist() == model.predict(X).tolist()
        assert db.model("species").model.label == "species"
        clone(model).fit(X, y)
        assert db.sql("SHOW MODELS").df()["version"].tolist() == [2]
        again = pickle.loads(pickle.dumps(model))
    assert again.database is None
    assert again.predict(X).tolist() == rows.tolist()


def test_a_database_may_be_a_path(iris, tmp_path):
    """It is opened for training, and closed."""
    X, y = iris
    path = str(tmp_path / "flowers.duckdb")
    model = GradbaseClassifier(**QUICK, database=path, name="iris").fit(X, y)
    with gb.connect(path, read_only=True) as db:
        assert db.model("iris").predict(X).tolist() == model.predict(X).tolist()


def test_an_open_session_does_not_travel(tmp_path):
    """Before training an estimator with a session cannot be sent anywhere."""
    with (
        gb.connect(progress=False) as db,
        pytest.raises(UnsupportedError, match="cannot be sent to another process"),
    ):
        pickle.dumps(GradbaseClassifier(database=db))
