"""What operators really took: bounded, fading, kept."""

from __future__ import annotations

import pytest

from gradbase.resources.history import FADES_S, KEPT, LEAST_S, MOST, History


def learnt(history, measured_s, times=60, operator="dl m"):
    for _ in range(times):
        history.observe(operator, expected_s=1.0, measured_s=measured_s)
    return history.ratio(operator)


@pytest.mark.parametrize(
    ("measured_s", "expected"), [(1.0, 1.0), (3.0, 3.0), (0.5, 0.5), (100.0, MOST), (0.1, 1 / MOST)]
)
def test_ratios_follow_what_is_measured_within_bounds(measured_s, expected):
    assert learnt(History(now=lambda: 0.0), measured_s) == pytest.approx(expected, rel=1e-3)


def test_one_run_moves_a_ratio_by_a_quarter():
    assert learnt(History(now=lambda: 0.0), 16.0, times=1) == pytest.approx(4**0.25)


@pytest.mark.parametrize("run", [(0.0, 1.0), (1.0, LEAST_S / 2)])
def test_what_tells_nothing_is_left_out(run):
    history = History()
    history.observe("dl m", expected_s=run[0], measured_s=run[1])
    assert history.ratio("dl m") == 1.0


def test_plans_are_made_anew_only_where_a_ratio_moved_by_a_quarter():
    history = History(now=lambda: 0.0)
    learnt(history, 1.1)
    assert history.version == 1  # for the seconds that were spent, see below
    learnt(history, 3.0)
    moved = history.version
    assert 0 < moved < 6
    learnt(history, 2.9)
    assert history.version == moved


def test_ratios_fade():
    clock = [0.0]
    history = History(now=lambda: clock[0])
    assert learnt(history, 4.0) == pytest.approx(4.0, rel=1e-3)
    clock[0] = FADES_S
    assert history.ratio("dl m") == pytest.approx(2.0, rel=1e-3)


def test_the_oldest_make_way():
    history = History(now=lambda: 0.0)
    learnt(history, 3.0, operator="first")
    for i in range(KEPT):
        learnt(history, 2.0, 1, f"other {i}")
    assert history.ratio("first") == 1.0


def test_ratios_are_kept_in_a_file(tmp_path):
    path = tmp_path / "folder" / "history.json"
    history = History(path, now=lambda: 5.0)
    before = learnt(history, 3.0)
    history.save()
    assert History(path, now=lambda: 5.0).ratio("dl m") == before
    saved = path.read_text()
    for text in ("{damaged", saved.replace('"formulas": ', '"formulas": 9'), "[]"):
        path.write_text(text)
        assert History(path, now=lambda: 5.0).ratio("dl m") == 1.0


def test_a_folder_that_cannot_be_written_is_no_error(tmp_path):
    (tmp_path / "file").write_text("")
    history = History(tmp_path / "file" / "history.json")
    learnt(history, 2.0)
    history.save()


def test_what_was_spent_is_summed_and_a_large_sum_changes_plans():
    """Short runs count too: they tell nothing about speed, but add up."""
    history = History(now=lambda: 0.0)
    for _ in range(299):
        history.observe("dl m", expected_s=0.01, measured_s=0.01)
    assert (history.version, round(history.spent("dl m"), 2)) == (0, 2.99)
    history.observe("dl m", expected_s=0.01, measured_s=0.015)
    assert history.version == 1
    assert history.spent("udf m") == 0.0
