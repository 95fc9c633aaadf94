"""Which configurations a search tries."""

from __future__ import annotations

import pytest

from gradbase.errors import BindError
from gradbase.frontend.space import Choice, IntUniform, LogUniform, Uniform
from gradbase.selection import PROCEDURES, make_procedure
from gradbase.selection.procedure import EpochResult
from gradbase.selection.space import draw

SPACE = {
    "learn_rate": LogUniform(1e-4, 1e-1),
    "dropout": Uniform(0.0, 0.5),
    "batch_size": IntUniform(16, 64),
    "hidden_units": Choice(((8,), (16, 8))),
}


def test_grid_is_the_product_in_the_order_of_options():
    """The last option changes fastest; the number of trials cuts the product off."""
    space = {"a": Choice((1, 2)), "b": Choice(("x", "y", "z"))}
    found = make_procedure("grid", space, None, 0).configurations()
    assert [tuple(c.values()) for c in found] == [
        (1, "x"), (1, "y"), (1, "z"), (2, "x"), (2, "y"), (2, "z"),
    ]  # fmt: skip
    assert make_procedure("grid", space, 4, 0).configurations() == found[:4]
    assert make_procedure("grid", {}, None, 0).configurations() == [{}]


def test_random_draws_stay_inside_and_follow_from_the_seed():
    first = make_procedure("random", SPACE, 50, 7).configurations()
    assert first == make_procedure("random", SPACE, 50, 7).configurations()
    assert first != make_procedure("random", SPACE, 50, 8).configurations()
    assert all(1e-4 <= c["learn_rate"] <= 1e-1 for c in first)
    assert {c["batch_size"] for c in first} <= set(range(16, 65))
    assert {c["hidden_units"] for c in first} == {(8,), (16, 8)}
    assert len({c["dropout"] for c in first}) == 50


def test_a_dimension_s_values_do_not_depend_on_the_others():
    """Adding dimensions, or trials, changes no value that was there."""
    alone = make_procedure("random", {"dropout": SPACE["dropout"]}, 5, 7).configurations()
    together = make_procedure("random", SPACE, 20, 7).configurations()
    assert [c["dropout"] for c in alone] == [c["dropout"] for c in together[:5]]


@pytest.mark.parametrize(
    ("dimension", "low", "middle"),
    [
        (Uniform(0.0, 1.0), 0.0, 0.5),
        (LogUniform(1e-4, 1.0), 1e-4, 1e-2),
        (IntUniform(0, 9), 0, 4.5),
    ],
)
def test_draws_are_spread_evenly(dimension, low, middle):
    """Half of many draws lie below the middle of the range (of its logarithm)."""
    drawn = [draw(dimension, "x", 1, k) for k in range(2000)]
    assert 0.45 < sum(d < middle for d in drawn) / 2000 < 0.55
    assert min(drawn) >= low


@pytest.mark.parametrize(
    ("name", "space", "trials", "text"),
    [
        ("grid", {"lr": LogUniform(1e-4, 1.0)}, None, "a grid needs listed values, `lr`"),
        ("random", {"lr": LogUniform(1e-4, 1.0)}, None, "needs the number of trials"),
        ("grit", {}, None, "did you mean `grid`"),
    ],
)
def test_a_search_that_cannot_be_is_refused(name, space, trials, text):
    with pytest.raises(BindError, match=text):
        make_procedure(name, space, trials, 0)


@pytest.mark.parametrize("name", PROCEDURES)
def test_grid_and_random_stop_nobody(name):
    results = [EpochResult(t, 1, 0.5, None, 0.1 * t, minimised=False) for t in (2, 5)]
    made = make_procedure(name, {"a": Choice((1, 2))}, 2, 0)
    assert made.decide(results) == {2, 5}
