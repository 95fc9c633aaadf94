"""Plans: nothing overlaps, no plan ends below the bound, the exact search finds the lowest."""

from __future__ import annotations

import subprocess
import sys
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gradbase as gb
from gradbase.errors import BindError, DataError, ResourceError
from gradbase.memory import Interval, Storage, Trace
from gradbase.resources.placement import exact

PERIOD = 8


def moments(i, period):
    return {t % period if period else t for t in range(i.lower, i.upper)}


def together(intervals, period):
    """Pairs that are alive at the same moment, moment by moment."""
    lives = [moments(i, period) for i in intervals]
    return [[bool(a & b) for b in lives] for a in lives]


def must_hold(plan):
    """Looks at every pair; knows nothing of the verifier."""
    meets = together(plan.intervals, plan.period)
    for k, a in enumerate(plan.intervals):
        low = plan.offsets[a.id]
        assert 0 <= low <= plan.height - a.size
        for j, b in enumerate(plan.intervals[:k]):
            other = plan.offsets[b.id]
            assert not meets[k][j] or low + a.size <= other or other + b.size <= low
    assert plan.height >= plan.lower_bound >= most_alive(plan.intervals, plan.period)


def most_alive(intervals, period):
    load = {}
    for i in intervals:
        for t in moments(i, period):
            load[t] = load.get(t, 0) + i.size
    return max(load.values(), default=0)


def lowest(intervals, period):
    """Height of the best first fit over all orders: laid down in the order of its offsets, an
    optimal plan is never raised by first fit."""
    meets, best = together(intervals, period), None
    for order in permutations(range(len(intervals))):
        offset = {}
        for k in order:
            taken = sorted(
                (offset[j], offset[j] + intervals[j].size) for j in offset if meets[k][j]
            )
            at = 0
            for low, high in taken:
                if low - at >= intervals[k].size:
                    break
                at = max(at, high)
            offset[k] = at
        height = max((offset[k] + intervals[k].size for k in offset), default=0)
        best = height if best is None else min(best, height)
    return best


def lives(most, longest=PERIOD):
    one = st.tuples(st.integers(0, 9), st.integers(1, longest), st.integers(1, 9))
    return st.lists(one, max_size=most).map(
        lambda rows: [Interval(k, a, a + d, s) for k, (a, d, s) in enumerate(rows)]
    )


def some(n, seed=0, span=400, longest=60):
    random = np.random.default_rng(seed)
    lower, length, size = (
        random.integers(0, span, n),
        random.integers(1, longest, n),
        random.integers(1, 1000, n),
    )
    return [Interval(k, int(lower[k]), int(lower[k] + length[k]), int(size[k])) for k in range(n)]


@given(lives(6), st.sampled_from([None, PERIOD]))
@settings(max_examples=150, deadline=None)
def test_exact_search_finds_the_lowest_plan(intervals, period):
    for method in ("exact", "auto"):
        plan = gb.memory.plan(intervals, method=method, period=period)
        must_hold(plan)
        assert plan.proved
        assert plan.height == lowest(intervals, period)


@given(lives(40, longest=20), st.sampled_from([None, 5, 20, 29]), st.sampled_from([1, 4]))
@settings(max_examples=60, deadline=None)
def test_nothing_overlaps(intervals, period, alignment):
    plan = gb.memory.plan(intervals, method="greedy", period=period, alignment=alignment)
    must_hold(plan)
    assert all(offset % alignment == 0 for offset in plan.offsets.values())
    assert gb.memory.verify(plan) <= plan.height


@pytest.mark.parametrize(
    "method", ["greedy", "local", pytest.param("exact", marks=pytest.mark.slow), "auto"]
)
@pytest.mark.parametrize("period", [None, 400])
def test_every_method_holds_beyond_tiny(method, period):
    plan = gb.memory.plan(some(150), method=method, time_limit=0.5, period=period)
    must_hold(plan)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("longest", [10, 700])
def test_many_short_lives_on_a_circle(seed, longest):
    """Long enough for windows of time; the last block of the circle is a piece."""
    intervals = some(700, seed, span=997, longest=30) + [
        Interval(700 + k, 97 * k, 97 * k + longest, 50) for k in range(10)
    ]
    must_hold(gb.memory.plan(intervals, method="greedy", period=997))


def test_independent_parts_do_not_raise_each_other():
    """A hard part before an easy one: each has its own bottom."""
    hard = [Interval("a", 0, 2, 3), Interval("b", 1, 3, 2), Interval("c", 2, 4, 3)]
    easy = [Interval(k, 10, 11, 1) for k in range(5)]
    plan = gb.memory.plan([*hard, *easy])
    assert (plan.height, plan.lower_bound, plan.proved) == (5, 5, True)


def test_a_capacity_ends_the_search():
    intervals = some(60)
    assert gb.memory.plan(intervals, capacity="1MB").height <= 1_000_000
    bound = gb.memory.plan(intervals, method="greedy").lower_bound
    with pytest.raises(ResourceError, match=rf"{bound:,} bytes are alive at once.*{bound - 1:,}"):
        gb.memory.plan(intervals, capacity=bound - 1)


def test_the_lowest_plan_may_be_above_the_load():
    """Proved by exhausting what is below; a capacity in between is refused with the least."""
    rows = [(4, 6, 3), (1, 2, 4), (2, 5, 3), (2, 4, 1), (5, 9, 4), (3, 5, 2), (1, 3, 4)]
    intervals = [Interval(k, *row) for k, row in enumerate(rows)]
    assert most_alive(intervals, None) == 8
    assert lowest(intervals, None) == 9
    plan = gb.memory.plan(intervals)
    assert (plan.height, plan.lower_bound, plan.proved) == (9, 9, True)
    assert gb.memory.plan(intervals, capacity=9).height == 9
    with pytest.raises(ResourceError, match="every one takes 9 bytes or more, the capacity is 8"):
        gb.memory.plan(intervals, capacity=8)


def test_time_that_is_too_short_says_what_there_is():
    intervals = some(400, longest=300)
    plan = gb.memory.plan(intervals, method="greedy")
    assert plan.height > plan.lower_bound
    with pytest.raises(
        ResourceError, match=rf"the lowest takes {plan.height:,}, none .* less than"
    ):
        gb.memory.plan(intervals, capacity=plan.lower_bound, method="greedy")


@pytest.mark.parametrize("method", ["greedy", "exact", "auto"])
def test_the_same_plan_again(method):
    intervals = some(45, seed=3) + [
        Interval(f"x{i.id}", i.lower + 1000, i.upper + 1000, i.size) for i in some(45, seed=4)
    ]
    first, second = (gb.memory.plan(intervals, method=method) for _ in range(2))
    assert first.proved or method == "greedy"
    assert first.offsets == second.offsets


def test_nothing_and_one():
    nothing = gb.memory.plan([])
    assert (nothing.offsets, nothing.height, nothing.lower_bound, nothing.proved) == (
        {},
        0,
        0,
        True,
    )
    one = gb.memory.plan([Interval("only", -5, 7, 10**15)])
    assert (one.offsets, one.height, one.proved) == ({"only": 0}, 10**15, True)


def test_a_trace_is_placed_on_its_circle():
    """Transient storages only; one that lives on meets what begins before its end."""
    trace = Trace(
        (
            Storage(0, 100, 0, 4, persistent=True),
            Storage(1, 5, 3, 6),
            Storage(2, 7, 0, 2),
            Storage(3, 2, 1, 10),
            Storage(4, 0, 0, 1),
        ),
        (), (), 4,
    )  # fmt: skip
    plan = gb.memory.plan(trace)
    assert set(plan.offsets) == {1, 2, "3.0", "3.1", "3.2"}
    assert plan.period == 4
    assert plan.height == trace.lower_bound == 18
    must_hold(plan)
    with pytest.raises(BindError, match=r"period is 5, the trace's own is 4"):
        gb.memory.plan(trace, period=5)


def test_exact_search_is_refused_where_it_would_not_fit(monkeypatch):
    monkeypatch.setattr(exact, "MOST_ENTRIES", 50)
    with pytest.raises(ResourceError, match="exact search over 60 storages would hold"):
        gb.memory.plan(some(60), method="exact")
    must_hold(gb.memory.plan(some(60), time_limit=0.3))


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"method": "gready"}, BindError, "no method `gready`.*greedy"),
        ({"time_limit": 0}, BindError, "time_limit is 0, expected seconds above 0"),
        ({"time_limit": -1}, BindError, "time_limit is -1"),
        ({"time_limit": float("nan")}, BindError, "time_limit is nan"),
        ({"time_limit": "1"}, BindError, "time_limit is '1'"),
        ({"capacity": "plenty"}, BindError, "`plenty` is not a size"),
        ({"capacity": -1}, BindError, "`-1` is not a size"),
        ({"period": 0}, BindError, "period is 0"),
        ({"alignment": 0}, BindError, "alignment is 0"),
    ],
)
def test_wrong_arguments_are_named(arguments, error, words):
    with pytest.raises(error, match=words):
        gb.memory.plan(some(3), **arguments)


@pytest.mark.parametrize(
    ("intervals", "words"),
    [
        ([Interval(1, 0, 1, 0)], "size 0 is not above 0"),
        ([Interval(1, 0, 1, -3)], "size -3 is not above 0"),
        ([Interval(1, 2, 2, 3)], "lower 2 is not below upper 2"),
        ([Interval(1, 0, 1, 1), Interval(1, 1, 2, 1)], "id `1` is there already"),
        ([Interval(1, 0, 1, 1.5)], "not integers"),
        ([Interval(1, 0, 1, 1 << 61), Interval(2, 0, 1, 1 << 61)], "sizes sum to"),
        ([(1, 0, 1, 1)], "is no Interval"),
    ],
)
def test_lifetimes_that_are_none_are_refused(intervals, words):
    with pytest.raises(DataError, match=words):
        gb.memory.plan(intervals)


def test_without_numba_the_same_is_found_slowly():
    code = """
import sys; sys.modules["numba"] = None
import gradbase as gb
from gradbase.memory import Interval
plan = gb.memory.plan([Interval(k, 7 * k % 19, 7 * k % 19 + 1 + k % 6, 1 + k * k % 11) for k in range(25)])
print(plan.proved, plan.method, sep="; ")
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("True; ")
    assert done.stdout.endswith("(slow: numba is not installed)\n")


def test_repr_says_how_good_it_is():
    text = repr(gb.memory.plan([Interval(1, 0, 2, 1000), Interval(2, 1, 3, 500)]))
    assert text.splitlines()[:3] == [
        "Plan of 2 storages in 1.46 KiB",
        "  height       1,500 bytes",
        "  lower bound  1,500 bytes (proved lowest)",
    ]


def test_a_picture(tmp_path):
    plan = gb.memory.plan(some(30), period=400)
    plan.plot(tmp_path / "plan.png")
    assert (tmp_path / "plan.png").read_bytes().startswith(b"\x89PNG")
