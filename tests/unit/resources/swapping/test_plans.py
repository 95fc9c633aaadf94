"""Plans of random steps: limits hold, nothing is used while away, bounds bound, errors say why."""

from __future__ import annotations

import dataclasses
import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_traces import LINKS, UNIT, trace_of, training_steps

from gradbase.errors import BindError, DataError, InternalError, ResourceError
from gradbase.resources.lifetimes import Trace
from gradbase.resources.swapping.check import check_swaps
from gradbase.resources.swapping.frontier import frontier
from gradbase.resources.swapping.planner import METHODS, Planner, plan_swaps
from gradbase.resources.swapping.roofline import roofline
from gradbase.resources.swapping.search import Problem
from gradbase.resources.swapping.step import step_of

SMALL = trace_of([1] * 7, [(0, 10, [0, 6]), (1, 10, [3])])


def within(planner: Planner, peak: int, percent: int) -> int:
    """A limit between the least and the peak."""
    return planner.minimum + (peak - planner.minimum) * percent // 100


@settings(deadline=None, max_examples=30)
@given(
    training_steps(),
    LINKS,
    st.integers(0, 99),
    st.sampled_from(METHODS),
    st.tuples(st.booleans(), st.booleans()),
)
def test_any_plan_holds(trace, link, percent, method, kinds):
    """The independent check agrees on load, waiting and limit; nothing is used while it is away."""
    recompute, persistent = kinds
    planner = Planner(trace, link, recompute=recompute, persistent=persistent, min_bytes=1)
    limit = within(planner, trace.peak, percent)
    plan = planner.plan(limit, method=method, tries=15)
    check_swaps(plan)
    assert plan.peak <= limit
    if all(d.choice == "swap" for d in plan.decisions):
        assert plan.overhead_s >= planner.least_overhead(limit) - 1e-9
    free = planner.plan(None, mode="no overhead", method=method, tries=15)
    check_swaps(free)
    assert free.overhead_s == 0
    assert planner.minimum <= planner.least_peak <= free.peak <= trace.peak


@settings(deadline=None, max_examples=25)
@given(training_steps(), LINKS, st.integers(0, 99), st.booleans())
def test_intervals_of_a_plan_overlap_as_much_as_its_peak(trace, link, percent, persistent):
    """What is to be placed after planning, with what stays persistent, is the load of the plan."""
    planner = Planner(trace, link, persistent=persistent, min_bytes=1)
    plan = planner.plan(within(planner, trace.peak, percent), tries=15)
    moved = {d.storage for d in plan.decisions}
    stays = sum(s.size for s in trace.storages if s.persistent and s.id not in moved)
    load = [stays] * trace.period
    for i in plan.intervals():
        assert 0 <= i.lower < trace.period
        for o in range(i.lower, i.upper):
            load[o % trace.period] += i.size
    assert load == plan.load().tolist()


@settings(deadline=None, max_examples=15)
@given(training_steps(), LINKS)
def test_the_search_finds_what_trying_everything_finds(trace, link):
    """Without overhead, among all subsets of at most seven gaps."""
    step = step_of(trace, link, min_bytes=1, persistent=False)
    step = dataclasses.replace(step, gaps=step.gaps[:7])
    planner = Planner(trace, link, min_bytes=1)
    problem = Problem(step, step, {}, planner.least_peak, overhead=False)
    least = min(
        int(problem.try_out(dict.fromkeys(chosen, "swap")).load.max())
        for k in range(len(step.gaps) + 1)
        for chosen in itertools.combinations(range(len(step.gaps)), k)
    )
    assert planner.plan(None, mode="no overhead", tries=150).peak <= least


def test_auto_is_never_worse_than_a_score():
    """It starts from the best of them."""
    trace = trace_of(
        [0.5] * 16, [(i, 5 + 3 * (i % 4), [i, 15 - i]) for i in range(7)] + [(9, 20, [7, 8])]
    )
    planner = Planner(trace, UNIT, min_bytes=1)
    for percent in (10, 40, 70):
        limit = within(planner, trace.peak, percent)
        costs = {m: planner.plan(limit, method=m).overhead_s for m in METHODS}
        assert costs["auto"] == min(costs.values())
        assert costs["combined"] <= min(costs[m] for m in ("doa", "aoa", "wdoa", "swdoa"))


def test_the_same_arguments_give_the_same_plan():
    """Also through the tuned and the random parts."""
    trace = trace_of([0.5] * 16, [(i, 5 + i, [i, 15 - i]) for i in range(7)])
    first, second = (plan_swaps(trace, 30, UNIT, min_bytes=1) for _ in range(2))
    assert first.decisions == second.decisions


def test_overhead_falls_as_the_limit_rises():
    """The frontier of every method; the best of it is not dominated."""
    trace = trace_of([0.5] * 12, [(i, 10 + i, [i, 11 - i]) for i in range(5)])
    found = frontier(trace, UNIT, limits=5, tries=20)
    for method in METHODS:
        points = [p for p in found.points if p.method == method]
        assert len(points) == 5
        assert all(p.peak <= p.limit for p in points)
        overheads = [p.overhead_s for p in points]
        assert overheads == sorted(overheads)
    best = found.best()
    assert [p.peak for p in best] == sorted({p.peak for p in best}, reverse=True)
    assert all(p.peak >= found.least_peak for p in found.points if not p.overhead_s)
    assert "swdoa" in repr(found)


def test_a_frontier_is_drawn(tmp_path):
    """As a PNG."""
    found = frontier(SMALL, UNIT, limits=[10, 15], methods=["doa"])
    assert found.plot(tmp_path / "frontier.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(DataError, match="at least one limit"):
        frontier(SMALL, UNIT, limits=[])


def test_a_limit_below_the_largest_operation_is_refused_with_the_minimum():
    """Persistent storages and what a single operation uses; at the minimum there is a plan."""
    trace = trace_of([1] * 4, [(0, 100, [1]), (1, 40, [0, 3]), (2, 60, [1, 2])], persistent=[0])
    assert trace.persistent_bytes + trace.working_set == 160
    with pytest.raises(
        ResourceError, match=r"within 159 bytes: the least is 160 bytes.*100 B persistent"
    ) as e:
        plan_swaps(trace, 159, UNIT)
    assert "raise the limit to 160 bytes" in e.value.hint
    plan = plan_swaps(trace, 160, UNIT)
    check_swaps(plan)
    assert plan.peak == 160
    with pytest.raises(ResourceError, match="the least is 200 bytes"):
        plan_swaps(trace, 160, UNIT, min_bytes=50)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mode": "sticky"}, "did you mean `stick`"),
        ({"method": "woda"}, "did you mean `wdoa`"),
        ({"link": "pcie9"}, "there is no link"),
        ({"limit": None}, "needs a limit"),
        ({"limit": "lots"}, "`lots` is not a size"),
    ],
)
def test_wrong_options_are_named(options, message):
    """With what there is instead."""
    with pytest.raises(BindError, match=message):
        plan_swaps(**{"trace": SMALL, "limit": 15, "link": UNIT, **options})
    with pytest.raises(DataError, match="no operation"):
        plan_swaps(Trace((), (), (), 0), 1, UNIT)


def test_the_check_notices_what_is_wrong():
    """Used while away, other bytes, a fetch too late for the plan's times."""
    plan = plan_swaps(SMALL, 10, UNIT, min_bytes=1)
    check_swaps(plan)
    (d,) = plan.decisions
    for wrong in (
        dataclasses.replace(d, before=7, fetch=7),
        dataclasses.replace(d, size=5),
        dataclasses.replace(d, release=1),
        dataclasses.replace(d, fetch=6),
        dataclasses.replace(d, after=2),
    ):
        with pytest.raises(InternalError, match="does not hold"):
            check_swaps(dataclasses.replace(plan, decisions=(wrong,)))


def test_operators_without_a_time_still_have_a_plan():
    """Where seconds are unknown every copy is waited for."""
    trace = trace_of([0] * 7, [(0, 10, [0, 6]), (1, 10, [3])])
    plan = plan_swaps(trace, 10, UNIT, recompute=False)
    check_swaps(plan)
    assert plan.stall_s == 2
    assert "10 B of 20 B (50.0% saved)" in repr(plan)


def test_a_roofline_sets_the_seconds():
    """The slower of arithmetic and memory."""
    operations = [
        dataclasses.replace(o, flops=f, bytes_moved=b)
        for o, f, b in zip(
            SMALL.operations,
            [28e12, 0, 14e12, 0, 0, 0, 0],
            [0, 9e11, 9e12, 0, 0, 0, 0],
            strict=True,
        )
    ]
    modelled = roofline(dataclasses.replace(SMALL, operations=tuple(operations)))
    assert [o.seconds for o in modelled.operations] == [2, 1, 10, 0, 0, 0, 0]
    with pytest.raises(DataError, match="speeds must be above 0"):
        roofline(SMALL, flops_per_s=0)
