"""`kill -9` of a process that trains; another one goes on with the search."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import searching

HERE = Path(__file__).parent


def outcome(db):
    history = db.study("m").history.drop(columns="seconds").to_json()
    query = "SELECT * FROM rows ORDER BY a"
    predicted = [db.model("m", trial=t).predict_proba(query).tolist() for t in range(1, 10)]
    return history, db.study("m").best_trial, predicted


@pytest.mark.parametrize("deaths", [(4,), pytest.param((1, 5, 7), marks=pytest.mark.slow)])
def test_a_killed_search_is_gone_on_with(tmp_path, deaths):
    with searching.begin(str(tmp_path / "whole.duckdb")) as db:
        db.sql(searching.STATEMENT, searching.PARAMETERS)
        expected = outcome(db)
    path = str(tmp_path / "killed.duckdb")
    for epoch in deaths:
        command = [sys.executable, str(HERE / "searching.py"), path, str(epoch)]
        done = subprocess.run(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, check=False)
        assert done.returncode == -signal.SIGKILL
    with searching.begin(path) as db:
        (row, *_) = db.sql("SHOW SEARCHES").arrow().to_pylist()
        assert (row["model"], row["status"]) == ("m", "INTERRUPTED")
        assert db.sql("SHOW MODELS").arrow().num_rows == 0
        (summary,) = db.sql("RESUME SEARCH m").arrow().to_pylist()
        assert summary["trials"] == 9
        assert outcome(db) == expected
        assert not list(Path(path + ".gradbase").glob("runs/*/states"))
