"""Which configurations a search tries."""

from __future__ import annotations

import itertools
import math

import pytest

from gradbase.errors import BindError
from gradbase.frontend.space import Choice, IntUniform, LogUniform, Uniform
from gradbase.selection import make_procedure
from gradbase.selection.procedure import Result, Terms
from gradbase.selection.space import draw

SPACE = {
    "learn_rate": LogUniform(1e-4, 1e-1),
    "dropout": Uniform(0.0, 0.5),
    "batch_size": IntUniform(16, 64),
    "hidden_units": Choice(((8,), (16, 8))),
}


def first(name, space, trials=None, seed=0, **terms):
    """The configurations of a procedure's first round."""
    legs = next(make_procedure(name, Terms(space, trials, seed, **terms)).rounds())
    assert [leg.trial for leg in legs] == list(range(1, len(legs) + 1))
    return [leg.configuration for leg in legs]


def driven(name, value, space=SPACE, **terms):
    """All rounds as lists of (trial, epochs, parent), where `value` says what a trial comes to."""
    procedure = make_procedure(name, Terms(space, **terms))
    rounds, found = procedure.rounds(), []
    legs = next(rounds)
    while True:
        found.append([(leg.trial, leg.epochs, leg.parent) for leg in legs])
        results = {g.trial: Result(g.trial, g.epochs, value(g)) for g in legs}
        try:
            legs = rounds.send(results)
        except StopIteration:
            return found


def test_grid_is_the_product_in_the_order_of_options():
    """The last option changes fastest; the number of trials cuts the product off."""
    space = {"a": Choice((1, 2)), "b": Choice(("x", "y", "z"))}
    found = first("grid", space, None, 0)
    assert [tuple(c.values()) for c in found] == [
        (1, "x"), (1, "y"), (1, "z"), (2, "x"), (2, "y"), (2, "z"),
    ]  # fmt: skip
    assert first("grid", space, 4, 0) == found[:4]
    assert first("grid", {}, None, 0) == [{}]


def test_random_draws_stay_inside_and_follow_from_the_seed():
    found = first("random", SPACE, 50, 7)
    assert found == first("random", SPACE, 50, 7)
    assert found != first("random", SPACE, 50, 8)
    assert all(1e-4 <= c["learn_rate"] <= 1e-1 for c in found)
    assert {c["batch_size"] for c in found} <= set(range(16, 65))
    assert {c["hidden_units"] for c in found} == {(8,), (16, 8)}
    assert len({c["dropout"] for c in found}) == 50


def test_a_dimension_s_values_do_not_depend_on_the_others():
    """Adding dimensions, or trials, changes no value that was there."""
    alone = first("random", {"dropout": SPACE["dropout"]}, 5, 7)
    together = first("random", SPACE, 20, 7)
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
        make_procedure(name, Terms(space, trials))


LINE = {"learn_rate": LogUniform(1e-4, 1e-1)}


def test_halving_keeps_one_of_three_at_each_rung():
    rounds = driven("successive_halving", lambda leg: leg.trial, LINE, trials=9, epochs=9)
    assert [[t for t, _, _ in r] for r in rounds] == [list(range(1, 10)), [7, 8, 9], [9]]
    assert [r[0][1] for r in rounds] == [1, 3, 9]


def test_trials_without_a_value_never_go_on():
    def value(leg):
        return -math.inf if leg.trial > 3 else leg.trial

    rounds = driven("successive_halving", value, LINE, trials=9, epochs=9)
    assert [[t for t, _, _ in r] for r in rounds] == [list(range(1, 10)), [1, 2, 3], [3]]
    nobody = driven("successive_halving", lambda leg: -math.inf, LINE, trials=9, epochs=9)
    assert len(nobody) == 1
    assert len(driven("asha", lambda leg: -math.inf, LINE, trials=9, epochs=9, parallel=9)) == 1


def test_hyperband_fills_its_brackets():
    rounds = driven("hyperband", lambda leg: leg.trial, LINE, epochs=9)
    assert [len(r) for r in rounds] == [17, 4, 1]  # 9 + 5 + 3, then 3 + 1, then 1
    assert {e for _, e, _ in rounds[0]} == {1, 3, 9}
    few = driven("hyperband", lambda leg: leg.trial, LINE, trials=11, epochs=9)
    assert [len(r) for r in few] == [11, 4, 1]


def test_asha_goes_on_before_a_rung_is_full():
    rounds = driven("asha", lambda leg: leg.trial, LINE, trials=9, epochs=9, parallel=3)
    assert rounds[0] == [(1, 1, 0), (2, 1, 0), (3, 1, 0)]
    assert rounds[1][0] == (3, 3, 0)
    legs = [leg for r in rounds for leg in r]
    assert {t for t, e, _ in legs if e == 1} == set(range(1, 10))
    assert (9, 9, 0) in legs
    assert len(legs) == len(set(legs))


def test_population_replaces_the_worst_by_the_best():
    rounds = driven("pbt", lambda leg: leg.trial, LINE, trials=10, epochs=6, min_epochs=2)
    assert [{e for _, e, _ in r} for r in rounds] == [{2}, {4}, {6}]
    parents = {t: p for t, _, p in rounds[1]}
    assert {t for t, p in parents.items() if p} == {1, 2}
    assert {parents[1], parents[2]} <= {9, 10}


def test_population_changes_what_may_change_and_nothing_else():
    procedure = make_procedure("pbt", Terms(SPACE, 10, epochs=3))
    rounds = procedure.rounds()
    before = {leg.trial: leg.configuration for leg in next(rounds)}
    after = rounds.send({t: Result(t, 1, t) for t in before})
    moved = [leg for leg in after if leg.parent]
    assert len(moved) == 2
    for leg in moved:
        parent = before[leg.parent]
        assert leg.configuration["hidden_units"] == parent["hidden_units"]
        assert leg.configuration["batch_size"] == parent["batch_size"]
        assert leg.configuration["learn_rate"] != parent["learn_rate"]
        assert 1e-4 <= leg.configuration["learn_rate"] <= 1e-1


@pytest.mark.parametrize("name", ["tpe", "gp"])
def test_sampling_learns_from_batch_to_batch_and_follows_the_seed(name):
    def asked(seed):
        rounds = make_procedure(name, Terms(SPACE, 12, seed, parallel=4)).rounds()
        legs, found = next(rounds), []
        while True:
            found.append([dict(leg.configuration) for leg in legs])
            try:
                legs = rounds.send({g.trial: Result(g.trial, 1, 1.0 / g.trial) for g in legs})
            except StopIteration:
                return found

    found = asked(7)
    assert [len(batch) for batch in found] == [4, 4, 4]
    assert found == asked(7)
    assert found != asked(8)
    for configuration in itertools.chain(*found):
        assert 1e-4 <= configuration["learn_rate"] <= 1e-1
        assert configuration["hidden_units"] in ((8,), (16, 8))


def test_tpe_looks_where_it_was_good():
    space = {"learn_rate": Uniform(0.0, 1.0)}
    rounds = make_procedure("tpe", Terms(space, 60, 1, parallel=4)).rounds()
    legs, drawn = next(rounds), []
    while True:
        drawn += [leg.configuration["learn_rate"] for leg in legs]
        try:
            legs = rounds.send(
                {g.trial: Result(g.trial, 1, -g.configuration["learn_rate"]) for g in legs}
            )
        except StopIteration:
            break
    assert sum(drawn[-20:]) / 20 < 0.6 * sum(drawn[:20]) / 20


@pytest.mark.parametrize(
    ("name", "terms", "text"),
    [
        ("asha", {"epochs": 2, "min_epochs": 3, "trials": 2}, "min_epochs is 3, above max_epochs"),
        ("hyperband", {"space": {"epochs": Choice((1, 2))}}, "max_epochs is searched over"),
        ("pbt", {"space": {"batch_size": Choice((1, 2))}, "trials": 4}, "none of learn_rate"),
        ("pbt", {"space": LINE}, "needs the number of trials"),
        ("tpe", {"space": LINE}, "`tpe` needs the number of trials"),
        ("successive_halving", {"space": LINE}, "needs the number of trials"),
    ],
)
def test_terms_that_cannot_be_are_refused(name, terms, text):
    with pytest.raises(BindError, match=text):
        make_procedure(name, Terms(**{"space": LINE, **terms}))


def test_halving_takes_the_whole_product_of_listed_values():
    space = {"a": Choice((1, 2)), "b": Choice((1, 2, 3))}
    assert len(first("successive_halving", space, epochs=4)) == 6
