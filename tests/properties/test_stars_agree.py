"""Over star schemas too, whatever plan a query gets, its rows are the same."""

from __future__ import annotations

import dataclasses
import itertools
import math

import pytest

import gradbase as gb
from gradbase.ir.facts import Settings
from gradbase.optimizer.rules import push_predict_below_join, split_layer_over_join

from . import stars
from .test_plans_agree import RULES

MANY, FEW = 300, 14
FORCED = {
    "dl": {"representation": "dl"},
    "udf": {"representation": "udf"},
    "relational": {"representation": "relational"},
    "tiny batches": {"batch_rows": 3},
}
LOOKING = (
    "push_filter_below_join", "push_predict_below_join", "split_layer_over_join", "fold_known_values",
    "fuse_layers",
    "share_predictions", "push_filter_below_predict",
)  # fmt: skip
"""Rules that are also tried alone, with only what brings plans into their shape."""
SHAPING = ("merge_filters", "merge_projects", "push_filter_below_project", "prune_columns",
           "remove_identity_project", "push_filter_below_join", "push_filter_below_predict")  # fmt: skip


@pytest.fixture(scope="module")
def session():
    with gb.connect(threads=2, progress=False) as db:
        stars.load(db)
        yield db


@pytest.fixture
def eager(monkeypatch):
    """Rules that decide by cost fire wherever they may."""
    monkeypatch.setattr(push_predict_below_join, "_pays", lambda *_: True)
    monkeypatch.setattr(split_layer_over_join._Split, "_pays", lambda *_: True)


def rows(db, text, exact, **changes):
    default = dataclasses.asdict(Settings(threads=2, progress=False))
    before = dataclasses.asdict(db.settings)
    try:
        db.change_settings(**{**default, **changes})
        found = db.sql(text).fetchall()
    finally:
        db.change_settings(**before)
    return sorted(found, key=lambda r: (repr(r[:exact]), [_order(v) for v in r[exact:]]))


def _order(value):
    return (1, 0.0) if not isinstance(value, float) or math.isnan(value) else (0, round(value, 3))


def close(found, expected):
    if isinstance(expected, float) and isinstance(found, float):
        if math.isnan(expected) or math.isnan(found):
            return math.isnan(expected) and math.isnan(found)
        return math.isclose(found, expected, rel_tol=1e-4, abs_tol=1e-4)
    return found == expected


def agree(found, expected):
    return len(found) == len(expected) and all(
        all(map(close, a, b)) for a, b in zip(found, expected, strict=True)
    )


def gap_of(db):
    """A number in the widest gap between the values that the plain plan gives."""

    def find(text):
        found = rows(db, text, 0, optimizer=False)
        values = sorted(v for (v,) in found if v is not None and not math.isnan(v))
        middle = values[len(values) // 4 : 3 * len(values) // 4 + 2]
        gaps = [(b - a, (a + b) / 2) for a, b in itertools.pairwise(middle)]
        return max(gaps, default=(0.0, 0.5))[1]

    return find


def configurations(seed):
    """All rules; one off; one alone; one forced representation."""
    yield "optimised", {}
    yield from FORCED.items() if seed < 0 else [list(FORCED.items())[seed % len(FORCED)]]
    off = RULES[seed % len(RULES)]
    yield f"without {off}", {"disabled_rules": frozenset({off})}
    alone = LOOKING[seed % len(LOOKING)]
    yield f"{alone} alone", {"disabled_rules": frozenset(RULES) - {alone, *SHAPING}}
    yield "no rules", {"disabled_rules": frozenset(RULES)}


def check(db, seed):
    query = stars.star(seed, gap_of(db))
    expected = rows(db, query.sql, query.exact, optimizer=False)
    for name, changes in configurations(seed):
        found = rows(db, query.sql, query.exact, **changes)
        assert agree(found, expected), f"seed {seed}, {name}: {query.sql}\n{db.last_plan.text()}"


@pytest.mark.parametrize("seed", range(FEW))
def test_some_queries(session, eager, seed):
    check(session, seed)


@pytest.mark.slow
@pytest.mark.parametrize("first", range(FEW, MANY + FEW, 20))
def test_many_queries(session, eager, first):
    for seed in range(first, first + 20):
        check(session, seed)


def test_the_rules_that_look_into_networks_fire(session, eager):
    """Else the comparisons above would say nothing of them."""
    fired = set()
    for seed in range(60):
        session.explain(stars.star(seed, lambda _: 0.5).sql)
        fired |= set(session.last_plan.rules)
    assert set(LOOKING) <= fired
