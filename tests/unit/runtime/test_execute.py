"""Plans with predictions, run over DuckDB."""

from __future__ import annotations

import math
import threading

import numpy as np
import pyarrow as pa
import pytest
from small_models import Arrays, encoded, logits, mlp

from gradbase.engines import connect
from gradbase.errors import CancelledError, DataError, ResourceError, UnsupportedError
from gradbase.ir import relational as r
from gradbase.ir import scalar as s
from gradbase.ir.learning import Evaluate, Predict
from gradbase.ir.types import FLOAT64, INT64, TEXT
from gradbase.resources.broker import Broker
from gradbase.runtime.context import RunContext
from gradbase.runtime.execute import run

ROWS = 20_000
FEATURES = ("f0", "f1", "f2", "f3")


@pytest.fixture(scope="module")
def columns():
    return np.random.default_rng(0).normal(0, 1, (4, ROWS)).astype(np.float32)


@pytest.fixture(scope="module")
def engine(columns):
    made = connect(":memory:")
    features = dict(zip(FEATURES, columns, strict=True))
    label = np.where(columns[0] > 0, "yes", "no")
    made.register("frame", pa.table({"id": np.arange(ROWS), **features, "y": label}))
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
def model(arrays):
    return mlp(arrays, hidden=(16,), seed=3)


@pytest.fixture
def table(engine):
    return r.Scan("t", "", engine.schema("SELECT * FROM t"))


@pytest.fixture
def expected(model, arrays, columns):
    return 1 / (1 + np.exp(-logits(model, arrays, encoded(model, columns))[:, 0]))


def predict(child, model, methods=("proba",), names=("p",), *, representation="dl", batch_rows=0):
    return Predict(child, model, FEATURES, methods, names, representation, batch_rows)


def columns_of(relation, *names):
    return r.Project(relation, names, tuple(s.Column(n, relation.schema.type_of(n)) for n in names))


def compare(column, op, value, of=FLOAT64):
    return s.Compare(op, s.Column(column, of), s.Literal(value, of))


def count(relation):
    star = s.SqlScalar(("count(*)",), (), INT64)
    return r.Aggregate(relation, (), (), ("n",), (star,))


@pytest.mark.parametrize("representation", ["dl", "udf", ""])
@pytest.mark.parametrize("batch_rows", [0, 1000])
def test_probabilities_stand_beside_the_other_columns(
    context, table, model, expected, *, representation, batch_rows
):
    plan = columns_of(
        predict(table, model, representation=representation, batch_rows=batch_rows), "p", "id", "y"
    )
    found = run(plan, context).read_all()
    assert found.column_names == ["p", "id", "y"]
    assert found["id"].to_pylist() == list(range(ROWS))
    assert np.allclose(found["p"].to_numpy(), expected, atol=2e-6)


@pytest.mark.parametrize("representation", ["dl", "udf"])
def test_several_outputs_at_once(context, table, model, expected, representation):
    plan = predict(
        table, model, ("label", "proba", "probs"), ("l", "p", "q"), representation=representation
    )
    found = run(plan, context).read_all()
    assert found["l"].to_pylist() == np.where(found["p"].to_numpy() > 0.5, "yes", "no").tolist()
    assert found["q"][0].as_py()[1] == {"label": "yes", "prob": found["p"][0].as_py()}


@pytest.mark.parametrize("representation", ["dl", "udf"])
def test_sql_above_a_prediction(context, table, model, expected, representation):
    scored = predict(table, model, representation=representation)
    assert run(count(r.Filter(scored, compare("p", ">", 0.5))), context).read_all()[
        "n"
    ].to_pylist() == [(expected > 0.5).sum()]
    key = s.SqlScalar(("", " % 7"), (s.Column("id", INT64),), INT64)
    mean = s.SqlScalar(("avg(", ")"), (s.Column("p", FLOAT64),), FLOAT64)
    grouped = r.Sort(
        r.Aggregate(scored, ("k",), (key,), ("m",), (mean,)),
        (s.Column("k", INT64),),
        ("asc nulls last",),
    )
    found = run(grouped, context).read_all()
    assert np.allclose(found["m"].to_numpy(), [expected[i::7].mean() for i in range(7)], atol=1e-6)


def test_top_k_and_limits_stop_early(context, table, model, expected):
    scored = predict(table, model, batch_rows=256)
    top = r.Limit(r.Sort(scored, (s.Column("p", FLOAT64),), ("desc nulls last",)), 3)
    assert run(top, context).read_all()["id"].to_pylist() == np.argsort(-expected)[:3].tolist()
    before = context.metrics["predicted_rows"]
    found = run(r.Limit(scored, 5, 2), context).read_all()
    assert found["id"].to_pylist() == [2, 3, 4, 5, 6]
    assert context.metrics["predicted_rows"] - before < ROWS


def test_simple_filters_and_columns_never_go_back_to_the_engine(
    context, table, model, expected, monkeypatch
):
    asked = []
    stream = context.engine.stream
    monkeypatch.setattr(
        context.engine,
        "stream",
        lambda sql, *a, **k: asked.append(k["views"]) or stream(sql, *a, **k),
    )
    scored = predict(table, model)
    condition = s.And(
        (
            compare("p", ">", 0.5),
            s.Not(compare("id", "<", 100, INT64)),
            s.Not(s.IsNull(s.Column("y", TEXT))),
        )
    )
    found = run(columns_of(r.Filter(scored, condition), "id"), context).read_all()
    assert found["id"].to_pylist() == [i for i in range(100, ROWS) if expected[i] > 0.5]
    assert asked == [{}]


def test_a_prediction_used_twice_is_computed_once(context, table, model):
    scored = predict(table, model)
    above, below = (r.Filter(scored, compare("p", op, 0.5)) for op in (">", "<="))
    both = r.Union((columns_of(above, "id"), columns_of(below, "id")), keep_duplicates=True)
    assert run(count(both), context).read_all()["n"].to_pylist() == [ROWS]
    assert context.metrics["predicted_rows"] == ROWS
    names = [n for n, _ in engine_columns(scored)]
    right = r.Project(
        scored,
        tuple(f"r.{n}" for n in names),
        tuple(s.Column(n, t) for n, t in engine_columns(scored)),
    )
    condition = s.SqlScalar(
        ("", " = ", ""), (s.Column("id", INT64), s.Column("r.id", INT64)), s.BOOL
    )
    assert run(count(r.Join(scored, right, "inner", condition)), context).read_all()[
        "n"
    ].to_pylist() == [ROWS]
    assert context.metrics["predicted_rows"] == 2 * ROWS


def engine_columns(relation):
    return [(f.name, f.type) for f in relation.schema]


def test_a_prediction_can_be_a_feature_of_another(context, table, model, arrays):
    scored = r.Filter(predict(table, model), compare("p", ">", 0.9))
    stacked = Predict(scored, mlp(arrays, width=2, name="second"), ("p", "f1"), ("proba",), ("q",))
    found = run(stacked, context).read_all()
    assert found.num_rows > 0
    assert found.column_names[-2:] == ["p", "q"]


def test_a_prediction_over_sql_over_a_prediction(context, table, model, arrays):
    mean = s.SqlScalar(("avg(", ")"), (s.Column("p", FLOAT64),), FLOAT64)
    grouped = r.Aggregate(predict(table, model), ("y",), (s.Column("y", TEXT),), ("m",), (mean,))
    again = Predict(grouped, mlp(arrays, width=1, name="second"), ("m",), ("proba",), ("q",))
    assert run(again, context).read_all().num_rows == 2


def test_predictions_left_inside_text_are_functions_of_the_engine(context, table, model, expected):
    call = s.PredictCall(
        model, "proba", tuple(s.Column(f, table.schema.type_of(f)) for f in FEATURES)
    )
    text = ("SELECT max(", ") OVER () AS m FROM t LIMIT 1")
    fragment = r.SqlFragment(text, (), r.Schema.of(m=FLOAT64), ("t",), (call,), (0,))
    assert run(fragment, context).read_all()["m"][0].as_py() == pytest.approx(
        expected.max(), abs=1e-6
    )


@pytest.mark.parametrize("representation", ["dl", "udf"])
@pytest.mark.parametrize("where", ["id < 0", "id = 7"])
def test_no_row_and_one_row(context, table, model, representation, where):
    few = r.Filter(table, s.SqlScalar((where,), (), s.BOOL))
    scored = predict(few, model, ("label", "proba"), ("l", "p"), representation=representation)
    found = run(scored, context).read_all()
    assert found.schema.field("p").type == pa.float64()
    assert found.num_rows == ("=" in where)
    assert run(count(scored), context).read_all()["n"].to_pylist() == [found.num_rows]
    none = r.Filter(predict(table, model), compare("p", ">", 2.0))
    assert run(none, context).read_all().num_rows == 0


@pytest.mark.parametrize("above", [False, True])
def test_infinite_values_are_named_also_through_the_engine(context, model, above):
    context.engine.run(
        "CREATE OR REPLACE TABLE bad AS SELECT * REPLACE (CASE WHEN id = 15000 THEN 'inf'::FLOAT ELSE f1 END AS f1) FROM t"
    )
    scored = predict(r.Scan("bad", "", context.engine.schema("SELECT * FROM bad")), model)
    with pytest.raises(DataError, match="column `f1` holds inf in row 15001"):
        run(count(scored) if above else scored, context).read_all()
    with pytest.raises(DataError, match="column `f1` holds inf"):
        run(predict(scored.child, model, representation="udf"), context).read_all()


def test_missing_values_are_imputed(context, table, model, arrays, columns):
    f1 = s.SqlScalar(
        ("CASE WHEN id % 3 = 0 THEN NULL WHEN id % 3 = 1 THEN 'nan' ELSE f1 END",), (), FLOAT64
    )
    holes = r.Project(
        table,
        ("id", *FEATURES),
        (
            s.Column("id", INT64),
            *(f1 if f == "f1" else s.Column(f, table.schema.type_of(f)) for f in FEATURES),
        ),
    )
    x = columns.copy()
    x[1, [i for i in range(ROWS) if i % 3 < 2]] = math.nan
    expected = 1 / (1 + np.exp(-logits(model, arrays, encoded(model, x))[:, 0]))
    assert np.allclose(
        run(predict(holes, model), context).read_all()["p"].to_numpy(), expected, atol=2e-6
    )


def test_dear_models_compute_in_threads_and_keep_the_order(context, table, arrays, columns):
    model = mlp(arrays, hidden=(512, 64))
    expected = 1 / (1 + np.exp(-logits(model, arrays, encoded(model, columns))[:, 0]))
    before = threading.active_count()
    found = run(predict(table, model, batch_rows=256), context).read_all()
    assert np.allclose(found["p"].to_numpy(), expected, atol=5e-6)
    assert found["id"].to_pylist() == list(range(ROWS))
    result = run(predict(table, model, batch_rows=256), context)
    next(iter(result))
    result.close()
    assert threading.active_count() == before
    assert context.broker.leases() == []


def test_parameters_reach_both_sides(context, table, model, expected):
    context.parameters = {"low": 0.5, "most": 1000}
    few = r.Filter(table, s.SqlScalar(("id < $most",), (), s.BOOL))
    above = r.Filter(
        predict(few, model), s.Compare(">", s.Column("p", FLOAT64), s.Parameter("low", FLOAT64))
    )
    assert run(count(above), context).read_all()["n"].to_pylist() == [(expected[:1000] > 0.5).sum()]


@pytest.mark.parametrize("above", [False, True])
def test_cancelling_stops_between_batches(context, table, model, above):
    scored = predict(table, model, batch_rows=256)
    result = run(scored, context)
    batches = iter(result)
    next(batches)
    context.cancelled.set()
    with pytest.raises(CancelledError):
        list(batches)
    result.close()
    if above:
        with pytest.raises(CancelledError):
            run(count(scored), context).read_all()
    assert context.broker.leases() == []


def test_little_memory_means_small_batches_and_too_little_is_refused(
    context, table, model, expected
):
    context.broker.resize(2, 1 << 20)
    sizes = [b.num_rows for b in run(predict(table, model), context)]
    assert max(sizes) < 8192
    context.broker.resize(2, 1000)
    with pytest.raises(ResourceError, match="predict m asked for"):
        run(predict(table, model), context)


def test_leases_are_held_while_running_and_given_back(context, table, model):
    result = run(predict(table, model), context)
    next(iter(result))
    assert [lease.purpose for lease in context.broker.leases()] == ["predict m"]
    result.close()
    assert context.broker.leases() == []


def test_counters_count(context, table, model):
    run(columns_of(predict(table, model), "id", "p"), context).read_all()
    found = dict(context.metrics.rows())
    assert found["queries"] == 1
    assert found["rows"] == found["predicted_rows"] == ROWS
    assert found["bytes"] >= ROWS * 16
    assert found["seconds"] > 0


def test_evaluation_gives_one_row_of_metrics(context, table, model, expected, columns):
    found = run(Evaluate(table, model, FEATURES, "y"), context).read_all().to_pylist()[0]
    accuracy = ((expected > 0.5) == (columns[0] > 0)).mean()
    assert found["accuracy"] == pytest.approx(accuracy)
    strict = (
        run(Evaluate(table, model, FEATURES, "y", threshold=0.9), context).read_all().to_pylist()[0]
    )
    assert strict["recall"] < found["recall"]
    assert strict["roc_auc"] == found["roc_auc"]


def test_evaluation_leaves_out_rows_without_label_and_refuses_unknown_ones(context, table, model):
    def labelled(text):
        y = s.SqlScalar((text,), (), TEXT)
        return r.Project(
            table, (*FEATURES, "y"), (*(s.Column(f, table.schema.type_of(f)) for f in FEATURES), y)
        )

    some = run(Evaluate(labelled("CASE WHEN id < 10 THEN y END"), model, FEATURES, "y"), context)
    assert some.read_all()["accuracy"][0].as_py() in [i / 10 for i in range(11)]
    none = run(Evaluate(labelled("NULL::TEXT"), model, FEATURES, "y"), context).read_all()
    assert none.to_pylist() == [dict.fromkeys(none.column_names)]
    with pytest.raises(
        DataError, match="label `maybe` in row 1 is none of the model's classes no, yes"
    ):
        run(Evaluate(labelled("'maybe'"), model, FEATURES, "y"), context).read_all()


def test_evaluation_of_regression_is_in_the_labels_unit(context, table, arrays, columns):
    model = mlp(arrays, task="regression")
    error = logits(model, arrays, encoded(model, columns))[:, 0] * 2 + 10 - columns[0]
    found = run(Evaluate(table, model, FEATURES, "f0"), context).read_all().to_pylist()[0]
    assert found["mean_squared_error"] == pytest.approx((error**2).mean(), rel=1e-5)


def test_training_is_no_part_of_a_query(context, table):
    from gradbase.ir.learning import Dataset, Fit, Mlp, Optimizer, Search, Split

    data = Dataset(table, FEATURES, "y", "binary", Split("random", 0.2, 0.0), (), 1, 0)
    fit = Fit(
        data,
        0,
        Mlp((4,)),
        Optimizer("sgd", 0.1),
        32,
        1,
        early_stop=False,
        min_rel_progress=0.0,
        auto_class_weights=False,
        seed=0,
    )
    with pytest.raises(UnsupportedError, match="training stands only at the root"):
        run(r.Limit(Search("m", (fit,), "roc_auc", "grid"), 1), context)
