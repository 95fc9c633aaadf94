"""`kill -9` of a process that trains; another one goes on with the search."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import searching

HERE = Path(__file__).parent


def outcome(db):
    history = db.study("m").history.drop(columns="seconds").to_json()
    query = "SELECT * FROM rows ORDER BY a"
    predicted = [db.model("m", trial=t).predict_proba(query).tolist() for t in range(1, 10)]
    return history, db.study("m").best_trial, predicted


CASES = [
    ("in_process", (4,)),
    pytest.param("in_process", (1, 5, 7), marks=pytest.mark.slow),
    pytest.param("processes", (4,), marks=pytest.mark.slow),
    pytest.param("ray", (4,), marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("executor", "deaths"), CASES)
def test_a_killed_search_is_gone_on_with(tmp_path, executor, deaths):
    """Wherever its units train; workers that nobody waits for end by themselves."""
    if executor == "ray":
        pytest.importorskip("ray")
    with searching.begin(str(tmp_path / "whole.duckdb")) as db:
        db.sql(searching.STATEMENT.format("in_process"), searching.PARAMETERS)
        expected = outcome(db)
    path = str(tmp_path / "killed.duckdb")
    for epoch in deaths:
        command = [sys.executable, str(HERE / "searching.py"), path, str(epoch), executor]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, env=environment, check=False)
        assert done.returncode == -signal.SIGKILL
        _check_gone([int(p) for p in Path(path + ".pids").read_text().split()], executor)
    with searching.begin(path) as db:
        (row, *_) = db.sql("SHOW SEARCHES").arrow().to_pylist()
        assert (row["model"], row["status"]) == ("m", "INTERRUPTED")
        assert db.sql("SHOW MODELS").arrow().num_rows == 0
        (summary,) = db.sql("RESUME SEARCH m").arrow().to_pylist()
        assert summary["trials"] == 9
        assert outcome(db) == expected
        assert not list(Path(path + ".gradbase").glob("runs/*/states"))


def _check_gone(pids, executor):
    """Workers end; of Ray's own processes some may not, which is Ray's affair."""
    assert bool(pids) == (executor != "in_process")
    found = [psutil.Process(pid) for pid in pids if psutil.pid_exists(pid)]
    left = psutil.wait_procs(found, timeout=20)[1]
    try:
        assert not [p for p in left if "Worker" in p.name() or executor == "processes"]
    finally:
        for process in left:
            process.kill()
