"""One model per group, interrupted: what had ended stays, the rest is trained, to the same bits."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import numpy as np
import pytest

import gradbase as gb
from gradbase.errors import CancelledError, DataError, ResourceError
from gradbase.selection import group_training
from gradbase.selection.group_journal import GroupJournal

ROWS = """CREATE TABLE IF NOT EXISTS sales AS SELECT i AS id, i % 30 AS shop, sin(i * 7) AS a, cos(i) AS b,
          CASE WHEN sin(i * 7) + cos(i * 3) > 0 THEN 'yes' ELSE 'no' END AS y FROM range(1200) r(i)"""
TRAIN = """CREATE OR REPLACE MODEL m OPTIONS (model_type = 'dnn_classifier', input_label_cols = ['y'],
           group_by = ['shop'], row_key = ['id'], hidden_units = [4], max_epochs = 3, early_stop = FALSE,
           learn_rate = HPARAM_CANDIDATES([0.01, 0.1]), data_split_eval_fraction = 0.2, unseen_group = 'pooled')
           AS SELECT * FROM sales"""


@pytest.fixture
def db(tmp_path, monkeypatch):
    monkeypatch.setattr(group_training, "STACK_ELEMENTS", 300)  # many stacks
    with gb.connect(tmp_path / "shop.duckdb", progress=False, threads=1) as session:
        session.sql(ROWS)
        yield session


def models(session):
    """All that is stored of the trials."""
    record = session.store.record("m")
    return [(t.trial, t.metrics, t.train_loss, t.status, len(t.epochs)) for t in record.trials], {
        name: value.tobytes() for t in record.trials for name, value in t.params.items()
    }


def interrupted_after(monkeypatch, stacks, how=KeyboardInterrupt):
    """Let training stop when so many stacks are on disk."""
    saved, save = [], GroupJournal.save

    def stop(self, pairs):
        save(self, pairs)
        saved.append(len(pairs))
        if len(saved) == stacks:
            raise how

    monkeypatch.setattr(GroupJournal, "save", stop)
    return saved


def test_what_was_trained_is_not_trained_again(db, monkeypatch):
    db.sql(TRAIN)
    expected = models(db)
    with monkeypatch.context() as patched:
        interrupted_after(patched, 3)
        with pytest.raises(CancelledError, match='RESUME SEARCH "m"'):
            db.sql(TRAIN)
    [run] = [r for r in gb.runs(db.engine.path) if r.status == "INTERRUPTED"]
    kept = sum(t["status"] == "SUCCEEDED" for t in run.trials)
    assert 0 < kept < 62
    trained = interrupted_after(monkeypatch, 1_000)
    db.sql("RESUME SEARCH m")
    assert sum(trained) == 62 - kept
    assert models(db) == expected
    assert [r.status for r in gb.runs(db.engine.path)] == ["DONE", "DONE"]
    assert len(run.trials) == 62


def test_other_rows_are_an_error(db, monkeypatch):
    with monkeypatch.context() as patched:
        interrupted_after(patched, 2, OSError("disk"))
        with pytest.raises(OSError, match="disk"):
            db.sql(TRAIN)
    db.sql("UPDATE sales SET a = a + 1 WHERE id = 7")
    with pytest.raises(DataError, match="have changed since run"):
        db.resume("m")


def test_a_training_that_does_not_fit_says_so(db):
    db.sql("SET gradbase.memory_limit = '24MB'")
    db.sql(
        "CREATE OR REPLACE TABLE sales AS SELECT s.* REPLACE (i * 1200 + id AS id) FROM sales s, range(100) r(i)"
    )
    with pytest.raises(ResourceError, match="the rows and a stack of groups of `m` need"):
        db.sql(TRAIN)


@pytest.mark.slow
def test_a_killed_process_is_gone_on_with(tmp_path):
    path = tmp_path / "shop.duckdb"
    code = f"""
import os, signal
import gradbase as gb
from gradbase.selection import group_training
from gradbase.selection.group_journal import GroupJournal
group_training.STACK_ELEMENTS = 300
save, count = GroupJournal.save, []
def killing(self, pairs):
    save(self, pairs)
    count.append(1)
    if len(count) == 4:
        os.kill(os.getpid(), signal.SIGKILL)
GroupJournal.save = killing
db = gb.connect({str(path)!r}, progress=False, threads=1)
db.sql({ROWS!r})
db.sql({TRAIN!r})
"""
    done = subprocess.run([sys.executable, "-c", code], env=os.environ, check=False)
    assert done.returncode == -signal.SIGKILL
    with gb.connect(path, progress=False) as db:
        db.resume("m")
        found = models(db)
        db.sql(TRAIN)
        assert models(db) == found
        assert np.isfinite(db.model("m").predict_proba(db.table("sales"))).all()
