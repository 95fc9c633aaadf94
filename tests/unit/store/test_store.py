"""Committing, reading and dropping models."""

from __future__ import annotations

import errno
import math
import os
import threading

import pyarrow as pa
import pytest

from gradbase.engines import connect
from gradbase.errors import BindError, EngineError, StoreError
from gradbase.store import TrialRecord
from gradbase.store.catalog import Catalog

from .samples import failed, program, record, trial, weights


def test_a_committed_model_comes_back(store, opened, close):
    """The same program, under its name, version and trial; after reopening too."""
    made = record()
    assert store.commit(made) == 1
    expected = made.trials[1].model.replace(name="churn", version=1, trial=2)
    assert store.model("churn") is expected
    assert store.model("churn", 1, 2) is expected
    assert store.model("churn", trial=1).trial == 1
    close(store)
    again = opened()
    assert again.model("churn") is expected
    param = expected.outputs[0].params[0]
    assert again.blobs.array(param).tobytes() == made.trials[1].params[param.hash].tobytes()


def test_a_record_comes_back(store):
    """All but programs and arrays."""
    made = record(trials=[trial(1), trial(2, test_metrics={"accuracy": 0.5}), failed(3)])
    store.commit(made)
    found = store.record("churn")
    assert found.created == made.created
    assert found.options == {"epochs": 2, "hidden_units": [[64, 32], [128]], "learn_rate": 0.5}
    assert [t.status for t in found.trials] == ["SUCCEEDED", "SUCCEEDED", "FAILED"]
    assert found.trials[1].epochs == tuple(made.trials[1].epochs)
    assert found.trials[1].metrics == made.trials[1].metrics
    assert found.trials[1].test_metrics == {"accuracy": 0.5}
    assert found.trials[0].configuration == {"learn_rate": 0.1, "hidden_units": [1, 2]}
    assert math.isnan(found.trials[2].epochs[0].train_loss)


def test_lineage_says_what_made_a_model(store):
    """Content, query, options, code, seed, engine, torch build and processor."""
    store.commit(record())
    found = store.lineage("churn")
    assert found.relation_hash == "ab" * 32
    assert found.query == "SELECT * FROM customers"
    assert found.seed == 7
    assert found.environment.torch
    assert found.environment.processor


def test_the_catalog_is_plain_tables(store):
    """Anyone may query them."""
    store.commit(record())
    rows = store.engine.fetch(
        "SELECT m.name, t.trial, t.eval_loss FROM gradbase.models m "
        "JOIN gradbase.versions v USING (model_id) JOIN gradbase.trials t USING (version_id) "
        "ORDER BY t.trial"
    )
    assert rows.to_pylist() == [
        {"name": "churn", "trial": 1, "eval_loss": 0.4},
        {"name": "churn", "trial": 2, "eval_loss": 0.4},
    ]


def test_replacing_makes_a_new_version(store):
    """The old one stays reachable."""
    store.commit(record())
    old = store.model("churn")
    assert store.commit(record(trials=[trial(1, seed=5)], best_trial=1), or_replace=True) == 2
    assert store.model("churn").version == 2
    assert store.model("churn", version=1) is old


def test_if_not_exists_keeps_what_is_there(store):
    """And says its version."""
    store.commit(record())
    assert store.commit(record(best_trial=1), if_not_exists=True) == 1
    assert store.model("churn").trial == 2
    assert not store.check_creatable("churn", or_replace=False, if_not_exists=True)
    assert store.check_creatable("other", or_replace=False, if_not_exists=True)


def test_an_existing_model_is_not_overwritten(store):
    """The hint names both ways on."""
    store.commit(record())
    with pytest.raises(BindError, match="`churn` exists already") as caught:
        store.commit(record())
    assert "OR REPLACE" in caught.value.hint


def test_an_unknown_model_offers_near_names(store):
    """And those there are."""
    with pytest.raises(BindError, match="none yet"):
        store.model("churn")
    store.commit(record())
    with pytest.raises(BindError, match="`chrun`") as caught:
        store.model("chrun")
    assert "`churn`" in caught.value.hint
    with pytest.raises(BindError, match="no version 9; it has 1"):
        store.model("churn", version=9)
    with pytest.raises(BindError, match="no trial 9; it has trials 1 to 2"):
        store.model("churn", trial=9)


def test_a_failed_trial_cannot_predict(store):
    """The message has why it failed and which trials can."""
    store.commit(record(trials=[trial(1), trial(2), failed(3)]))
    with pytest.raises(BindError, match="the loss is not finite") as caught:
        store.model("churn", trial=3)
    assert "1, 2" in caught.value.hint


@pytest.mark.parametrize(
    "name",
    ["it's", 'a"b', "x; DROP TABLE t; --", "naïve 模型 {g} %s ?", "a.b", "", "x" * 300, "a\nb"],
)
def test_any_text_is_a_name(store, name):
    """Names never become SQL."""
    store.commit(record(name, metric='it\'s {g} "odd"', sql="?"))
    assert store.names() == (name,)
    assert store.model(name).name == name
    for function in ("TRIAL_INFO", "TRAINING_INFO", "EVALUATE"):
        assert store.engine.fetch(store.info(function, name)).num_rows > 0
    assert store.engine.fetch(store.show_sql()).column("model").to_pylist() == [name]
    assert store.drop(name)


def test_names_are_case_sensitive(store):
    """Two models."""
    store.commit(record("churn"))
    store.commit(record("Churn"))
    assert store.names() == ("Churn", "churn")


def files(store):
    return {p.name for p in store.blobs.path.iterdir()}


def test_dropping_frees_the_blobs(store):
    """At once, apart from those that another model shares."""
    store.commit(record("a", [trial(1), trial(2)]))
    store.commit(record("b", [trial(1)], best_trial=1))
    shared = set(record("b", [trial(1)]).trials[0].params)
    assert store.drop("a")
    assert files(store) == shared
    assert store.model("b").outputs[0].params
    assert store.drop("b")
    assert files(store) == set()
    tables = ("models", "versions", "trials", "epochs", "trial_metrics", "lineage", "blobs")
    for table in tables:
        assert store.engine.fetch(f"SELECT * FROM gradbase.{table}").num_rows == 0


def test_dropping_frees_large_blobs_with_their_chunks(store):
    """But not chunks of a blob that another model shares."""
    big = weights(1, 700, 1000)
    other = big.copy()
    other[-1, -1] = 0
    for name, last in (("a", big), ("b", other)):
        model, params = program([weights(3, 1000, 4), last, weights(4, 1, 700)])
        one = TrialRecord(1, "SUCCEEDED", model=model, params=params)
        store.commit(record(name, [one], best_trial=1))
    assert sum(p.stat().st_size for p in store.blobs.path.iterdir()) < 1.9 * big.nbytes
    store.drop("a")
    assert store.fsck().findings == []
    assert sum(p.stat().st_size for p in store.blobs.path.iterdir()) < 1.1 * big.nbytes
    store.drop("b")
    assert files(store) == set()


def test_dropping_what_is_not_there(store):
    """Is an error, or nothing with IF EXISTS; neither makes a catalog."""
    assert not store.drop("churn", if_exists=True)
    with pytest.raises(BindError, match="no model `churn`"):
        store.drop("churn")
    assert store.catalog.format_version() is None
    store.commit(record())
    with pytest.raises(BindError, match="no model `chrn`"):
        store.drop("chrn")


def test_a_dropped_and_remade_model_is_not_the_cached_one(store, opened, database):
    """Another session of the process dropped it."""
    other = opened(database)
    store.commit(record())
    old = store.model("churn")
    other.drop("churn")
    with pytest.raises(BindError):
        store.model("churn")
    other.commit(record(trials=[trial(1, seed=9)], best_trial=1))
    assert store.model("churn") is not old


def test_one_of_two_creators_wins(store, opened, database):
    """The other gets a clear error; its blobs do not harm."""
    stores = [store, opened(database), opened(database), opened(database)]
    results, barrier = [], threading.Barrier(len(stores))

    def create(mine):
        barrier.wait()
        try:
            results.append(mine.commit(record()))
        except BindError as error:
            results.append(error.message)

    threads = [threading.Thread(target=create, args=(s,)) for s in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results, key=str) == [1, *["model `churn` exists already"] * 3]
    assert store.fsck().findings == []


def test_creators_and_droppers_do_not_harm_each_other(opened, database):
    """Several threads make and drop models of equal content."""
    stores = [opened(database) for _ in range(3)]
    errors = []

    def work(mine, name):
        try:
            for _ in range(4):
                mine.commit(record(name))
                mine.blobs.array(mine.model(name).outputs[0].params[0])
                mine.drop(name)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(s, f"m{i}")) for i, s in enumerate(stores)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert files(stores[0]) == set()


def test_writers_past_the_lock_conflict(store):
    """Should the lock ever fail, the database refuses one of two writers."""
    store.commit(record())
    unlocked = Catalog(store.engine, store._folder, read_only=False)

    def write_both():
        with unlocked.write() as first:
            unlocked.next_id(first)
            with store.catalog.write() as second:
                store.catalog.next_id(second)

    with pytest.raises(StoreError, match="at the same time"):
        write_both()


def test_a_model_whose_blobs_were_never_stored_is_refused(store):
    """Nothing becomes visible."""
    model, _ = program([weights(1, 32, 4), weights(2)])
    broken = TrialRecord(1, "SUCCEEDED", model=model)
    with pytest.raises(StoreError, match="names blob"):
        store.commit(record(trials=[broken], best_trial=1))
    assert store.names() == ()
    assert store.catalog.format_version() is None


def test_a_read_only_database_is_never_changed(store, opened, close, database):
    """Writes are refused by name."""
    store.commit(record())
    close(store)
    before = database.read_bytes()
    reader = opened(read_only=True)
    assert reader.model("churn").version == 1
    for write in (
        lambda: reader.commit(record("b")),
        lambda: reader.drop("churn"),
        lambda: reader.start_run("b", {}),
        lambda: reader.fsck(repair=True),
        lambda: reader.check_creatable("b", or_replace=True, if_not_exists=False),
    ):
        with pytest.raises(StoreError, match="read-only"):
            write()
    assert reader.fsck().ok
    close(reader)
    assert database.read_bytes() == before


def test_a_foreign_database_stays_foreign(opened, close, database):
    """Looking for models in it leaves it as it is."""
    engine = connect(database)
    engine.run("CREATE TABLE t (a INT)")
    engine.close()
    before = database.read_bytes()
    store = opened()
    assert store.names() == ()
    assert store.engine.fetch(store.show_sql()).num_rows == 0
    close(store)
    assert database.read_bytes() == before
    assert not store.path.exists()


@pytest.mark.parametrize("file", ["gradbase.duckdb", 'o"dd.duckdb'])
def test_the_catalog_is_found_whatever_the_database_is_called(opened, tmp_path, file):
    """Also under another current database."""
    store = opened(tmp_path / file)
    store.engine.run("ATTACH ':memory:' AS other")
    store.commit(record())
    store.engine.run("USE other")
    sql = store.info("TRIAL_INFO", "churn")
    assert store.engine.run(sql).arrow().num_rows == 2
    assert store.names() == ("churn",)


MESSAGES = {
    "IO Error: Could not write file: No space left on device": "disk is full",
    "IO Error: Cannot write, File too large": "disk is full",
    'Cannot execute statement of type "INSERT" in read-only mode!': "read-only",
    "TransactionContext Error: Conflict on update!": "at the same time",
    "IO Error: Could not set lock on file": "locked by another process",
    "Something else": "the catalog failed",
}


@pytest.mark.parametrize("text", MESSAGES)
def test_errors_of_the_database_are_explained(store, monkeypatch, text):
    """By type and with a way on; nothing is visible then."""

    class Broken:
        def __enter__(self):
            raise EngineError(text)

        def __exit__(self, *_):
            return None

    monkeypatch.setattr(store.engine, "transaction", Broken)
    with pytest.raises(StoreError, match=MESSAGES[text]) as caught:
        store.commit(record())
    assert caught.value.hint
    monkeypatch.undo()
    assert store.names() == ()


def test_models_are_seen_inside_a_transaction_of_the_user(store):
    """Which began before they were made, and does not have them in its snapshot."""
    for statement in ("CREATE TABLE t (a INT)", "BEGIN", "INSERT INTO t VALUES (1)"):
        store.engine.run(statement)
    store.commit(record())
    assert store.model("churn").version == 1
    store.engine.run("ROLLBACK")
    assert store.names() == ("churn",)


def test_runs_have_a_journal_and_a_row(store):
    """The row ends with the run; dropping the model removes both."""
    journal = store.start_run("churn", {"trials": 2})
    journal.append({"event": "epoch"})
    rows = store.engine.fetch("SELECT model, status FROM gradbase.runs").to_pylist()
    assert rows == [{"model": "churn", "status": "RUNNING"}]
    unit = {"shard": 2, "attempt": 1, "worker": 0, "seconds": 0.5}
    journal.append({"event": "epoch", "epoch": 3, "trials": {"1": {}}, "units": [unit]})
    version = store.commit(record())
    store.finish_run(journal, "DONE", version)
    rows = store.engine.fetch("SELECT status, version FROM gradbase.runs").to_pylist()
    assert rows == [{"status": "DONE", "version": 1}]
    (row,) = store.engine.fetch("SELECT * FROM gradbase.units").to_pylist()
    assert list(row.values())[1:] == [1, 3, 2, 1, "0", 0.5]
    store.drop("churn")
    assert not journal.path.exists()
    assert store.engine.fetch("SELECT * FROM gradbase.units").num_rows == 0


def test_the_end_of_a_run_never_fails(store, monkeypatch, caplog):
    """Its model is committed already; the log says what happened."""
    journal = store.start_run("churn", {})
    version = store.commit(record())

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    store.finish_run(journal, "DONE", version)
    assert "disk is full" in caplog.text


def test_many_trials_commit_quickly(store):
    """32 trials with 20 epochs of 6 metrics: rows go in one statement a table."""
    metrics = {f"metric_{i}": 0.5 for i in range(6)}
    epochs = [e for e in trial(1).epochs for _ in range(10)]
    store.commit(record(trials=[trial(i, metrics=metrics, epochs=epochs) for i in range(1, 33)]))
    assert isinstance(store.engine.fetch("SELECT * FROM gradbase.epochs"), pa.Table)
    assert store.engine.fetch("SELECT * FROM gradbase.epochs").num_rows == 640
