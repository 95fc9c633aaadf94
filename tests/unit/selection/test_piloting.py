"""What was measured of users' modules is kept: it decides what a search comes to."""

from __future__ import annotations

import pytest

from gradbase.ir.facts import Pilot
from gradbase.selection import piloting


@pytest.fixture(autouse=True)
def host(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


def test_the_first_answer_counts():
    """A busier machine, later or at the same moment in another process, changes nothing."""
    first, later = Pilot(1.0, 0.5, 0.1), Pilot(9.0, 9.0, 9.0)
    assert piloting._first_answer("net", lambda: first) == first
    assert piloting._first_answer("net", lambda: later) == first
    assert piloting._first_answer("another net", lambda: later) == later


def test_who_comes_second_takes_what_is_kept():
    first, second = Pilot(1.0, 0.5, 0.1), Pilot(9.0, reason="busy")

    def slowly():
        assert piloting._first_answer("net", lambda: first) == first
        return second

    assert piloting._first_answer("net", slowly) == first


def test_without_a_place_to_keep_it_it_is_measured(tmp_path):
    (tmp_path / "gradbase").write_text("in the way")
    assert piloting._first_answer("net", lambda: Pilot(1.0)) == Pilot(1.0)
