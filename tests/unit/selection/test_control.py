"""Looking at a search that runs, and changing it, through its journal and mailbox."""

from __future__ import annotations

import contextlib
import threading
import time

import pytest

import gradbase as gb
from gradbase.errors import BindError, CancelledError, StoreError
from gradbase.store.journal import post

EPOCHS = 110


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "d.duckdb")


@pytest.fixture
def db(path):
    with gb.connect(path, progress=False) as session:
        session.sql(
            "CREATE TABLE t AS SELECT sin(i) AS a, cos(i * i) AS b, "
            "(sin(i) + cos(3 * i) > 0)::INT AS y FROM range(200) r(i)"
        )
        yield session


def train(db, **options):
    db.table("t").fit(
        gb.mlp(hidden=[4]), target="y", name="m", lr=gb.choice(0.001, 0.01, 0.1), batch_size=16,
        epochs=EPOCHS, early_stop=False, **({"split": "random"} | options),
    )  # fmt: skip


@contextlib.contextmanager
def training(db, **options):
    """The search in a thread of its own."""
    errors = []

    def work():
        try:
            train(db, **options)
        except CancelledError as error:
            errors.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    yield errors
    thread.join()


def until(condition):
    """The first value of `condition` that is true."""
    for _ in range(2000):
        with contextlib.suppress(LookupError, StoreError):
            if found := condition():
                return found
        time.sleep(0.01)
    raise AssertionError("it never came")


def begun(path):
    return until(lambda: [r for r in gb.runs(path) if r.trials and r.trials[0]["epochs"] > 1])[0]


def test_a_run_is_seen_stopped_cloned_and_added_to(db, path):
    with training(db):
        run = begun(path)
        assert (run.status, run.model) == ("RUNNING", "m")
        assert [t["learn_rate"] for t in run.trials] == [0.001, 0.01, 0.1]
        with gb.connect(progress=False) as other:  # in any process: the file is not opened
            shown = other.sql(f"SHOW TRIALS OF SEARCH m IN '{path}'").arrow()
            other.sql(f"ALTER SEARCH m IN '{path}' STOP TRIAL 2")
            other.sql(f"ALTER SEARCH M IN '{path}' CLONE TRIAL 3 OPTIONS (learn_rate = 0.05)")
            searches = other.sql(f"SHOW SEARCHES IN '{path}'").arrow().to_pylist()
        assert shown.select(["trial", "learn_rate"]).to_pylist()[2] == {
            "trial": 3,
            "learn_rate": 0.1,
        }
        assert [(s["model"], s["status"], s["finished"]) for s in searches] == [
            ("m", "RUNNING", None)
        ]
        db.sql("ALTER SEARCH m ADD TRIAL OPTIONS (learn_rate = 0.02)")
    trials = db.study("m").trials.set_index("trial")
    assert run.status == "DONE"
    assert trials.loc[2, "status"] == "STOPPED"
    assert trials.loc[2, "epochs"] < EPOCHS
    assert set(trials.learn_rate[3:]) == {0.05, 0.02}
    assert list(trials.epochs[3:]) == [EPOCHS, EPOCHS]
    history = db.study("m").history
    clone = int(trials.index[trials.learn_rate == 0.05][0])
    mine, parents = (history[history.trial == t].set_index("epoch").train_loss for t in (clone, 3))
    assert mine[1] == parents[1]  # what it was cloned from
    assert mine[EPOCHS] != parents[EPOCHS]
    assert len(db.model("m", trial=2).predict("SELECT * FROM t")) == 200


def test_a_trial_that_was_stopped_goes_on_where_it_was(db, path):
    train(db)
    losses = db.study("m").history.sort_values(["trial", "epoch"]).train_loss.tolist()
    db.sql("DROP MODEL m")
    with training(db):
        run = begun(path)
        run.stop(2)
        until(lambda: run.trials[1]["status"] == "STOPPED")
        assert run.trials[1]["epochs"] < EPOCHS
        db.sql("ALTER SEARCH m RESUME TRIAL 2")
        until(lambda: run.trials[1]["status"] == "RUNNING")
        run.resume(1)  # nobody stopped it
    assert db.study("m").history.sort_values(["trial", "epoch"]).train_loss.tolist() == losses
    assert list(db.study("m").trials.status) == ["SUCCEEDED"] * 3
    assert [e["reason"] for e in run.events if e["event"] == "refused"] == [
        "BindError: trial 1 was not stopped"
    ]
    assert db.model("m", trial=2).replay().same


def test_a_search_that_was_changed_and_stopped_goes_on_as_changed(db, path):
    with training(db) as errors:
        run = begun(path)
        run.stop(2)
        run.add({"learn_rate": 0.02})
        until(lambda: db.sql("SELECT * FROM gradbase.units WHERE trial = 1").arrow().num_rows)
        until(lambda: len(run.trials) == 4 and run.trials[1]["status"] == "STOPPED")
        until(lambda: run.trials[3]["epochs"] > 1)
        stopped = db.sql("ALTER SEARCH m STOP").arrow().to_pylist()
    assert [(s["search"], s["run"]) for s in stopped] == [("m", run.id)]
    assert len(errors) == 1
    assert run.status == "INTERRUPTED"
    with pytest.raises(StoreError, match=r"is INTERRUPTED: nobody takes messages"):
        run.stop(1)
    db.resume("m")
    trials = db.study("m").trials
    assert list(trials.status) == ["SUCCEEDED", "STOPPED", "SUCCEEDED", "SUCCEEDED"]
    assert list(trials.epochs)[2:] == [EPOCHS, EPOCHS]


def test_what_cannot_be_done_is_said_and_the_search_goes_on(db, path):
    with training(db):
        run = begun(path)
        with pytest.raises(BindError, match="has no trial 9"):
            db.sql("ALTER SEARCH m STOP TRIAL 9")
        with pytest.raises(BindError, match="no search for a model `n` here"):
            db.sql("SHOW TRIALS OF SEARCH n")
        post(run.folder, {"command": "stop", "trials": [9]})
        post(run.folder, {"command": "dance"})
        run.add({"colour": 3})
        run.add({"learn_rate": -1})
        run.clone(1, {"batch_size": "large"}, weights=False)
        until(lambda: sum(e["event"] == "refused" for e in run.events) == 5)
        reasons = [e["reason"] for e in run.events if e["event"] == "refused"]
        assert "must be" in reasons[3]
        assert "batch_size" in reasons[4]
    assert run.status == "DONE"
    assert len(db.study("m").trials) == 3


def test_nothing_is_added_to_a_cross_validation(db, path):
    with training(db, split="k_fold", folds=2):
        run = until(lambda: [r for r in gb.runs(path) if r.trials])[0]
        run.add({"learn_rate": 0.02})
        until(lambda: any(e["event"] == "refused" for e in run.events))
    assert len(db.study("m").trials) == 3


def test_there_must_be_a_database(tmp_path):
    with pytest.raises(BindError, match="there is no database"):
        gb.runs(tmp_path / "none.duckdb")
