"""ROC curves, confusion matrices, comparisons and drift, against scikit-learn and plain NumPy."""

from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
import pytest
from sklearn import metrics as sk
from small_models import Arrays, encoded, heads, logits, mlp

from gradbase.engines import connect
from gradbase.ir import relational as r
from gradbase.ir.conversion import Category, ToTensor
from gradbase.ir.inspection import (
    ClassCounts,
    CompareModels,
    ConfusionMatrix,
    DriftColumn,
    Keep,
    RocCurve,
    SchemaDrift,
    ScoreCounts,
)
from gradbase.ir.learning import Evaluate, Feature, Model
from gradbase.ir.scalar import Column
from gradbase.ir.tensor import Const, Linear, OneHot
from gradbase.ir.types import FLOAT64, INT64, TEXT, SqlType
from gradbase.resources.broker import Broker
from gradbase.runtime.context import RunContext
from gradbase.runtime.execute import run

ROWS = 3_000
FEATURES = ("f0", "f1", "f2", "f3")


@pytest.fixture(scope="module")
def columns():
    return np.random.default_rng(0).normal(0, 1, (4, ROWS)).astype(np.float32)


@pytest.fixture(scope="module")
def engine(columns):
    made = connect(":memory:")
    noise = np.random.default_rng(1).normal(0, 1, ROWS)
    label = np.where(columns[0] + noise > 0, "yes", "no")
    three = np.array(["a", "b", "c"])[np.digitize(columns[1] + noise, (-0.5, 0.5))]
    frame = {**dict(zip(FEATURES, columns, strict=True)), "y": label, "k": three}
    made.register("frame", pa.table({"id": np.arange(ROWS), **frame}))
    made.run("CREATE TABLE t AS SELECT * FROM frame")
    yield made
    made.close()


@pytest.fixture
def arrays():
    return Arrays()


@pytest.fixture
def context(engine, arrays):
    return RunContext(engine, arrays, Broker(2, 1 << 30))


@pytest.fixture
def table(engine):
    return r.Scan("t", "", engine.schema("SELECT * FROM t"))


def rows_of(relation, context):
    return run(relation, context).read_all().to_pylist()


def label_of(engine, name="y"):
    return np.array(engine.fetch(f"SELECT {name} FROM t ORDER BY id")[name].to_pylist())


def scored(model, engine, arrays, columns):
    """Scores in float64 and whether the label is positive."""
    z = logits(model, arrays, encoded(model, columns))[:, 0]
    return 1 / (1 + np.exp(-z.astype(np.float64))), label_of(engine) == "yes"


# -- ROC ---------------------------------------------------------------------------------------


def test_a_curve_is_that_of_scikit_learn(engine, arrays, context, table, columns):
    """Every point lies on it, and the area under the points is nearly the whole."""
    model = mlp(arrays, hidden=(16,), seed=3)
    found = rows_of(RocCurve(ScoreCounts(table, model, FEATURES, "y")), context)
    score, positive = scored(model, engine, arrays, columns)
    assert len(found) == 102
    assert (found[0]["threshold"], found[0]["recall"], found[0]["false_positive_rate"]) == (0, 1, 1)
    assert (found[-1]["recall"], found[-1]["false_positive_rate"]) == (0, 0)
    for row in found:
        above = score > row["threshold"] + 1e-7 * (row["threshold"] > 0)
        assert row["true_positives"] == pytest.approx((above & positive).sum(), abs=1)
        assert row["true_positives"] + row["false_negatives"] == positive.sum()
        assert row["false_positives"] + row["true_negatives"] == (~positive).sum()
        assert row["recall"] == row["true_positives"] / positive.sum()
        assert row["false_positive_rate"] == row["false_positives"] / (~positive).sum()
    area = sk.auc([p["false_positive_rate"] for p in found], [p["recall"] for p in found])
    assert area == pytest.approx(sk.roc_auc_score(positive, score), abs=0.002)


def test_thresholds_are_the_percentiles_of_the_scores(engine, arrays, context, table, columns):
    """Scores that occur, each exceeded by so many rows."""
    model = mlp(arrays, hidden=(16,), seed=3)
    found = rows_of(RocCurve(ScoreCounts(table, model, FEATURES, "y")), context)
    above = [p["true_positives"] + p["false_positives"] for p in found[1:]]
    expected = [ROWS - max(math.ceil(p * ROWS / 100), 1) for p in range(101)]
    assert above == expected


def test_thresholds_of_one_s_own(engine, arrays, context, table, columns):
    """In their order; at one half the curve says what the confusion matrix says."""
    model = mlp(arrays, hidden=(16,), seed=3)
    thresholds = (0.0, 0.25, 0.5, 0.99, 1.0)
    curve = RocCurve(ScoreCounts(table, model, FEATURES, "y"), thresholds)
    found = rows_of(curve, context)
    assert tuple(p["threshold"] for p in found) == thresholds
    score, positive = scored(model, engine, arrays, columns)
    for point in found:
        expected = ((score > point["threshold"]) & positive).sum()
        assert point["true_positives"] == pytest.approx(expected, abs=1)
    for threshold in thresholds:
        counts = ClassCounts(table, model, FEATURES, "y", threshold)
        matrix = rows_of(ConfusionMatrix(counts, model.outputs[0].classes, ("no", "yes")), context)
        (point,) = (p for p in found if p["threshold"] == threshold)
        assert [list(m.values())[1:] for m in matrix] == [
            [point["true_negatives"], point["false_positives"]],
            [point["false_negatives"], point["true_positives"]],
        ]


@pytest.mark.parametrize("where", ["id < 0", "y = 'no'"])
def test_curves_of_no_rows_and_of_one_class(where, engine, arrays, context):
    """What has no cases has no share."""
    model = mlp(arrays, seed=3)
    sql = f"SELECT * FROM t WHERE {where}"
    rows = r.SqlFragment((sql,), (), engine.schema(sql))
    found = rows_of(RocCurve(ScoreCounts(rows, model, FEATURES, "y"), (0.5,)), context)
    assert found[0]["recall"] is None
    assert found[0]["true_positives"] == found[0]["false_negatives"] == 0
    assert (found[0]["false_positive_rate"] is None) == ("id" in where)
    assert rows_of(RocCurve(ScoreCounts(rows, model, FEATURES, "y")), context)[0]["threshold"] == 0


def test_counts_may_come_from_a_table(engine, context):
    """In any order, as training keeps them."""
    sql = "SELECT * FROM (VALUES (2.0::DOUBLE, 0::BIGINT, 3::BIGINT), (-1.0, 2, 1)) s(logit, negatives, positives)"
    stored = r.SqlFragment((sql,), (), engine.schema(sql))
    found = rows_of(RocCurve(stored, (0.0, 0.5)), context)
    assert [(p["true_positives"], p["false_positives"]) for p in found] == [(4, 2), (3, 0)]
    matrix = ConfusionMatrix(
        RocCurve(stored, (0.5,)), heads(Const((0.0,), (1, 1)), "binary")[0].classes, ("no", "yes")
    )
    assert [tuple(m.values()) for m in rows_of(matrix, context)] == [("no", 2, 0), ("yes", 1, 3)]


# -- confusion ---------------------------------------------------------------------------------


def test_a_matrix_is_that_of_scikit_learn(engine, arrays, context, table, columns):
    """Of three classes; those that are never predicted have columns too."""
    labels = ("a", "b", "c")
    model = mlp(arrays, task="multiclass", outputs=3, labels=labels, seed=5)
    counts = ClassCounts(table, model, FEATURES, "k")
    found = rows_of(ConfusionMatrix(counts, model.outputs[0].classes, labels), context)
    z = logits(model, arrays, encoded(model, columns))
    expected = sk.confusion_matrix(label_of(engine, "k"), np.array(labels)[z.argmax(1)])
    assert [[m[n] for n in labels] for m in found] == expected.tolist()
    assert [m["expected_label"] for m in found] == list(labels)


def test_a_matrix_of_no_rows_is_zero(engine, arrays, context):
    """A row per class all the same."""
    model = mlp(arrays, task="multiclass", outputs=3, labels=("a", "b", "c"))
    sql = "SELECT * FROM t WHERE id < 0"
    rows = r.SqlFragment((sql,), (), engine.schema(sql))
    counts = ClassCounts(rows, model, FEATURES, "k")
    names = ("a", "b", "c")
    found = rows_of(ConfusionMatrix(counts, model.outputs[0].classes, names), context)
    assert [[m[n] for n in names] for m in found] == [[0, 0, 0]] * 3


# -- comparing ---------------------------------------------------------------------------------


def compared(first, second, table, *, metrics=True):
    kept = Keep(table)
    from gradbase.frontend.features import METHOD
    from gradbase.ir.learning import Predict

    of = METHOD[first.task]
    one = Predict(kept, first, FEATURES, (of,), ("p",), "dl", 256)
    both = Predict(one, second, FEATURES, (of,), ("q",), "dl", 256)
    pairs = r.Project(both, ("first", "second"), tuple(
        Column(n, m.output(of).type) for n, m in (("p", first), ("q", second))))  # fmt: skip
    judged = tuple(Evaluate(kept, m, FEATURES, "y", 0.5, "dl", 256) for m in (first, second))
    return CompareModels(judged if metrics else (), pairs)


def test_two_models_are_compared_on_the_same_rows(engine, arrays, context, columns):
    """Although the rows are drawn anew at every reading: one reading serves all."""
    models = [mlp(arrays, hidden=(16,), seed=s, name=f"m{s}") for s in (3, 4)]
    sql = "SELECT * REPLACE (CASE WHEN random() < 0.5 THEN 'yes' ELSE 'no' END AS y) FROM t"
    rows = r.SqlFragment((sql,), (), engine.schema(sql))
    found = {m["metric"]: m for m in rows_of(compared(models[0], models[0], rows), context)}
    assert all(m["difference"] == 0 for m in found.values())
    found = {m["metric"]: m for m in rows_of(compared(*models, rows), context)}
    signs = [logits(m, arrays, encoded(m, columns))[:, 0] > 0 for m in models]
    expected = (signs[0] != signs[1]).mean()
    assert found["different_predictions"]["difference"] == pytest.approx(expected, abs=2 / ROWS)
    assert found["different_predictions"]["first"] is None
    a, b = found["accuracy"]["first"], found["accuracy"]["second"]
    assert found["accuracy"]["difference"] == b - a != 0


def test_regressions_differ_by_so_much(engine, arrays, context, columns):
    """The mean distance of what they predict."""
    models = [mlp(arrays, task="regression", seed=s, name=f"m{s}") for s in (3, 4)]
    table = r.Scan("t", "", engine.schema("SELECT * FROM t"))
    found = rows_of(compared(*models, table, metrics=False), context)
    assert [m["metric"] for m in found] == ["different_predictions", "mean_absolute_difference"]
    z = [logits(m, arrays, encoded(m, columns))[:, 0] for m in models]
    expected = np.abs(2.0 * (z[0] - z[1])).mean()
    assert found[1]["difference"] == pytest.approx(expected, rel=1e-4)
    assert found[0]["difference"] > 0.99


def test_no_rows_do_not_differ(engine, arrays, context):
    """NULL for everything."""
    sql = "SELECT * FROM t WHERE id < 0"
    rows = r.SqlFragment((sql,), (), engine.schema(sql))
    model = mlp(arrays, seed=3)
    assert {m["difference"] for m in rows_of(compared(model, model, rows), context)} == {None}


# -- drift -------------------------------------------------------------------------------------


def test_rows_are_measured_against_training(engine, context):
    """Missing values, NaN included; unseen categories among those there are; means."""
    colour = ToTensor("colour", Category(("blue", "red"), 3))
    logit = Linear(OneHot(colour, 4), Const((1.0, 1.0, 1.0), (1, 3)))
    features = (Feature("colour", TEXT), Feature("x", FLOAT64), Feature("d", SqlType("date")))
    model = Model("m", 1, 1, "binary", "y", features, heads(logit, "binary"))
    sql = (
        "SELECT * FROM (VALUES ('red', 1.0::DOUBLE, DATE '1970-01-02', '1'), ('green', 'nan', NULL, '2'), "
        "(NULL, NULL, DATE '1970-01-04', '3'), ('blue', 3, NULL, NULL)) s(colour, x, d, n)"
    )
    rows = r.SqlFragment((sql,), (), engine.schema(sql))
    columns = (
        DriftColumn("colour", "ok", TEXT, TEXT, "colour", 0.5),
        DriftColumn("x", "ok", FLOAT64, FLOAT64, "x", 0.0, 2.5),
        DriftColumn("d", "ok", SqlType("date"), SqlType("date"), "d"),
        DriftColumn("n", "type changed", INT64, TEXT, "n", mean=1.0),
        DriftColumn("gone", "missing", INT64, mean=4.0),
        DriftColumn("more", "extra", found=TEXT, name="more"),
    )
    found = {d["column_name"]: d for d in rows_of(SchemaDrift(rows, model, columns), context)}
    shares = {n: (d["null_share"], d["unseen_share"], d["mean"]) for n, d in found.items()}
    assert shares["colour"] == (0.25, 1 / 3, None)
    assert shares["x"] == (0.5, None, 2.0)
    assert shares["d"] == (0.5, None, 2 * 86_400.0)
    assert shares["n"] == (0.25, None, None)
    assert shares["gone"] == shares["more"] == (None, None, None)
    assert found["colour"]["trained_null_share"] == 0.5
    assert (found["n"]["trained_type"], found["n"]["found_type"]) == ("int64", "text")
    assert (found["gone"]["trained_mean"], found["gone"]["found_type"]) == (4.0, None)
    none = r.Limit(rows, 0)
    assert rows_of(SchemaDrift(none, model, columns[:1]), context)[0]["null_share"] is None
