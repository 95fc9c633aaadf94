"""Objects of scikit-learn as models: the same predictions, without them."""

from __future__ import annotations

import re

import numpy as np
import onnxruntime
import pandas as pd
import pytest
from sklearn import ensemble, linear_model, neural_network, svm, tree
from sklearn.compose import ColumnTransformer, make_column_transformer
from sklearn.decomposition import PCA
from sklearn.feature_selection import SelectKBest
from sklearn.impute import KNNImputer, SimpleImputer
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    MaxAbsScaler,
    MinMaxScaler,
    OneHotEncoder,
    OrdinalEncoder,
    RobustScaler,
    StandardScaler,
)

import gradbase as gb
from gradbase.errors import BindError, UnsupportedError

ROWS = 300
random = np.random.default_rng(7)
X = pd.DataFrame(
    {
        "age": random.normal(40, 12, ROWS),
        "income": random.lognormal(10, 2, ROWS),
        "visits": random.integers(0, 5, ROWS),
        "plan": random.choice(["a", "b", "c", "d'"], ROWS),
        "region": random.choice(["north", "süd", None], ROWS),
    }
)
X.loc[random.random(ROWS) < 0.1, ["age", "income"]] = np.nan
Y = np.where(X.age.fillna(30) + 9 * (X["plan"] == "a") > 40, "yes", "no")
Y3 = np.where(X.visits > 3, 7, random.choice([1, 2], ROWS))
VALUE = X.income.fillna(0) * 3 + X.visits * 1e4
NEW = X.assign(plan=["never seen", *X["plan"][1:]])


def messy():
    return ColumnTransformer(
        [
            ("n", make_pipeline(SimpleImputer(strategy="median"), StandardScaler()), [0, 1]),
            ("r", make_pipeline(SimpleImputer(strategy="most_frequent"), OneHotEncoder()),
             slice("region", "region")),
            ("c", OneHotEncoder(handle_unknown="ignore", sparse_output=False), ["plan", "visits"]),
        ],
        remainder="drop",
    )  # fmt: skip


@pytest.fixture(scope="module")
def db():
    with gb.connect() as session:
        yield session


def agree(db, fitted, rows=NEW, **given):
    """Import `fitted` and compare all that it predicts for `rows`."""
    model = db.import_model("m", fitted, **given)
    if hasattr(fitted, "predict_proba"):
        found = model.predict_proba(rows)
        np.testing.assert_allclose(found, fitted.predict_proba(rows), rtol=0, atol=1e-9)
        assert model.predict(rows).tolist() == fitted.predict(rows).tolist()
    else:
        np.testing.assert_allclose(model.predict(rows), fitted.predict(rows), rtol=1e-9, atol=1e-6)
    return model


CLASSIFIERS = (
    linear_model.LogisticRegression(max_iter=500),
    neural_network.MLPClassifier((6, 4), max_iter=20, activation="tanh"),
    tree.DecisionTreeClassifier(max_depth=8),
    ensemble.RandomForestClassifier(12, random_state=1),
    ensemble.ExtraTreesClassifier(5, max_depth=6),
    ensemble.GradientBoostingClassifier(n_estimators=5),
)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("y", [Y, Y3], ids=["two", "three"])
@pytest.mark.parametrize("estimator", CLASSIFIERS, ids=lambda e: type(e).__name__)
def test_classifiers_predict_as_before(db, estimator, y):
    model = agree(db, make_pipeline(messy(), estimator).fit(X, y))
    assert model.classes == sorted(set(y.tolist()))


REGRESSORS = (
    linear_model.LinearRegression(),
    linear_model.Ridge(),
    neural_network.MLPRegressor(hidden_layer_sizes=(6,), max_iter=20),
    tree.DecisionTreeRegressor(max_depth=6),
    ensemble.RandomForestRegressor(6),
    ensemble.GradientBoostingRegressor(n_estimators=5, init="zero"),
)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("estimator", REGRESSORS, ids=lambda e: type(e).__name__)
def test_regressors_predict_as_before(db, estimator):
    agree(db, make_pipeline(messy(), estimator).fit(X, VALUE))


def test_losses_that_give_half_the_logit(db):
    model = ensemble.GradientBoostingClassifier(n_estimators=4, loss="exponential")
    agree(db, make_pipeline(messy(), model).fit(X, Y))


NUMBERS = X[["age", "income", "visits"]].fillna(1.0)
STEPS = (
    MinMaxScaler(feature_range=(-1, 2), clip=True),
    RobustScaler(),
    MaxAbsScaler(),
    make_pipeline(StandardScaler(), PCA(2, whiten=True)),
    SelectKBest(k=2),
    FunctionTransformer(),
    FeatureUnion([("a", StandardScaler()), ("b", MinMaxScaler())]),
    make_pipeline(StandardScaler(with_mean=False), SimpleImputer()),
    make_column_transformer(
        (OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1), [2]),
        remainder="passthrough",
    ),
    make_column_transformer(
        (OneHotEncoder(drop="first"), ["visits"]), ("passthrough", [True, False, False])
    ),
    make_column_transformer((OneHotEncoder(min_frequency=70, drop="first"), ["visits"])),
    make_pipeline(make_column_transformer((OneHotEncoder(sparse_output=False), [2])),
                  StandardScaler(), SelectKBest(k=2)),
)  # fmt: skip


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("step", STEPS, ids=lambda s: type(s).__name__)
def test_steps_do_as_before(db, step):
    fitted = make_pipeline(step, linear_model.LogisticRegression()).fit(NUMBERS, Y)
    agree(db, fitted, NUMBERS * [3.0, 0.5, 1.0])


def test_a_category_beyond_the_frequent_ones_is_infrequent(db):
    encoder = OneHotEncoder(handle_unknown="infrequent_if_exist", min_frequency=75)
    fitted = make_pipeline(encoder, linear_model.LogisticRegression()).fit(X[["plan"]], Y)
    agree(db, fitted, pd.DataFrame({"plan": ["a", "b", "c", "d'", "zzz"]}))


def test_null_can_be_a_category(db):
    encoder = OneHotEncoder(handle_unknown="ignore")
    rows = X[["region"]].astype(object).where(X[["region"]].notna(), None)
    agree(db, make_pipeline(encoder, tree.DecisionTreeClassifier()).fit(rows, Y), rows)


def test_trees_know_where_nan_goes_and_null_gives_null(db):
    rows = X[["age", "income"]]
    model = agree(db, tree.DecisionTreeClassifier(max_depth=4).fit(rows, Y), rows.fillna(2.0))
    fitted = tree.DecisionTreeClassifier(max_depth=4).fit(rows, Y)
    db.import_model("m", fitted)
    query = "SELECT PREDICT_PROBA(m, 'NaN'::DOUBLE, i) p FROM (VALUES (1.0), (5e5), (NULL)) t(i)"
    given = pd.DataFrame({"age": [np.nan] * 2, "income": [1.0, 5e5]})
    found = [p for (p,) in db.sql(query).fetchall()]
    assert found[:2] == pytest.approx(fitted.predict_proba(given)[:, 1].tolist())
    assert found[2] is None
    assert model.features == ["age", "income"]


def test_a_category_that_the_encoder_refuses_has_no_prediction(db):
    fitted = make_pipeline(OneHotEncoder(), linear_model.LogisticRegression())
    db.import_model("m", fitted.fit(X[["plan"]], Y))
    found = db.sql("SELECT PREDICT(m, p), isnan(PREDICT_PROBA(m, p)) "
                   "FROM (VALUES ('a'), ('zzz'), (NULL)) t(p)").fetchall()  # fmt: skip
    assert found[0][1] is False
    assert found[1:] == [(None, True), (None, None)]


def test_metrics_leave_out_rows_without_prediction(db):
    fitted = linear_model.LogisticRegression(max_iter=2000).fit(NUMBERS, Y)
    model = db.import_model("m", fitted, label="bought")
    holes = NUMBERS.assign(bought=Y)
    holes.loc[:9, "age"] = np.nan
    accuracy = fitted.score(NUMBERS[10:], Y[10:])
    assert model.evaluate(holes)["accuracy"] == pytest.approx(accuracy)
    assert 0 < model.evaluate(holes)["log_loss"] < 1


def test_arrays_need_names_or_rows(db):
    fitted = linear_model.LogisticRegression(max_iter=2000).fit(NUMBERS.to_numpy(), Y)
    with pytest.raises(BindError, match="fitted on 3 columns without names, none were given"):
        db.import_model("m", fitted)
    named = db.import_model("m", fitted, features=["x", "y", "z"])
    assert named.features == ["x", "y", "z"]
    rows = NUMBERS.assign(label=Y)
    assert db.import_model("m", fitted, features=rows).features == list(NUMBERS)
    with pytest.raises(BindError, match="`age`, which is not among a, b"):
        db.import_model("m", linear_model.Ridge().fit(NUMBERS, VALUE), features=["a", "b"])


def test_a_search_is_its_best_estimator(db):
    grid = GridSearchCV(linear_model.Ridge(), {"alpha": [0.1, 9.0]}, cv=2).fit(NUMBERS, VALUE)
    agree(db, grid, NUMBERS)


class Mine(linear_model.Ridge):
    """May predict anything."""


REFUSED = (
    (svm.SVC().fit(NUMBERS, Y), r"SVC cannot be imported; as a model there are Dec.*Ridge"),
    (Mine().fit(NUMBERS, VALUE), "test_sklearn.Mine|fitted objects of scikit-learn"),
    (make_pipeline(KNNImputer(), linear_model.Ridge()).fit(NUMBERS, VALUE), "KNNImputer"),
    (make_pipeline(SimpleImputer(add_indicator=True), linear_model.Ridge()).fit(NUMBERS, VALUE),
     "add_indicator"),
    (make_pipeline(SimpleImputer(missing_values=-1), linear_model.Ridge()).fit(NUMBERS, VALUE),
     "missing_values"),
    (make_pipeline(FunctionTransformer(np.abs), linear_model.Ridge()).fit(NUMBERS, VALUE), "func"),
    (linear_model.Ridge().fit(NUMBERS, np.stack([VALUE, VALUE], 1)), "several labels"),
    (tree.DecisionTreeClassifier().fit(NUMBERS, np.stack([Y, Y], 1)), "several labels"),
    ("model.pkl", "no file that can be imported"),
    (linear_model.Ridge, "the class Ridge"),
)  # fmt: skip


@pytest.mark.parametrize(("what", "message"), REFUSED, ids=lambda v: str(v)[:20])
def test_what_cannot_be_imported_is_named(db, what, message):
    with pytest.raises(UnsupportedError) as refused:
        db.import_model("refused", what)
    text = str(refused.value)
    assert re.search(message, text), text


def test_an_object_has_to_be_fitted(db):
    with pytest.raises(BindError, match="is not fitted"):
        db.import_model("m", make_pipeline(StandardScaler(), linear_model.Ridge()))


def test_versions_and_what_was_not_kept(db):
    fitted = linear_model.Ridge().fit(NUMBERS, VALUE)
    first = db.import_model("versions", fitted)
    assert db.import_model("versions", fitted).version == first.version + 1
    with pytest.raises(BindError, match="exists already"):
        db.import_model("versions", fitted, replace=False)
    with pytest.raises(BindError, match="was imported"):
        db.sql("SELECT * FROM ML.TRIAL_INFO(MODEL versions)").fetchall()
    with pytest.raises(BindError, match="`versions` was imported, warm_start continues"):
        db.sql(
            "CREATE OR REPLACE MODEL versions OPTIONS (warm_start = TRUE) AS SELECT 1 AS a, 2 label"
        )


@pytest.mark.parametrize("estimator", [CLASSIFIERS[0], CLASSIFIERS[3]])
def test_onnx_files_give_the_same(db, tmp_path, estimator):
    fitted = make_pipeline(messy(), estimator).fit(X, Y3)
    path = db.import_model("m", fitted).export(tmp_path / "m.onnx")
    session = onnxruntime.InferenceSession(str(path))
    found = session.run(["predict_proba"], gb.onnx_inputs(session, NEW))[0]
    np.testing.assert_allclose(found, fitted.predict_proba(NEW), rtol=0, atol=1e-9)


def test_the_study_and_the_plan_of_an_imported_model_say_what_it_is():
    with gb.connect(progress=False) as db:
        table = pd.DataFrame({"x": [0.0, 1.0, 2.0], "z": [3.0, 1.0, 2.0]})
        db.import_model("line", linear_model.LinearRegression().fit(table, [0.0, 1.0, 3.0]))
        assert repr(db.study("line")).endswith("version 1: imported, nothing was searched")
        plan = str(db.sql("EXPLAIN SELECT PREDICT(line, x, z) FROM (VALUES (1.0, 2.0)) t(x, z)"))
        assert "exactness: float64 network" in plan
