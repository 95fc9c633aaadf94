"""A training whose server goes away: it waits, goes on, or says how to go on."""

from __future__ import annotations

import threading

import pytest

import gradbase as gb
from gradbase.errors import BindError, CancelledError, ConnectionLostError
from gradbase.selection import waiting
from gradbase.store import Store

TRAIN = (
    "CREATE MODEL m OPTIONS (model_type = 'logistic_reg', input_label_cols = ['y'], {}"
    "max_epochs = 1, seed = 1) AS SELECT i AS x, i % 2 AS g, i > 20 AS y FROM range(40) t(i)"
)


@pytest.fixture
def db(monkeypatch):
    monkeypatch.setattr(waiting, "_FIRST_S", 0.001)
    with gb.connect(progress=False) as session:
        yield session


def losing(monkeypatch, name, *, looks):
    """The server is lost at the first call of a method of the store, and for so many looks."""
    plain, left, answers = getattr(Store, name), [1], waiting._answers
    after = name == "_after_commit"

    def lost(self, *args, **options):
        if after:
            plain(self, *args, **options)
        if left[0]:
            left[0] = 0
            raise ConnectionLostError("the connection is lost")
        return None if after else plain(self, *args, **options)

    def answers_late(context):
        left.append(0)
        return len(left) > looks + 1 and answers(context)

    monkeypatch.setattr(Store, name, lost)
    monkeypatch.setattr(waiting, "_answers", answers_late)


@pytest.mark.parametrize("options", ["", "group_by = ['g'], "])
@pytest.mark.parametrize("name", ["commit", "_after_commit"])
def test_goes_on(db, monkeypatch, caplog, options, name):
    """With what was trained; a model whose commit only lost its answer is not made twice."""
    losing(monkeypatch, name, looks=3)
    (row,) = db.sql(TRAIN.format(options)).arrow().to_pylist()
    assert row["version"] == 1
    assert db.sql("SHOW SEARCHES").arrow()["status"].to_pylist() == ["DONE"]
    assert db.sql("SELECT version FROM gradbase.versions").fetchall() == [(1,)]
    assert "waits up to 120 s for the server: the connection is lost" in caplog.text


@pytest.mark.parametrize("seconds", [0, 0.1])
def test_not_back_in_time(db, monkeypatch, seconds):
    """The search is paused; where nobody wants to wait, at once."""
    losing(monkeypatch, "commit", looks=1000)
    db.change_settings(reconnect_timeout_s=seconds)
    with pytest.raises(ConnectionLostError, match="RESUME SEARCH"):
        db.sql(TRAIN.format(""))
    monkeypatch.undo()
    db.sql("RESUME SEARCH m")
    assert db.store.names() == ("m",)


def test_cancelled_while_it_waits(db, monkeypatch):
    """At once."""
    losing(monkeypatch, "commit", looks=1000)
    monkeypatch.setattr(waiting, "_FIRST_S", 60.0)
    threading.Timer(0.3, db.cancel).start()
    with pytest.raises(CancelledError, match="RESUME SEARCH"):
        db.sql(TRAIN.format(""))


def test_a_model_that_is_made_is_not_resumed(db, monkeypatch):
    """Though its process died before it could say so."""
    with monkeypatch.context() as patched:
        patched.setattr(Store, "finish_run", lambda *_: None)
        db.sql(TRAIN.format(""))
    monkeypatch.setattr("gradbase.store.runs._PROCESS", "another")
    with pytest.raises(BindError, match="the search for model `m` has come to its end"):
        db.sql("RESUME SEARCH m")
