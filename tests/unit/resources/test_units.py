"""The rule by which workers take units, at the scale of papers: nothing is trained here."""

from __future__ import annotations

import itertools
import random

import numpy as np
import pytest
from scipy.optimize import LinearConstraint, milp

from gradbase.resources.units import Ready, Work, choose, holders, lower_bound, simulate


def same(trials, seconds=1.0):
    return dict.fromkeys(range(trials), seconds)


def uneven(trials, seed):
    """Unit times as in the Cerebro paper's simulation: networks between 1x and about 12x."""
    draw = random.Random(seed)
    return {t: draw.choice((1, 1.5, 2, 3, 4, 6, 9, 12)) * draw.uniform(0.8, 1.2)
            for t in range(trials)}  # fmt: skip


def ratio(work, workers, held):
    return simulate(work, workers, held).makespan_s / lower_bound(work, workers, held)


SCALES = list(itertools.product((16, 256), (8, 16), (1, 10)))


@pytest.mark.parametrize(("trials", "workers", "epochs"), SCALES)
def test_staggered_units_of_equal_time_leave_no_worker_idle(trials, workers, epochs):
    work = Work(same(trials), workers, epochs, staggered=True)
    assert ratio(work, workers, holders(workers, workers)) <= 1.01


@pytest.mark.parametrize(("trials", "workers", "epochs"), SCALES)
@pytest.mark.parametrize("seed", range(3))
def test_uneven_trials_stay_near_the_bound(trials, workers, epochs, seed):
    work = Work(uneven(trials, seed), workers, epochs, staggered=True)
    most = 1.10 if trials >= 4 * workers else 1.25
    assert ratio(work, workers, holders(workers, workers)) <= most


@pytest.mark.parametrize(("trials", "workers", "epochs"), SCALES)
def test_shared_order_is_as_good_where_every_worker_has_all_shards(trials, workers, epochs):
    assert ratio(Work(same(trials), workers, epochs), workers, None) <= 1.01
    if trials >= 4 * workers:
        assert ratio(Work(uneven(trials, 1), workers, epochs), workers, None) <= 1.10


@pytest.mark.parametrize("epochs", [1, 10])
def test_shared_order_over_partitioned_shards_is_a_pipeline(epochs):
    """Its bubble: filling it, and a unit for each epoch, which begins one shard further on."""
    trials = workers = 16
    found = simulate(Work(same(trials), workers, epochs), workers, holders(workers, workers))
    bubble = workers - 1 + epochs - 1
    assert found.makespan_s == trials * epochs + bubble
    assert found.idle_s(workers) == workers * bubble


@pytest.mark.parametrize("staggered", [True, False])
def test_every_trial_meets_every_shard_in_its_order(staggered):
    work = Work(uneven(6, 3), 4, 2, staggered=staggered)
    found = simulate(work, 4, holders(4, 4, copies=2))
    for trial in work.seconds:
        units = sorted((u for u in found.units if u[0] == trial), key=lambda u: u[4])
        expected = [(e, s) for e in range(2) for s in work.order(trial, e)]
        assert [(e, s) for _, e, s, *_ in units] == expected
        assert all(a[5] <= b[4] for a, b in itertools.pairwise(units))
    for worker in range(4):
        units = sorted((u for u in found.units if u[3] == worker), key=lambda u: u[4])
        assert all(a[5] <= b[4] for a, b in itertools.pairwise(units))


def test_workers_come_and_go():
    work = Work(same(8), 4, 2)
    joined = simulate(work, 3, joins={2: 4.0})
    left = simulate(work, 3, leaves={2: 4.5})
    assert joined.makespan_s < simulate(work, 2).makespan_s
    assert simulate(work, 3).makespan_s < left.makespan_s
    for found in (joined, left):
        assert len(found.units) == 8 * 4 * 2
    assert all(start >= 4.0 for *_, worker, start, _ in joined.units if worker == 2)
    assert all(end <= 4.5 for *_, worker, _, end in left.units if worker == 2)


@pytest.mark.parametrize(("trials", "workers", "epochs"), [(4, 4, 3), (8, 4, 2), (20, 10, 1)])
def test_states_move_as_the_formula_of_model_hopping_says(trials, workers, epochs):
    """k epochs x p workers x |S| trials x m bytes, first placements included."""
    work = Work(same(trials), workers, epochs, staggered=True, state_bytes=7)
    found = simulate(work, workers, holders(workers, workers))
    assert found.moved_bytes == epochs * workers * trials * 7


@pytest.mark.parametrize("trials", [3, 8])
def test_no_state_moves_twice_where_every_worker_has_all_shards(trials):
    found = simulate(Work(same(trials), 4, 5, state_bytes=7), 4)
    assert found.moved_bytes == trials * 7


def optimum(work, workers):
    """Least makespan with shard s only at worker s, orders fixed: by HiGHS."""
    units = [(t, i, s) for t in work.seconds for i, s in enumerate(work.order(t, 0))]
    place = {u: n for n, u in enumerate(units)}
    pairs = [(a, b) for a, b in itertools.combinations(units, 2) if a[2] == b[2]]
    big, count = sum(work.total(t) for t in work.seconds), len(units) + len(pairs) + 1
    rows, low = [], []

    def at_least(terms, bound):
        row = np.zeros(count)
        for column, value in terms:
            row[column] += value
        rows.append(row)
        low.append(bound)

    for unit in units:
        trial, i, _ = unit
        at_least([(count - 1, 1), (place[unit], -1)], work.seconds[trial])
        if i:
            before = next(u for u in units if u[:2] == (trial, i - 1))
            at_least([(place[unit], 1), (place[before], -1)], work.seconds[trial])
    for n, (a, b) in enumerate(pairs, start=len(units)):
        at_least([(place[b], 1), (place[a], -1), (n, big)], work.seconds[a[0]])
        at_least([(place[a], 1), (place[b], -1), (n, -big)], work.seconds[b[0]] - big)
    cost = np.zeros(count)
    cost[-1] = 1
    integral = np.zeros(count)
    integral[len(units) : -1] = 1
    upper = np.full(count, np.inf)
    upper[len(units) : -1] = 1
    found = milp(cost, constraints=LinearConstraint(np.array(rows), low, np.inf),
                 integrality=integral, bounds=(0, upper))  # fmt: skip
    return found.fun


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("staggered", [True, False])
def test_small_cases_are_near_the_optimum(seed, staggered):
    work = Work(uneven(4, seed), 3, staggered=staggered)
    best = optimum(work, 3)
    found = simulate(work, 3, holders(3, 3)).makespan_s
    assert best - 1e-6 <= found <= 1.25 * best
    assert lower_bound(work, 3, holders(3, 3)) <= best + 1e-6


CHOICES = [
    ("the longest", [("a", 0, 3, None), ("b", 0, 5, None)], False, "b"),
    ("its own first", [("a", 0, 3, 1), ("b", 0, 5, None)], False, "a"),
    ("a new one before another's", [("a", 0, 9, 2), ("b", 0, 5, None)], False, "b"),
    ("another's before none", [("a", 0, 9, 2)], False, "a"),
    ("the longest, wherever it was", [("a", 0, 3, 1), ("b", 0, 5, 2)], True, "b"),
    ("the one that is here", [("a", 0, 5, 2), ("b", 0, 5, 1)], True, "b"),
    ("only what it holds", [("a", 1, 9, None), ("b", 0, 5, None)], True, "b"),
    ("nothing", [("a", 1, 9, None)], True, None),
    ("what needs no shard", [("a", None, 9, None)], True, "a"),
]


@pytest.mark.parametrize("case", CHOICES, ids=[c[0] for c in CHOICES])
def test_worker_1_which_holds_shard_0_takes(case):
    _, waiting, hop, expected = case
    found = choose(1, [Ready(*r) for r in waiting], lambda _, s: s == 0, hop=hop)
    assert (found and found.trial) == expected
