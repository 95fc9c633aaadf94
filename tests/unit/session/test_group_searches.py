"""Search procedures of one model per group: as each group's own search, to the same bits."""

from __future__ import annotations

import threading

import numpy as np
import pytest

import gradbase as gb
from gradbase.errors import CancelledError
from gradbase.runtime.groups.stack import GroupStack
from gradbase.selection import group_training
from gradbase.selection.group_journal import GroupJournal

ROWS = """CREATE TABLE sales AS SELECT i AS id, i % 12 AS shop, sin(i * 7) AS a, cos(i) AS b,
          CASE WHEN sin(i * 7) + cos(i * 3) > 0 THEN 'yes' ELSE 'no' END AS y FROM range(720) r(i)"""
PROCEDURES = {
    "grid": "learn_rate = HPARAM_CANDIDATES([0.003, 0.01, 0.03])",
    "successive_halving": "learn_rate = HPARAM_CANDIDATES([0.003, 0.01, 0.03])",
    "hyperband": "learn_rate = HPARAM_RANGE(0.001, 0.1)",
    "asha": "learn_rate = HPARAM_RANGE(0.001, 0.1), num_trials = 4, max_parallel_trials = 2",
    "pbt": "learn_rate = HPARAM_RANGE(0.001, 0.1), dropout = HPARAM_RANGE(0.0, 0.5), num_trials = 5",
    "tpe": "learn_rate = HPARAM_RANGE(0.001, 0.1), num_trials = 3, max_parallel_trials = 1",
}


def statement(procedure, more="", model="m"):
    return f"""CREATE OR REPLACE MODEL {model} OPTIONS (model_type = 'dnn_classifier', input_label_cols = ['y'],
        group_by = ['shop'], row_key = ['id'], hidden_units = [4], max_epochs = 4, early_stop = FALSE,
        optimizer = 'adam', hparam_tuning_algorithm = '{procedure}', {PROCEDURES[procedure]},
        data_split_eval_fraction = 0.25 {more}) AS SELECT * FROM sales"""


@pytest.fixture
def db(tmp_path):
    with gb.connect(tmp_path / "shop.duckdb", progress=False, threads=2) as session:
        session.sql(ROWS)
        yield session


def told(session, model="m"):
    """All that is stored of the trials."""
    record = session.store.record(model)
    trials = [
        (t.trial, t.configuration, t.metrics, [e.train_loss for e in t.epochs], t.status)
        for t in record.trials
    ]
    weights = {n: v.tobytes() for t in record.trials for n, v in t.params.items()}
    return trials, weights


def test_a_trial_that_paused_is_what_it_would_have_been(db):
    db.sql(statement("grid", model="whole"))
    db.sql(statement("successive_halving"))
    whole = {t.trial: t for t in db.store.record("whole").trials[1:]}
    halved = db.store.record("m").trials[1:]
    assert [t.trial for t in halved] == list(whole)
    for trial in halved:
        expected = [e.train_loss for e in whole[trial.trial].epochs]
        found = [e.train_loss for e in trial.epochs]
        assert found == expected[: len(found)]
        if trial.status == "SUCCEEDED":
            assert (len(found), trial.metrics) == (4, whole[trial.trial].metrics)
    for group in db.store.record("m").groups:
        mine = halved[group.first_trial - 1 : group.last_trial]
        assert sorted(len(t.epochs) for t in mine) == [1, 1, 4]
        firsts = {t.trial: t.epochs[0] for t in mine}
        gone_on = next(t.trial for t in mine if len(t.epochs) == 4)
        assert gone_on in firsts


QUICK = ("successive_halving", "pbt")
EACH = [pytest.param(p, marks=() if p in QUICK else pytest.mark.slow) for p in PROCEDURES]


@pytest.mark.parametrize("procedure", EACH)
def test_an_interrupted_search_comes_to_the_same(db, procedure, monkeypatch):
    monkeypatch.setattr(group_training, "STACK_ELEMENTS", 1_500)  # many stacks
    db.sql(statement(procedure))
    expected = told(db)
    saved, save = [], GroupJournal.save

    def stop(self, pairs):
        save(self, pairs)
        saved.append(len(pairs))
        if len(saved) == 4:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(GroupJournal, "save", stop)
        with pytest.raises(CancelledError):
            db.sql(statement(procedure))
    db.sql("RESUME SEARCH m")
    assert told(db) == expected


def test_a_group_alone_searches_as_among_others(db):
    db.sql(statement("asha"))
    all_groups = db.model("m").predict_proba(db.table("SELECT * FROM sales WHERE shop = 5"))
    db.sql("DELETE FROM sales WHERE shop <> 5")
    db.sql(statement("asha", model="one"))
    alone = db.model("one").predict_proba(db.table("sales"))
    np.testing.assert_array_equal(alone, all_groups)


def test_a_population_goes_on_from_its_best(db):
    db.sql(statement("pbt", ", min_epochs = 1"))
    rates = db.sql(
        "SELECT trial_id, count(DISTINCT learning_rate) FROM ML.TRAINING_INFO(MODEL m) GROUP BY 1"
    )
    assert {n for _, n in rates.fetchall()} > {1}  # some took others' learning rates


def test_users_stop_trials_while_others_go_on(db, monkeypatch):
    begun = threading.Event()
    original = GroupJournal.begin

    def begin(self, pairs, keys):
        original(self, pairs, keys)
        if not begun.is_set():
            begun.set()
            [run] = [r for r in gb.runs(db.engine.path) if r.status == "RUNNING"]
            assert run.trials[4] == {
                "trial": 5,
                "epochs": 0,
                "status": "RUNNING",
                "shop": "1",
                "learn_rate": 0.01,
            }
            run.stop(5)
            run.add({"learn_rate": 1.0})

    monkeypatch.setattr(GroupJournal, "begin", begin)
    monkeypatch.setattr(group_training, "_POLL_S", 0.0)
    monkeypatch.setattr(GroupJournal, "load_states", lambda *_: threading.Event().wait(0.05))
    db.sql(statement("grid", ", max_epochs = 40").replace("max_epochs = 4,", ""))
    trial = db.store.record("m").trial(5)
    assert trial.status == "STOPPED"
    assert 1 <= len(trial.epochs) < 40
    [run] = gb.runs(db.engine.path)
    [refused] = [e for e in run.events if e["event"] == "refused"]
    assert refused["reason"] == "one model per group takes the message stop only"


def test_stopping_all_is_gone_on_with(db, monkeypatch):
    original = GroupJournal.begin

    def begin(self, pairs, keys):
        original(self, pairs, keys)
        [run] = [r for r in gb.runs(db.engine.path) if r.status == "RUNNING"]
        run.stop()

    with monkeypatch.context() as patched:
        patched.setattr(GroupJournal, "begin", begin)
        patched.setattr(group_training, "_POLL_S", 0.0)
        patched.setattr(GroupJournal, "load_states", lambda *_: threading.Event().wait(0.05))
        with pytest.raises(CancelledError):
            db.sql(statement("grid"))
    db.sql("RESUME SEARCH m")
    assert db.store.record("m").best_trial == 0


def test_a_stack_that_raises_is_cut_until_one_fails_alone(db, monkeypatch):
    db.sql(statement("grid"))
    whole = db.store.record("m").trials
    run = GroupStack.run

    def limited(self):
        if any(m.group.number == 1 and m.fit.optimizer.learn_rate == 0.03 for m in self.members):
            raise MemoryError("no room")
        if len(self.members) > 5:
            raise RuntimeError("too many")
        run(self)

    monkeypatch.setattr(GroupStack, "run", limited)
    db.sql(statement("grid"))
    found = db.store.record("m").trials
    for trial, expected in zip(found[1:], whole[1:], strict=True):
        if trial.status == "SUCCEEDED":
            assert (trial.metrics, trial.train_loss) == (expected.metrics, expected.train_loss)
    [failed] = [t for t in found if t.status == "FAILED"]
    assert (failed.trial, failed.error) == (6, "MemoryError: no room")
    query = "SELECT traceback FROM gradbase.trials WHERE traceback IS NOT NULL"
    [(text,)] = db.sql(query).fetchall()
    assert "MemoryError: no room" in text
    assert db.sql("SELECT count(*) FROM sales WHERE PREDICT(m, *) IS NULL").fetchall() == [(0,)]


def test_explain_counts_trials_and_seconds(db):
    text = str(db.explain(statement("successive_halving")))
    assert (
        "12 groups by shop of 60 to 60 rows (median 60), 3 trials each by successive_halving"
        in text
    )
    assert "36 networks in stacks of" in text
    assert "group after group ≈" in text
