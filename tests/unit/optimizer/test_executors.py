"""Where a search trains, by cost."""

from __future__ import annotations

import pytest

import gradbase as gb

LONG = "max_epochs = 400, num_trials = 8, learn_rate = HPARAM_RANGE(0.001, 0.1)"
CASES = [
    ("python:json:loads", LONG, "processes"),
    ("python:json:loads", "max_epochs = 1", "in_process"),
    ("python:json:loads", LONG + ", executor = 'in_process'", "in_process"),
    ("logistic_reg", "max_epochs = 2, num_trials = 2", "in_process"),
]


@pytest.fixture
def db():
    with gb.connect(":memory:", progress=False, threads=2, python_modules=["json"]) as session:
        session.sql("CREATE TABLE t AS SELECT i % 7 AS a, i % 2 AS y FROM range(20000) r(i)")
        yield session


@pytest.mark.parametrize("case", CASES)
def test_long_searches_of_modules_go_to_processes(db, case, monkeypatch):
    kind, options, expected = case
    monkeypatch.setattr("gradbase.selection.piloting.ModuleFacts.step_bytes", lambda *_: None)
    text = db.explain(
        f"CREATE MODEL m OPTIONS (model_type = '{kind}', input_label_cols = ['y'], {options}) "
        "AS SELECT * FROM t"
    )
    assert (", processes" in text) == (expected == "processes"), text
    if expected == "processes":
        assert "access to rows: " in text
        assert "in this process ≈" in text


def test_hopping_is_told(db):
    text = db.explain(
        "CREATE MODEL m OPTIONS (model_type = 'logistic_reg', input_label_cols = ['y'], "
        "executor = 'processes', workers = 2, shard_order = 'staggered', num_trials = 4) "
        "AS SELECT * FROM t"
    )
    assert "processes, hopping from shard to shard" in text
