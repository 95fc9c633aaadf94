"""Schedules worked out by hand; seconds are units, the link moves ten bytes in one."""

from __future__ import annotations

import pytest
from tiny_traces import UNIT, trace_of

from gradbase.resources.swapping.check import check_swaps
from gradbase.resources.swapping.link import Link
from gradbase.resources.swapping.planner import Planner, plan_swaps


def plan(trace, limit=None, link=UNIT, **options):
    """A checked plan that may use every gap."""
    mode = "no overhead" if limit is None else "stick"
    options = {"recompute": False, "min_bytes": 1, **options}
    found = plan_swaps(trace, limit, link, mode=mode, **options)
    check_swaps(found)
    return found


def moments(found):
    """(storage, after, release, fetch, before) of each decision."""
    return [(d.storage, d.after, d.release, d.fetch, d.before) for d in found.decisions]


# A of 10 bytes is made first and used last; the operation in the middle makes B of 10 bytes.
PEAK = trace_of([1] * 7, [(0, 10, [0, 6]), (1, 10, [3])])


def test_without_overhead_a_storage_leaves_as_soon_and_returns_as_late_as_it_can():
    """Out during operation 1, in during operation 5: nobody waits, the peak is halved."""
    found = plan(PEAK)
    assert moments(found) == [(0, 0, 2, 5, 6)]
    assert found.copies() == [(0, "out", 1.0, 2.0), (0, "in", 5.0, 6.0)]
    assert found.load().tolist() == [10, 10, 0, 10, 0, 10, 10]
    assert (found.peak, found.overhead_s, found.bytes_moved) == (10, 0, 20)


def test_a_gap_without_time_for_both_copies_is_not_used():
    """Four seconds of operators and three for each copy: without overhead A stays."""
    found = plan(PEAK, link=Link(0, 10 / 3, 0, 10 / 3))
    assert found.decisions == ()
    assert found.peak == 20


def test_the_limit_is_kept_by_waiting_for_the_copies():
    """Copies of three seconds: operator 3 waits 1 s for the one, operator 6 waits 1 s for the other."""
    found = plan(PEAK, 10, Link(0, 10 / 3, 0, 10 / 3))
    assert moments(found) == [(0, 0, 3, 4, 6)]
    assert found.peak == 10
    assert found.stall_s == pytest.approx(2)
    assert [(d, round(a, 6), round(b, 6)) for _, d, a, b in found.copies()] == [
        ("out", 1, 4),
        ("in", 5, 8),
    ]


def test_copies_of_one_direction_follow_each_other():
    """Two storages share the streams: the second leaves when the first has gone."""
    trace = trace_of([1] * 12, [(0, 20, [0, 11]), (1, 10, [1, 10]), (2, 30, [5])])
    found = plan(trace)
    assert found.copies() == [
        (0, "out", 1.0, 3.0),
        (1, "out", 3.0, 4.0),
        (1, "in", 8.0, 9.0),
        (0, "in", 9.0, 11.0),
    ]
    assert found.peak == 30


def test_a_copy_in_waits_until_its_bytes_fit_until_its_use():
    """In time it would begin in operation 4; operation 5 has no room, so it begins in 6, and 7 waits."""
    trace = trace_of([1] * 8, [(0, 30, [0, 7]), (1, 30, [5])])
    found = plan(trace, 30)
    assert moments(found) == [(0, 0, 4, 6, 7)]
    assert found.stall_s == pytest.approx(2)  # 6 to 9 for the copy, operator 6 runs meanwhile


def test_each_direction_has_its_own_speed():
    """Out in one second, in in three."""
    trace = trace_of([1] * 9, [(0, 10, [0, 8]), (1, 10, [3])])
    found = plan(trace, link=Link(0, 10, 0.5, 4))
    assert found.copies() == [(0, "out", 1.0, 2.0), (0, "in", 5.0, 8.0)]
    found = plan(PEAK, 10, Link(0, 10, 1, 5))
    assert found.stall_s == pytest.approx(1)  # in from 4, with the latency until 7


def test_persistent_storages_leave_between_iterations_if_asked():
    """Optimiser state, used by the last operation only, is away while the others run."""
    trace = trace_of([1] * 8, [(0, 20, [7]), (1, 30, [2, 3])], persistent=[0])
    assert plan(trace).peak == 50
    found = plan(trace, persistent=True)
    assert moments(found) == [(0, 7, 10, 13, 15)]
    assert found.load().tolist() == [20, 20, 30, 30, 0, 20, 20, 20]
    assert found.peak == 30


def test_what_nobody_uses_again_leaves_for_good():
    """Its last use is over, it is freed much later: one copy, out."""
    trace = trace_of([1] * 6, [(0, 10, [0]), (1, 10, [3])], freed={0: 6})
    found = plan(trace)
    assert moments(found) == [(0, 0, 2, 6, 6)]
    assert found.copies() == [(0, "out", 1.0, 2.0)]
    assert (found.peak, found.bytes_moved) == (10, 10)


def test_a_storage_of_the_next_iteration_may_be_away_across_the_boundary():
    """Made by the last operation, read by the third of the next iteration."""
    trace = trace_of([1] * 8, [(0, 10, [7, 11]), (1, 10, [1])])
    found = plan(trace, 10)
    assert (found.peak, found.overhead_s) == (10, 0)
    assert moments(found) == [(0, 7, 9, 10, 11)]


def test_a_step_that_fits_is_left_alone():
    """No decision, no overhead."""
    found = plan(PEAK, "20 B")
    assert (found.decisions, found.overhead_s, found.peak) == ((), 0, 20)


def test_planning_on_a_coarse_step_is_exact_in_full_resolution():
    """A thousand operations are planned in few hundred slots; the check is on operations."""
    trace = trace_of(
        [0.01] * 1000, [(i, 10 + i, [3 * i, 999 - 3 * i]) for i in range(12)] + [(99, 40, [500])]
    )
    assert Planner(trace, UNIT, min_bytes=1).minimum == 40
    found = plan(trace, 120, Link(0.01, 90, 0.02, 60))
    assert found.peak <= 120
