"""Journals: on disk before `append` returns, readable whatever a crash left of the end."""

from __future__ import annotations

import pytest

from gradbase.errors import StoreError
from gradbase.store import journal
from gradbase.store.journal import Journal, post, read


@pytest.fixture
def started(tmp_path):
    with Journal.create(tmp_path, "r1", {"model": "churn"}) as made:
        made.append({"event": "epoch", "trial": 1, "loss": float("nan")})
        yield made


def test_events_are_read_in_order(started):
    """With the header first and the time of each."""
    found = read(started.path)
    assert [e["event"] for e in found] == ["start", "epoch"]
    assert found[0]["model"] == "churn"
    assert found[0]["at"] <= found[1]["at"]


@pytest.mark.parametrize(
    "torn", [b'{"event": "ep', b"{", b"\x00\x00", b'{"event": 1}', b"garbage\n"]
)
def test_a_torn_last_line_is_ignored(started, torn):
    """Whatever is in it, a journal goes on behind the last whole line."""
    with started.path.open("ab") as file:
        file.write(torn)
    assert len(read(started.path)) == 2
    with Journal.resume(started.path.parents[1], "r1") as resumed:
        resumed.append({"event": "epoch", "trial": 2})
    assert [e.get("trial") for e in read(started.path)] == [None, 1, 2]


def test_every_cut_is_readable(started):
    """A file that ends anywhere gives the events that are whole."""
    data = started.path.read_bytes()
    for size in range(len(data) + 1):
        started.path.write_bytes(data[:size])
        assert len(read(started.path)) == data[:size].count(b"\n")


def test_damage_before_the_end_is_an_error(started):
    """It is not what a crash leaves."""
    data = started.path.read_bytes()
    started.path.write_bytes(b"x" + data)
    with pytest.raises(StoreError, match="line 1 of 2"):
        read(started.path)


def test_a_run_is_started_once(started, tmp_path):
    """Two coordinators cannot share a journal."""
    with pytest.raises(StoreError, match="r1"):
        Journal.create(tmp_path, "r1", {})


@pytest.mark.parametrize("run_id", ["", "..", "a/b", "-x", "a" * 101])
def test_a_run_id_is_no_path(tmp_path, run_id):
    """It names a folder."""
    with pytest.raises(StoreError, match="no run id"):
        Journal.create(tmp_path, run_id, {})


def test_a_missing_journal_says_so(tmp_path):
    """With its path."""
    with pytest.raises(StoreError, match=r"nothing\.jsonl"):
        read(tmp_path / "nothing.jsonl")


def test_commands_arrive_once_and_in_order(started):
    """Other processes post them; what is no command is dropped."""
    folder = started.path.parent
    post(folder, {"command": "stop", "trial": 1})
    post(folder, {"command": "stop", "trial": 2})
    (folder / journal.MAILBOX / "0.json").write_text("[" * 100_000)
    assert [c["trial"] for c in started.take()] == [1, 2]
    assert started.take() == []
