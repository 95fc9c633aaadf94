"""Whatever plan a query gets, its rows are the same."""

from __future__ import annotations

import dataclasses
import functools
import math
import random
import struct

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import gradbase as gb
from gradbase.ir.facts import Settings
from gradbase.optimizer.stages import all_rules

from . import queries

OF_TRAINING = ("share_scan", "fuse_fits")
RULES = tuple(r.name for r in all_rules() if not r.mandatory and r.name not in OF_TRAINING)
PLAIN = {"optimizer": False}
CONFIGURATIONS = {
    "optimised": {},
    "dl": {"representation": "dl"},
    "udf": {"representation": "udf"},
    "tiny batches": {"batch_rows": 3},
    "tiny batches, plain": {"batch_rows": 3, "optimizer": False},
    "udf, no rules": {"representation": "udf", "disabled_rules": frozenset(RULES)},
}
SAMPLED_RULES = 2
"""Rules that are switched off, one at a time, for each query of the default run."""
BITWISE = {
    "dl": {"representation": "dl", "batch_rows": 2048, "exactness": "bitwise"},
    "dl, tiny batches": {"representation": "dl", "batch_rows": 3, "exactness": "bitwise"},
    "udf": {"representation": "udf", "exactness": "bitwise"},
}
"""A filter or limit below a prediction leaves it fewer rows; batches of 3 do not show it."""
TOLERANCE = 1e-5

seldom = functools.partial(
    settings,
    deadline=None,
    derandomize=True,
    database=None,
    phases=(Phase.explicit, Phase.generate, Phase.shrink),
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture(scope="module")
def session(tmp_path_factory):
    """Two small tables and two models, on a file."""
    path = tmp_path_factory.mktemp("properties") / "small.duckdb"
    with gb.connect(str(path), threads=2, progress=False) as db:
        queries.load(db)
        yield db


@pytest.fixture(scope="module")
def edges(session):
    return queries.Edges.of(session)


def answer(db, query, changes):
    """The rows under settings, in the query's order or sorted by what is exact in them."""
    before = dataclasses.asdict(db.settings)
    default = dataclasses.asdict(Settings(threads=2, progress=False))
    try:
        db.change_settings(**{**default, **changes})
        found = db.sql(query.sql).fetchall()
    finally:
        db.change_settings(**before)
    if query.ordered:
        return found
    return sorted(found, key=lambda row: repr(row[: query.exact]))


def close(found, expected):
    """Equal; floats within 1e-5 of the larger of 1 and their size, NaN to NaN."""
    if isinstance(expected, float) and isinstance(found, float):
        if math.isnan(expected):
            return math.isnan(found)
        return math.isclose(found, expected, rel_tol=TOLERANCE, abs_tol=TOLERANCE)
    return found == expected


def bits(value):
    """What tells every float from every other."""
    return struct.pack("<d", value) if isinstance(value, float) else value


def assert_close(found, expected, query, name):
    assert len(expected) == len(found), f"{name}: {query.sql}"
    for expected_row, row in zip(expected, found, strict=True):
        equal = all(map(close, row, expected_row))
        assert equal, f"{name}: {row} instead of {expected_row} in {query.sql}"


def assert_bitwise(found, expected, query, name):
    rows = [[tuple(map(bits, row)) for row in answer] for answer in (expected, found)]
    assert rows[0] == rows[1], f"{name}: {found} instead of {expected} in {query.sql}"


def without(rule):
    return {"disabled_rules": frozenset((rule,))}


def sample(query):
    """The rules whose turn it is for a query."""
    return random.Random(query.sql).sample(RULES, SAMPLED_RULES)


def test_every_plan_gives_the_rows_of_the_plain_plan(session, edges):
    """Optimised or not, in process or in the engine, in batches of any size, without some rule."""

    @seldom(max_examples=40)
    @given(queries.queries(edges))
    def agree(query):
        expected = answer(session, query, PLAIN)
        for name, changes in CONFIGURATIONS.items():
            assert_close(answer(session, query, changes), expected, query, name)
        for rule in sample(query):
            assert_close(answer(session, query, without(rule)), expected, query, f"no {rule}")

    agree()


@pytest.mark.parametrize("base", list(BITWISE))
def test_bitwise_plans_give_the_same_bits(session, edges, base):
    """With one representation and batch, no rule changes a bit."""
    every = {"disabled_rules": frozenset(RULES)}

    @seldom(max_examples=12)
    @given(queries.queries(edges, raw=True))
    def agree(query):
        expected = answer(session, query, {**BITWISE[base], **every})
        assert_bitwise(answer(session, query, BITWISE[base]), expected, query, base)
        for rule in sample(query):
            found = answer(session, query, {**BITWISE[base], **without(rule)})
            assert_bitwise(found, expected, query, f"{base}, no {rule}")

    agree()


@pytest.mark.slow
@pytest.mark.parametrize("rule", RULES)
def test_no_rule_is_needed_for_right_rows(session, edges, rule):
    """Each rule off, over more queries, forced to either representation."""

    @seldom(max_examples=40)
    @given(queries.queries(edges), st.sampled_from(("", "dl", "udf")))
    def agree(query, representation):
        expected = answer(session, query, PLAIN)
        changes = {**without(rule), "representation": representation}
        assert_close(answer(session, query, changes), expected, query, f"no {rule}")

    agree()


@pytest.mark.slow
@pytest.mark.parametrize("base", list(BITWISE))
@pytest.mark.parametrize("rule", RULES)
def test_no_rule_changes_a_bit(session, edges, rule, base):
    """Each rule alone off, and all off."""
    every = {"disabled_rules": frozenset(RULES)}

    @seldom(max_examples=25)
    @given(queries.queries(edges, raw=True))
    def agree(query):
        expected = answer(session, query, {**BITWISE[base], **every})
        found = answer(session, query, {**BITWISE[base], **without(rule)})
        assert_bitwise(found, expected, query, f"{base}, no {rule}")

    agree()
