"""Over star schemas too, whatever plan a query gets, its rows are the same."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math

import pytest

import gradbase as gb
from gradbase.frontend.binder import bind_query
from gradbase.ir.facts import Settings
from gradbase.optimizer.analyses import ranges
from gradbase.optimizer.rules import (
    fold_settled_units,
    predict_distinct,
    push_predict_below_join,
    split_layer_over_join,
)
from gradbase.session.planning import planned

from . import stars
from .test_plans_agree import RULES

MANY, FEW, EXPORTED = 320, 6, 4
LEAST_GAP = 1e-3
FORCED = {
    "dl": {"representation": "dl"},
    "udf": {"representation": "udf"},
    "relational": {"representation": "relational"},
    "sql": {"representation": "sql"},
    "onnx": {"representation": "onnx"},
    "tiny batches": {"batch_rows": 3},
}
LOOKING = (
    "push_filter_below_join", "push_predict_below_join", "split_layer_over_join", "fold_known_values",
    "fuse_layers", "share_predictions", "push_filter_below_predict", "drop_idle_features", "remove_joins",
    "predict_distinct", "fold_settled_units",
)  # fmt: skip
"""Rules that generated queries must make fire."""
SHAPING = ("merge_filters", "merge_projects", "push_filter_below_project", "prune_columns",
           "remove_identity_project", "push_filter_below_join", "push_filter_below_predict")  # fmt: skip
"""Rules that bring plans into the shape that others look for: tried alone, a rule has these."""
TOLERANCE = {"float32": 2e-5, "float64": 1e-9}
"""Largest difference, relative to the larger of 1 and the value: sums in another order."""


@pytest.fixture(scope="module")
def session():
    with gb.connect(threads=2, progress=False) as db:
        stars.load(db)
        asked = db.engine.statistics  # tables stay as they are: each question once
        asked.table, asked.promises = map(functools.cache, (asked.table, asked.promises))
        yield db


@pytest.fixture
def eager(monkeypatch):
    """Rules that decide by cost fire wherever they may."""
    monkeypatch.setattr(push_predict_below_join, "_pays", lambda *_: True)
    monkeypatch.setattr(split_layer_over_join._Split, "_pays", lambda *_: True)
    monkeypatch.setattr(predict_distinct, "distinct_share", lambda *_: 0.1)
    monkeypatch.setattr(predict_distinct, "finding_seconds", lambda *_: 0.0)
    monkeypatch.setattr(predict_distinct, "_LEAST_S", 0.0)
    monkeypatch.setattr(fold_settled_units, "_SETUP_S", 0.0)
    monkeypatch.setattr(ranges, "_SMALL", 0.0)


class Plans:
    """The rows of one query under many settings; plans that are alike run once."""

    def __init__(self, db, query):
        self.db, self.query = db, query
        self.default = dataclasses.asdict(Settings(threads=2, progress=False))
        self.relation = bind_query(query.sql, db.engine, db.store, None)
        self.done = set()

    def rows(self, **changes):
        """The rows, sorted; None where such a plan has run."""
        db, before = self.db, dataclasses.asdict(self.db.settings)
        try:
            db.change_settings(**{**self.default, **changes})
            root = planned(db, self.relation).root
            if root in self.done:
                return None
            self.done.add(root)
            found = db.sql(self.query.sql).fetchall()
        finally:
            db.change_settings(**before)
        exact = self.query.exact
        return sorted(found, key=lambda r: (repr(r[:exact]), [_order(v) for v in r[exact:]]))


def _order(value):
    return (1, 0.0) if not isinstance(value, float) or math.isnan(value) else (0, round(value, 3))


def close(found, expected, tolerance):
    if isinstance(expected, float) and isinstance(found, float):
        if math.isnan(expected) or math.isnan(found):
            return math.isnan(expected) and math.isnan(found)
        return math.isclose(found, expected, rel_tol=tolerance, abs_tol=tolerance)
    return found == expected


def agree(found, expected, tolerance):
    return len(found) == len(expected) and all(
        all(close(x, y, tolerance) for x, y in zip(a, b, strict=True))
        for a, b in zip(found, expected, strict=True)
    )


def gap_of(db):
    """A number in the widest gap between the values that the plain plan gives."""

    def find(text):
        found = Plans(db, stars.Star(text, 0)).rows(optimizer=False)
        values = sorted(v for (v,) in found if v is not None and not math.isnan(v))
        middle = values[len(values) // 4 : 3 * len(values) // 4 + 2]
        gaps = [(b - a, (a + b) / 2) for a, b in itertools.pairwise(middle)]
        widest, edge = max(gaps, default=(0.0, 0.5))
        # Values that are all alike: rounding must not decide, so the number is above them.
        return edge if widest > LEAST_GAP or not values else values[-1] + 1.0

    return find


def configurations(seed):
    """All rules, none, each alone, and each representation forced with all of them and with none.

    Every network that rules change is exported to ONNX anew, which takes a second: in some queries.
    """
    yield "optimised", {}
    yield "no rules", {"disabled_rules": frozenset(RULES)}
    for name, changes in FORCED.items():
        if name != "onnx" or seed % EXPORTED == 0:
            yield name, changes
        yield f"{name}, no rules", {**changes, "disabled_rules": frozenset(RULES)}
    for rule in RULES:
        yield f"{rule} alone", {"disabled_rules": frozenset(RULES) - {rule, *SHAPING}}
        yield f"without {rule}", {"disabled_rules": frozenset({rule})}


def check(db, seed):
    query = stars.star(seed, gap_of(db))
    plans = Plans(db, query)
    expected = plans.rows(optimizer=False)
    tolerance = TOLERANCE["float64" if query.model in stars.PRECISE else "float32"]
    for name, changes in configurations(seed):
        found = plans.rows(**changes)
        same = found is None or agree(found, expected, tolerance)
        assert same, f"seed {seed}, {name}: {query.sql}\n{db.last_plan.text()}"


@pytest.mark.parametrize("seed", range(FEW))
def test_some_queries(session, eager, seed):
    check(session, seed)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("first", range(FEW, MANY + FEW, 20))
def test_many_queries(session, eager, first):
    for seed in range(first, first + 20):
        check(session, seed)


def test_the_rules_that_look_into_networks_fire(session, eager):
    """Else the comparisons above would say nothing of them."""
    fired = set()
    for seed in range(80):
        query = stars.star(seed, lambda _: 0.5)
        plan = planned(session, bind_query(query.sql, session.engine, session.store, None))
        fired |= set(plan.rules)
    assert set(LOOKING) <= fired
