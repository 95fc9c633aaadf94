"""Scores against their formulas, and selecting by them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_traces import LINKS, UNIT, trace_of, training_steps

from gradbase.resources.swapping.scores import SCORES, ranks, select
from gradbase.resources.swapping.step import step_of

# Loads 20 20 50 50 20 20; only A can be away.
STEP = step_of(
    trace_of(
        [1, 1, 2, 1, 1, 1],
        [(0, 20, [0, 5]), (1, 10, [2, 3]), (2, 20, [2, 3])],
    ),
    UNIT,
    min_bytes=1,
    persistent=False,
)


def formulas(step, gap, load, limit):
    """DOA, AOA and WDOA of a gap, written out."""

    def t(slot):
        return sum(step.ticks[i % step.slots] for i in range(slot))

    doa = t(gap.need) - t(gap.first) - gap.out_ticks - gap.in_ticks
    aoa = doa * gap.size if doa >= 0 else doa / gap.size
    wdoa = sum(load[i % step.slots] - limit for i in range(gap.first - 1, gap.need))
    return {"doa": doa, "aoa": aoa, "wdoa": wdoa, "swdoa": wdoa}


@given(training_steps(), LINKS, st.integers(0, 100), st.booleans())
def test_scores_are_their_formulas(trace, link, limit, persistent):
    """On random steps, with gaps that cross iterations too."""
    step = step_of(trace, link, min_bytes=1, persistent=persistent)
    for name, score in SCORES.items():
        expected = [formulas(step, g, step.load, limit)[name] for g in step.gaps]
        assert score(step, step.gaps, step.load, limit).tolist() == pytest.approx(expected)


def test_a_gap_lies_between_two_uses():
    """It begins after one and ends before the other; none is made of neighbouring uses."""
    assert [(g.storage, g.first, g.need) for g in STEP.gaps] == [(0, 1, 5)]
    assert STEP.load.tolist() == [20, 20, 50, 50, 20, 20]


def test_ranks_run_from_zero_to_one_and_ties_share():
    """Whatever the unit of the score."""
    assert ranks(np.array([5.0, 100.0, 5.0, -1.0])).tolist() == pytest.approx([0.5, 1, 0.5, 0])
    assert ranks(np.array([3.0])).tolist() == [0]
    assert ranks(np.array([])).tolist() == []


@given(training_steps(), LINKS, st.integers(0, 100))
def test_swdoa_counts_what_is_left_after_each_selection(trace, link, percent):
    """Selecting by it is choosing the largest WDOA on the load so far, again and again."""
    step = step_of(trace, link, min_bytes=1, persistent=False)
    low, high = int(step.least_load().max()), int(step.load.max())
    limit = low + (high - low) * percent // 100
    load, left, expected = step.load.copy(), step.across(limit), []
    while load.max() > limit:
        best = max(
            left,
            key=lambda i: (
                formulas(step, step.gaps[i], load, limit)["wdoa"],
                step.gaps[i].size,
                -i,
            ),
        )
        expected.append(best)
        left.remove(best)
        gap = step.gaps[best]
        for i in range(gap.first, gap.need):
            load[i % step.slots] -= gap.size
    assert select(step, limit, {"swdoa": 1.0}) == expected


def test_selection_stops_when_the_load_fits_and_says_when_it_cannot():
    """Nothing is chosen above the peak, None below what all gaps together reach."""
    assert select(STEP, 50, {"doa": 1.0}) == []
    assert select(STEP, 30, {"doa": 1.0}) == [0]
    assert select(STEP, 29, {"aoa": 1.0}) is None


@pytest.mark.parametrize("name", SCORES)
def test_weights_of_one_score_give_that_score(name):
    """A sum of ranks with one weight orders as the score itself."""
    trace = trace_of([1] * 9, [(0, 30, [0, 8]), (1, 20, [1, 7]), (2, 50, [2, 6]), (3, 10, [3, 5])])
    step = step_of(trace, UNIT, min_bytes=1, persistent=False)
    chosen = select(step, 80, {name: 0.3})
    if name != "swdoa":
        values = SCORES[name](step, step.gaps, step.load, 80)
        assert values[chosen[0]] == values.max()
    assert chosen == select(step, 80, {**dict.fromkeys(SCORES, 0.0), name: 1.0})
