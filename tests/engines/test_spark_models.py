"""Models on Spark: the same as on DuckDB, predictions on the executors, faults and hostile names."""

from __future__ import annotations

import threading

import pyarrow as pa
import pytest

import gradbase as gb
from gradbase.errors import (
    BindError,
    CancelledError,
    DataError,
    EngineError,
    StoreError,
    UnsupportedError,
)
from gradbase.ir.learning import Predict
from gradbase.ir.node import find
from gradbase.runtime.executors import mapped_view, predict_batches
from gradbase.testing.servers import spark

pytestmark = pytest.mark.xdist_group("spark")

ROWS = pa.table(
    {
        "id": pa.array(range(400), pa.int64()),
        "x": pa.array([None if i % 13 == 5 else (i * 37 % 101) / 7 for i in range(400)]),
        "kind": [["red", "green", "blue", "it's a \\", 'q"`é'][i % 5] for i in range(400)],
        "y": [(i * 37 % 101) / 7 - i % 5 for i in range(400)],
    }
)
TRAIN = """CREATE OR REPLACE MODEL {name} OPTIONS (model_type = '{kind}', input_label_cols = ['{label}'],
row_key = ['id'], max_epochs = 3, seed = 5, learn_rate = HPARAM_CANDIDATES([0.1, 0.01])) AS SELECT * FROM rows_given"""
NASTY = ('quo"te', "back`tick", "semi;colon", "select", "Größe 日本", "n" * 70, "a'b", "--", "a\\b")


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return tmp_path_factory.mktemp("spark") / "store"


@pytest.fixture(scope="module")
def db(store):
    with gb.connect(spark().newSession(), store=store, progress=False) as session:
        session.register("rows_given", ROWS)
        session.sql(TRAIN.format(name="reg", kind="dnn_regressor", label="y"))
        session.sql(TRAIN.format(name="cls", kind="logistic_reg", label="kind"))
        yield session


def predicted(db, representation, query):
    db.sql(f"SET gradbase.representation = '{representation}'")
    try:
        return db.sql(query).arrow().to_pydict()
    finally:
        db.sql("RESET gradbase.representation")


def test_same_model_as_on_duckdb(db):
    """The same rows and seed: every trial's program, which names its weights by content."""
    with gb.connect(progress=False) as other:
        other.register("rows_given", ROWS)
        for name, kind, label in (("reg", "dnn_regressor", "y"), ("cls", "logistic_reg", "kind")):
            other.sql(TRAIN.format(name=name, kind=kind, label=label))
            for trial in (1, 2):
                here, there = (d.store.model(name, None, trial) for d in (db, other))
                assert here.replace(name="", version=0) == there.replace(name="", version=0)


QUERIES = {
    "filter": """SELECT id, PREDICT(reg, *) AS p FROM rows_given WHERE PREDICT(reg, *) > 1
ORDER BY id""",
    "group": """SELECT kind, avg(PREDICT(reg, *)) AS p, count(*) AS n FROM rows_given GROUP BY kind
ORDER BY kind""",
    "several": """SELECT id, PREDICT(cls, *) AS k, PREDICT_PROBA(cls, *) AS p FROM rows_given
ORDER BY id""",
    "twice": """SELECT count(*) AS n FROM (SELECT id, PREDICT(reg, *) AS p FROM rows_given) a
JOIN (SELECT id, PREDICT(reg, *) AS p FROM rows_given) b ON a.p = b.p AND a.id <= b.id""",
    "nested": """SELECT r.id, PREDICT(reg, r.*) AS p FROM rows_given r JOIN (SELECT id + 1 AS k FROM
rows_given WHERE PREDICT(cls, *) = 'red') s ON r.id = s.k ORDER BY r.id""",
    "table": "SELECT predicted_y, id FROM ML.PREDICT(MODEL reg, (SELECT * FROM rows_given)) "
    "ORDER BY id",
    "limit": "SELECT id, PREDICT(cls, *) AS k FROM rows_given WHERE id < 50 ORDER BY id LIMIT 7",
}


QUICK = ("nested",)


@pytest.mark.parametrize(
    "query",
    [
        pytest.param(q, id=n, marks=() if n in QUICK else pytest.mark.slow)
        for n, q in QUERIES.items()
    ],
)
def test_executors_predict_as_this_process(db, query):
    """Filter, group, join, two models, a nested prediction: the same rows."""
    here, there = (predicted(db, r, query) for r in ("dl", "executors"))
    assert here.keys() == there.keys()
    for name, column in here.items():
        if column and isinstance(column[0], float):
            assert there[name] == pytest.approx(column, rel=1e-5)
        elif column and isinstance(column[0], list):
            assert [v for p in there[name] for v in p] == pytest.approx(
                [v for p in column for v in p], rel=1e-5
            )
        else:
            assert there[name] == column


@pytest.mark.slow
def test_predictions_feed_spark(db):
    """CREATE TABLE AS over a prediction; the table is Spark's."""
    db.sql("CREATE OR REPLACE TEMP VIEW few AS SELECT * FROM rows_given WHERE id < 10")
    db.sql("DROP TABLE IF EXISTS spark_catalog.default.scored")
    db.sql("CREATE TABLE scored AS SELECT id, PREDICT(reg, *) AS p FROM few")
    assert db.engine.session.table("scored").count() == 10
    db.sql("DROP TABLE scored")


def test_infinite_value_on_an_executor(db):
    """Our error, not Spark's stack."""
    with pytest.raises(DataError, match="column `x` holds inf") as caught:
        predicted(
            db, "executors",
            "SELECT PREDICT(reg, *) FROM (SELECT id, CAST('inf' AS DOUBLE) AS x, kind FROM rows_given)",
        )  # fmt: skip
    assert "column x" in caught.value.at


def test_catalog_is_shown_to_spark(db):
    """Tables of schema gradbase and stored information join Spark's rows."""
    found = db.sql("SELECT m.name FROM gradbase.models m ORDER BY m.name").fetchall()
    assert found == [("cls",), ("reg",)]
    trials = db.sql(
        "SELECT count(*) FROM ML.TRIAL_INFO(MODEL reg) t JOIN rows_given r ON r.id = t.trial_id"
    )
    assert trials.fetchall() == [(2,)]


def test_a_store_of_objects(tmp_path):
    """Models are found by another session; what an executor is told of them, done here."""
    url, query = f"memory://{tmp_path}/models", "SELECT PREDICT(far, *) AS p FROM rows_given"
    with gb.connect(spark().newSession(), store=url, progress=False) as session:
        session.register("rows_given", ROWS)
        session.sql(TRAIN.format(name="far", kind="linear_reg", label="y"))
    with gb.connect(spark().newSession(), store=url, progress=False) as session:
        session.register("rows_given", ROWS)
        expected = predicted(session, "executors", query)["p"]  # memory is seen by no executor
        assert session.engine.capabilities.writers == 0
        (node,) = find(session.last_plan.root, Predict)
        context = session.context()
        task = mapped_view(node, "", {}, context, [], shared=False).arguments
        rows = ROWS.select(node.child.schema.names).combine_chunks().to_batches()
        (made,) = predict_batches(rows, *task)
        assert made["added0"].to_pylist() == pytest.approx(expected, rel=1e-5)


@pytest.mark.slow
def test_other_sessions_see_models_at_once(db, store):
    """Made here, used there; dropped there, gone here."""
    with gb.connect(spark().newSession(), store=store, progress=False) as other:
        other.register("rows_given", ROWS)
        before = db.model("reg").predict(ROWS)
        assert (other.model("reg").predict(ROWS) == before).all()
        other.sql(TRAIN.format(name="short", kind="linear_reg", label="y"))
        assert "short" in db.store.names()
        other.sql("DROP MODEL short")
        with pytest.raises(BindError, match="short"):
            db.sql("SELECT PREDICT(short, *) FROM rows_given")


@pytest.mark.slow
def test_names_of_any_shape(db):
    """Columns, views, models and labels with quotes, reserved words and Unicode."""
    for i, name in enumerate(NASTY):
        quoted = db.engine.dialect.identifier
        rows = pa.table(
            {name: [float(k % 9) for k in range(60)], "label": [name, "other'`\""] * 30}
        )
        db.register(f"v {name}", rows)
        plain = '"' + f"m {name}".replace('"', '""') + '"'
        db.sql(
            f"CREATE MODEL {plain} OPTIONS (model_type = 'logistic_reg', input_label_cols = ['label'],"
            f" max_epochs = 1, seed = 1) AS SELECT * FROM {quoted('v ' + name)}"
        )
        found = predicted(
            db, ("dl", "executors")[i % 2],
            f"SELECT DISTINCT PREDICT({plain}, *) AS p FROM {quoted('v ' + name)} WHERE "
            f"{quoted(name)} >= 0",
        )["p"]  # fmt: skip
        assert set(found) <= {name, "other'`\""}
        db.sql(f"DROP MODEL {plain}")
        db.unregister(f"v {name}")


@pytest.mark.slow
def test_types_work_or_are_refused_by_name(db):
    """Every type of Spark as a feature of a training."""
    good = ["true", "1Y", "1S", "1", "1L", "1.5F", "1.5D", "1.5BD", "'a'", "DATE'2024-01-01'",
            "TIMESTAMP'2024-01-01 00:00:00'", "TIMESTAMP_NTZ'2024-01-01 00:00:00'",
            "named_struct('a', 1)"]  # fmt: skip
    bad = {
        "X'00'": "blob", "INTERVAL '1' DAY": "interval", "INTERVAL '1' MONTH": "interval month",
        "map('a', 1)": "map<string,int>", "parse_json('1')": "variant",
    }  # fmt: skip
    text = (
        "CREATE OR REPLACE MODEL typed OPTIONS (model_type = 'linear_reg', input_label_cols = ['y'], "
        "max_epochs = 1, seed = 1) AS SELECT y, {columns} FROM rows_given"
    )
    db.sql(text.format(columns=", ".join(f"{v} AS c{i}" for i, v in enumerate(good))))
    for value, kind in bad.items():
        with pytest.raises((DataError, UnsupportedError, BindError), match=kind):
            db.sql(text.format(columns=f"{value} AS c"))
        passed = db.sql(f"SELECT {value} AS c, PREDICT(reg, *) AS p FROM rows_given LIMIT 1")
        assert len(passed.fetchall()) == 1
    db.sql("DROP MODEL typed")


@pytest.mark.slow
@pytest.mark.parametrize("representation", ["dl", "executors"])
def test_cancelled(db, representation):
    """From another thread; the session goes on."""
    timer = threading.Timer(1.5, db.cancel)
    timer.start()
    with pytest.raises(CancelledError):
        predicted(
            db, representation,
            "SELECT avg(PREDICT(reg, *)) FROM (SELECT a.id, a.id * 1.0D AS x, 'red' AS kind FROM "
            "range(200000) a CROSS JOIN range(200000) b WHERE (a.id * b.id) % 9999991 = 9)",
        )  # fmt: skip
    timer.join()
    assert db.sql("SELECT 1").fetchall() == [(1,)]


def test_results_that_the_driver_cannot_hold_come_partition_by_partition(db, monkeypatch):
    """Where Spark gives up on collecting them; other errors stay what they are."""
    from pyspark.errors import PySparkException
    from pyspark.sql.classic.dataframe import DataFrame

    said = ["Lost task 0.0: TaskResultLost (result lost from block manager)", "some other error"]

    def collect(_frame):
        raise PySparkException(said.pop(0))

    monkeypatch.setattr(DataFrame, "_collect_as_arrow", collect)
    found = db.sql("SELECT id FROM range(0, 1000, 1, 4)").arrow()
    assert found["id"].to_pylist() == list(range(1000))
    with pytest.raises(EngineError, match="some other error"):
        db.sql("SELECT 1").arrow()


def test_refusals(db, tmp_path):
    """What cannot be opened, said before anything starts."""
    with pytest.raises(BindError, match="store="):
        gb.connect("local[2]")
    with pytest.raises(BindError, match="keeps models itself"):
        gb.connect(":memory:", store=tmp_path)
    with pytest.raises(UnsupportedError, match="sftp"):
        gb.connect("local[2]", store="sftp://host/models")
    with pytest.raises(StoreError, match=r"Spark of local\[2\] already"):
        gb.connect("local[3]", store=tmp_path)
    with pytest.raises(EngineError, match="TABLE_OR_VIEW_NOT_FOUND"):
        db.sql("SELECT PREDICT(reg, *) FROM nowhere")
    with pytest.raises(UnsupportedError, match="cannot run predictions as `udf`"):
        predicted(db, "udf", "SELECT PREDICT(reg, *) FROM rows_given")
