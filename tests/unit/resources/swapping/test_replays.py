"""Recomputation: what may run again, what it needs, and when it is cheaper than copying."""

from __future__ import annotations

import pytest
from tiny_traces import UNIT, trace_of

from gradbase.resources.lifetimes import Access, Operation, Storage, Trace
from gradbase.resources.swapping.check import check_swaps
from gradbase.resources.swapping.link import Link
from gradbase.resources.swapping.planner import plan_swaps
from gradbase.resources.swapping.replay import Replay, Replays, deterministic
from gradbase.resources.swapping.step import step_of


def replays_of(trace: Trace) -> dict[int, Replay | None]:
    """The replay of each storage's first gap that is read again."""
    found = Replays(trace)
    step = step_of(trace, UNIT, min_bytes=1, persistent=False)
    return {g.storage: found.of(g) for g in reversed(step.gaps) if g.returns}


# Weights W; a = f(x, W) in operation 1, b = f(a, W) in 2; backward reads b in 6 and a in 8.
CHAIN = trace_of(
    [1, 0.5, 0.25, 1, 1, 1, 1, 1, 1],
    [(9, 5, [1, 2]), (0, 10, [0, 1, 8]), (1, 10, [1, 2, 8]), (2, 10, [2, 6]), (3, 30, [4])],
    persistent=[9],
)


def test_a_storage_is_computed_again_from_what_is_still_there():
    """b from a; a from x; x, which nothing that is left can make, not at all from another."""
    replays = replays_of(CHAIN)
    assert replays[2] == Replay((2,), frozenset({1, 9}), 250_000_000_000, 0)
    assert replays[1] == Replay((1,), frozenset({0, 9}), 500_000_000_000, 0)
    assert replays[0] == Replay((0,), frozenset(), 1_000_000_000_000, 0)


def test_what_is_gone_is_computed_again_on_the_way():
    """An intermediate that was freed costs time and memory of its own."""
    trace = trace_of([1] * 6, [(0, 10, [0, 1, 5]), (1, 7, [1, 2]), (2, 10, [2, 5])])
    assert replays_of(trace)[2] == Replay((1, 2), frozenset({0}), 2 * 10**12, 7)


@pytest.mark.parametrize(
    ("name", "again"),
    [
        ("aten.relu", True),
        ("aten.native_layer_norm", True),
        ("aten.native_dropout", False),
        ("aten.bernoulli_", False),
        ("aten.normal_", False),
        ("aten.rand_like", False),
        ("aten._scaled_dot_product_flash_attention_for_cpu", False),
    ],
)
def test_random_operations_never_run_again(name, again):
    """Attention may hold dropout, which its name does not tell."""
    trace = trace_of([1] * 5, [(0, 10, [0, 1, 4]), (1, 10, [1, 4])], names=["aten.mul", name])
    assert deterministic(name) == again
    assert (replays_of(trace)[1] is not None) == again


def test_inputs_must_be_as_they_were():
    """One that was written in between cannot serve, nor one that is freed before."""
    trace = trace_of([1] * 6, [(0, 10, [0, 1, 5]), (1, 10, [1, 5])])
    assert replays_of(trace)[1] is not None
    written = Access(3, 0, "write")
    changed = Trace(trace.storages, trace.operations, (*trace.accesses, written), 6)
    # What made it first can be run for its first state.
    assert replays_of(changed)[1] == Replay((0, 1), frozenset(), 2 * 10**12, 10)


def test_an_operation_with_side_effects_does_not_run_again():
    """Batch normalisation moves its running mean with each call."""
    operations = tuple(Operation(i, "aten.native_batch_norm", seconds=1.0) for i in range(5))
    storages = (Storage(0, 4, 0, 5, persistent=True), Storage(1, 10, 0, 5), Storage(2, 10, 1, 5))
    accesses = [
        Access(0, 1, "write"),
        Access(1, 1, "read"),
        Access(1, 2, "write"),
        Access(4, 2, "read"),
    ]
    pure = Trace(storages, operations, tuple(accesses), 5)
    assert replays_of(pure)[2] is not None
    accesses.insert(3, Access(1, 0, "write"))
    assert replays_of(Trace(storages, operations, tuple(accesses), 5))[2] is None


def test_work_in_place_is_run_again_too():
    """A storage made by one operation and changed by another needs both."""
    trace = trace_of([1] * 6, [(0, 10, [0, 1, 5]), (1, 10, [1, 2, 5])])
    in_place = Trace(trace.storages, trace.operations, (*trace.accesses, Access(2, 1, "write")), 6)
    assert replays_of(in_place)[1] == Replay((1, 2), frozenset({0}), 2 * 10**12, 0)


def test_long_chains_are_not_run_again():
    """At most eight operations for one storage."""
    for length, possible in ((8, True), (9, False)):
        n = length + 3
        storages = [(i, 1, [i, i + 1]) for i in range(length - 1)]
        trace = trace_of([1] * n, [*storages, (length - 1, 10, [length - 1, n - 1])])
        assert (replays_of(trace)[length - 1] is not None) == possible


@pytest.mark.parametrize(("speed", "choice"), [(1000, "swap"), (5, "recompute")])
def test_the_cheaper_way_is_chosen(speed, choice):
    """b takes a quarter of a second to compute; copying anything takes next to nothing, or seconds."""
    link = Link(0, speed, 0, speed)
    plan = plan_swaps(CHAIN, 55, link, min_bytes=1)
    check_swaps(plan)
    assert {d.choice for d in plan.decisions} == {choice}
    assert plan.replay_s == (0.25 if choice == "recompute" else 0)
    assert [d.operations for d in plan.decisions if d.storage == 2] == [(2,)] * (speed == 5)
    assert plan.overhead_s <= 0.25


def test_recomputation_brings_its_inputs_back_first():
    """At a limit that drops both, a is back for b, although its own use is later."""
    plan = plan_swaps(CHAIN, 45, Link(0, 5, 0, 5), min_bytes=1)
    check_swaps(plan)
    assert plan.peak <= 45
    again = {d.storage: d for d in plan.decisions if d.choice == "recompute"}
    if {1, 2} <= again.keys():
        assert again[1].before == again[2].before == 6


def test_without_overhead_nothing_is_recomputed():
    """It would cost time."""
    plan = plan_swaps(CHAIN, None, Link(0, 5, 0, 5), mode="no overhead", min_bytes=1)
    assert not any(d.choice == "recompute" for d in plan.decisions)
