"""What the optimiser is told of weights, and networks from which idle features are gone."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import gradbase as gb
from gradbase.ir.imported import Trees
from gradbase.ir.node import find
from gradbase.ir.tensor import Const, Param
from gradbase.runtime.weight_facts import WeightFacts

ROWS = 120


@pytest.fixture(scope="module")
def db():
    with gb.connect(progress=False) as session:
        session.sql(
            f"CREATE TABLE t AS SELECT i AS id, i % 9 AS a, i % 5 AS b, i % 4 AS c, sin(i) AS d FROM "
            f"range({ROWS}) r(i)"
        )
        _import(session)
        yield session


def _import(session):
    from sklearn.ensemble import GradientBoostingRegressor, RandomForestRegressor

    x = np.stack([np.arange(ROWS) % 9, np.arange(ROWS) % 5, np.arange(ROWS) % 4], 1).astype(float)
    y = (x[:, 0] > 4) + 2.0 * (x[:, 2] > 1)
    x[:, 1] = 0  # nothing to split by
    forest = RandomForestRegressor(6, max_depth=4, random_state=0).fit(x, y)
    session.import_model("forest", forest, features=["a", "b", "c"], label="y")
    stumps = GradientBoostingRegressor(n_estimators=12, max_depth=1, random_state=0).fit(x, y)
    session.import_model("stumps", stumps, features=["a", "b", "c"], label="y")
    towers = _Towers()
    session.import_model("towers", towers, features=["a", "b", "c", "d"])


class _Towers(torch.nn.Module):
    """One tower reads a and b, of which b is idle; the other c and d, both idle."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.one, self.other = torch.nn.Linear(2, 3), torch.nn.Linear(2, 3)
        with torch.no_grad():
            self.one.weight[:, 1] = 0
            self.other.weight[:] = 0

    def forward(self, x):
        return (self.one(x[:, :2]).relu() * self.other(x[:, 2:])).sum(dim=1, keepdim=True)


def facts(db):
    return WeightFacts(db.store.blobs)


def test_columns_of_zeros_are_idle(db):
    weight = Const((1.0, 0.0, 0.0, 2.0, 0.0, float("nan")), (2, 3))
    assert facts(db).idle(weight) == {1}


def test_what_is_large_is_not_looked_at(db):
    assert facts(db).idle(Param("no such blob", (1024, 1025))) is None


def test_a_missing_blob_is_for_whoever_runs_the_plan(db):
    assert facts(db).idle(Param("0" * 64, (40, 40))) is None


def test_features_that_trees_test(db):
    (trees,) = find(db.store.model("stumps"), Trees)
    tested = facts(db).tested(trees)
    assert len(tested) == 12
    assert all(len(t) <= 1 for t in tested)
    assert frozenset().union(*tested) == {0, 2}
    assert frozenset().union(*facts(db).tested(trees.replace(bounds=(0.0, 5.0, 9.0)))) == {2}


@pytest.mark.parametrize("name", ["forest", "stumps"])
@pytest.mark.parametrize("where", ["", "WHERE a = 7 AND id > 3", "WHERE c < 1"])
def test_trees_without_idle_features_say_the_same(db, name, where):
    """Of `id` there is no NULL and no NaN, so what nothing tests is not read."""
    query = f"SELECT id, PREDICT({name}, a, b, c) AS p FROM t {where} ORDER BY id"
    db.sql("SET gradbase.optimizer = 'off'")
    expected = db.sql(query).fetchall()
    db.sql("RESET gradbase.optimizer")
    found = db.sql(query).fetchall()
    assert [p for _, p in found] == pytest.approx([p for _, p in expected])
    assert "drop_idle_features" in db.last_plan.rules
    assert " b " not in db.last_plan.text().split("Scan t")[1]


def test_a_tower_keeps_something_to_read(db):
    query = "SELECT id, PREDICT(towers, a, b, c, d) AS p FROM t ORDER BY id"
    db.sql("SET gradbase.optimizer = 'off'")
    expected = db.sql(query).fetchall()
    db.sql("RESET gradbase.optimizer")
    found = db.sql(query).fetchall()
    assert [p for _, p in found] == pytest.approx([p for _, p in expected], rel=1e-6)
