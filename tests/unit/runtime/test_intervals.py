"""What is known of a network's values, and networks from which settled units are gone."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

import gradbase as gb
from gradbase.errors import DataError
from gradbase.ir.conversion import Category, Numeric, ToTensor
from gradbase.ir.facts import Range, Settled
from gradbase.ir.tensor import Concat, Const, Embedding, Linear, OneHot, Unary
from gradbase.optimizer.analyses import ranges
from gradbase.optimizer.rules import fold_settled_units
from gradbase.runtime.intervals import Intervals
from gradbase.runtime.weight_facts import WeightFacts

A = ToTensor("a", Numeric(1.0, 2.0, indicator=True))
B = ToTensor("b", Numeric(0.0, -1.0, indicator=False))
KIND = ToTensor("kind", Category(("x", "y"), 3))


def interval(tensor, known, *, imported=False):
    def constant(t):
        return np.array(t.values).reshape(t.dims)

    found = Intervals(known, constant, imported=imported).of([tensor]).get(tensor)
    return None if found is None else [(float(a), float(b)) for a, b in zip(*found, strict=True)]


@pytest.mark.parametrize(
    ("tensor", "known", "expected"),
    [
        (A, Range(2, 3, missing=False), [(2, 4), (0, 0)]),
        (A, Range(2, 3), [(0, 4), (0, 1)]),  # a missing value is the mean
        (A, Range(2, missing=False), [(2, math.inf), (0, 0)]),
        (A, Range(), [(-math.inf, math.inf), (0, 1)]),
        (B, Range(2, 3, missing=False), [(-3, -2)]),
        (OneHot(KIND, 4), Range(), [(0, 1)] * 3),
        (Embedding(KIND, Const((1.0, 5.0, -2.0, 0.0), (4, 1))), Range(), [(-2, 5)]),
        (Linear(B, Const((0.0, 2.0), (2, 1)), Const((1.0, 1.0), (2,))), Range(), [(1, 1), (-math.inf, math.inf)]),
        (Linear(B, Const((2.0,), (1, 1))), Range(1, missing=False), [(-math.inf, -2)]),
        (Unary("relu", Linear(B, Const((2.0,), (1, 1)))), Range(-1, 2, missing=False), [(0, 2)]),
        # Of one column only one place is 1: the sum of 3 and 4 is not reached.
        (Linear(OneHot(KIND, 4), Const((3.0, 4.0, -1.0), (1, 3))), Range(), [(-1, 4)]),
        (Linear(Embedding(KIND, Const((1.0, -1.0, -2.0, 2.0), (2, 2))), Const((1.0, 1.0), (1, 2))),
         Range(), [(0, 0)]),
        (Concat((B, B)), Range(0, 1, missing=False), [(-1, 0)] * 2),
        (Unary("gelu", B), Range(0, 1), None),
    ],
)  # fmt: skip
def test_intervals(tensor, known, expected):
    assert interval(tensor, {"a": known, "b": known}) == expected


@pytest.mark.parametrize("known", [Range(), Range(0, 1), Range(0, missing=False)])
def test_of_an_imported_network_nothing_is_known_where_nan_or_infinity_may_come_in(known):
    """0 * inf is NaN, so not even a weight of 0 helps."""
    layer = Linear(B, Const((0.0,), (1, 1)))
    assert interval(layer, {"b": known}, imported=True) is None
    assert interval(layer, {"b": Range(0, 1, missing=False)}, imported=True) == [(0, 0)]


def test_random_networks_stay_inside_of_their_intervals():
    random = np.random.default_rng(3)
    weights = [random.normal(size=s).round(2) for s in ((3, 2), (2, 3))]
    first = Linear(Concat((B, ToTensor("c", B.encoding))), Const(tuple(weights[0].ravel()), (3, 2)))
    second = Unary("tanh", Linear(Unary("relu", first), Const(tuple(weights[1].ravel()), (2, 3))))
    x = -random.uniform(-1, 2, (1000, 2))
    values = np.tanh(np.maximum(x @ weights[0].T, 0) @ weights[1].T)
    known = dict.fromkeys("bc", Range(-1, 2, missing=False))
    low, high = np.array(interval(second, known)).T
    assert (low <= values.min(0)).all()
    assert (values.max(0) <= high).all()


def test_units_that_relu_settles(db):
    inner = Linear(B, Const((1.0, -1.0, 1.0, 0.0), (4, 1)), Const((0.0, 0.0, 1.5, -1.0), (4,)))
    unit = Unary("relu", inner)
    found = WeightFacts(db.store.blobs).settled(
        [unit], {"b": Range(0, 1, missing=False)}, imported=False
    )
    assert found == {unit: Settled(dead=(0, 3), linear=(1, 2))}


# -- networks that lose units ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def db():
    with gb.connect(progress=False) as session:
        session.sql(
            "CREATE TABLE t AS SELECT i AS id, CASE WHEN i % 7 = 1 THEN NULL WHEN i % 7 = 2 THEN 'nan' "
            "ELSE sin(i) END::DOUBLE AS a, CASE WHEN i % 7 > 1 THEN sin(i) END AS e, i % 5 AS b, cos(i) AS c, ['x', 'y', NULL][i % 3 + 1] AS kind, "
            "CASE WHEN i < 2 THEN 'inf'::DOUBLE ELSE sin(i * 3) END AS d FROM range(140) r(i)"
        )
        _models(session)
        yield session


def _models(session):
    torch.manual_seed(1)
    for name, outputs in (("one", 1), ("three", 3), ("wide", 6)):
        net = torch.nn.Sequential(
            torch.nn.Linear(2, 24), torch.nn.ReLU(), torch.nn.Linear(24, 12), torch.nn.ReLU(),
            torch.nn.Linear(12, outputs),
        )  # fmt: skip
        session.import_model(name, net, features=["b", "c"])
        if name == "one":
            session.import_model("nullable", net, features=["a", "c"])
    session.sql(
        "CREATE MODEL own OPTIONS (model_type = 'dnn_regressor', input_label_cols = ['y'], max_epochs = 3, "
        "hidden_units = [16, 8], learn_rate = 0.05, seed = 1) AS "
        "SELECT e, b, kind, d, coalesce(sin(id), 0) + b AS y FROM t WHERE isfinite(d)"
    )


@pytest.fixture
def eager(monkeypatch):
    """Where little is computed too."""
    monkeypatch.setattr(fold_settled_units, "_SETUP_S", 0.0)
    monkeypatch.setattr(ranges, "_SMALL", 0.0)


def both(db, query):
    """The rows with all rules and with none."""
    db.sql("SET gradbase.optimizer = 'off'")
    expected = db.sql(query).fetchall()
    db.sql("RESET gradbase.optimizer")
    return db.sql(query).fetchall(), expected


def flat(row):
    """Numbers of a row, those in lists too."""
    return [v for part in row for v in (part if isinstance(part, list) else [part])]


FIRES = [
    ("one", "b, c", "b > 3 AND c > 0.5 AND c < 0.9"),
    ("one", "b, c", "b >= 4 AND c >= 0.5 AND c <= 0.5"),
    ("one", "b, c", "true"),  # by the bounds of the table
    ("three", "b, c", "b > 3 AND c > 0.5 AND c < 0.9"),
    ("wide", "b, c", "b > 3 AND c > 0.5 AND c < 0.9"),
    ("nullable", "a, c", "a > 0.6 AND a < 0.7 AND c > 0.1"),
    ("own", "e, b, kind, d", "e > 0.9 AND e < 1.0 AND b > 3 AND d > 0.9 AND d < 1.0"),
    ("own", "e, b, kind, d", "b > 3 AND d > 0.5 AND d < 0.6"),  # e may be missing
]


@pytest.mark.parametrize(("model", "columns", "where"), FIRES)
def test_networks_without_settled_units_say_the_same(db, eager, model, columns, where):
    query = f"SELECT id, PREDICT({model}, {columns}) AS p FROM t WHERE {where} ORDER BY id"
    found, expected = both(db, query)
    assert "fold_settled_units" in db.last_plan.rules
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert flat(one) == pytest.approx(flat(other), rel=1e-5, abs=1e-5, nan_ok=True)


@pytest.mark.parametrize(
    ("model", "columns", "where"),
    [
        ("nullable", "a, c", "a > 0.6 AND c < 0.9"),  # NaN is above 0.6
        ("nullable", "a, c", "true"),
        ("one", "b, d", "b > 3 AND d > 0.9"),  # infinity is above 0.9
    ],
)
def test_units_stay_where_nan_or_infinity_would_pass_through_them(db, eager, model, columns, where):
    found, expected = both(db, f"SELECT id, PREDICT({model}, {columns}) FROM t WHERE {where}")
    assert "fold_settled_units" not in db.last_plan.rules
    assert repr(found) == repr(expected)


def test_an_infinite_value_is_still_an_error(db, eager):
    with pytest.raises(DataError, match="d"):
        db.sql("SELECT PREDICT(own, e, b, kind, d) FROM t WHERE d > 0.9 AND b >= 0").fetchall()


def test_little_work_is_left_alone(db):
    db.sql("SELECT PREDICT(one, b, c) FROM t WHERE b > 3 AND c > 0.5 AND c < 0.9").fetchall()
    assert "fold_settled_units" not in db.last_plan.rules


def test_explain_says_what_was_folded(db, eager):
    text = db.explain("SELECT PREDICT(one, b, c) FROM t WHERE b > 3 AND c > 0.5 AND c < 0.9")
    assert "of its hidden units" in str(text)
