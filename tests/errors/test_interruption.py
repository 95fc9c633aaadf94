"""Stopping what takes too long: from another thread, by Ctrl-C, while reading or training."""

from __future__ import annotations

import os
import signal
import threading
import time

import pytest

import shop
from gradbase.errors import CancelledError

FOREVER = shop.create_model("m", max_epochs=1_000_000, **shop.SIX)
HUGE = "SELECT sum(a.range * b.range % 7) FROM range(1000000) a, range(1000000) b"
SLOW = "SELECT * EXCLUDE (plan, spent) FROM customers, range(100000000) WHERE hash(range) % 1000000007 = 1"


def journals(db):
    return [p.read_text() for p in db.store.path.glob("runs/*/journal.jsonl")]


def has_trained(db):
    return any('"epoch"' in text for text in journals(db))


def when(condition, act):
    """Do `act` in another thread once `condition` holds."""

    def watch():
        end = time.monotonic() + 30
        while not condition() and time.monotonic() < end:
            time.sleep(0.01)
        act()

    thread = threading.Thread(target=watch)
    thread.start()
    return thread


def assert_nothing_happened(db):
    """No model, no lease, no file; and the session can go on."""
    assert db.sql("SHOW MODELS").fetchall() == []
    assert shop.leftovers(db) == []
    db.sql(shop.create_model("m", max_epochs=1))
    assert db.store.names() == ("m",)


@pytest.mark.parametrize("disabled", ["", "fuse_fits"])
def test_cancel_from_another_thread_while_training(db, disabled):
    db.sql(f"SET gradbase.disabled_rules = '{disabled}'")
    thread = when(lambda: has_trained(db), db.cancel)
    with pytest.raises(
        CancelledError, match=r"training of `m` was interrupted.* no model was made"
    ):
        db.sql(FOREVER)
    thread.join()
    assert db.sql("SELECT status, version FROM gradbase.runs").fetchall() == [("INTERRUPTED", None)]
    assert_nothing_happened(db)


def test_control_c_while_training(db):
    """SIGINT ends the statement; the process and the session live on."""
    thread = when(lambda: has_trained(db), lambda: os.kill(os.getpid(), signal.SIGINT))
    with pytest.raises(CancelledError, match="no model was made"):
        db.sql(FOREVER)
    thread.join()
    assert_nothing_happened(db)


def test_cancel_while_rows_are_read(db):
    thread = when(lambda: any(journals(db)), lambda: (time.sleep(0.3), db.cancel()))
    with pytest.raises(CancelledError):
        db.sql(shop.create_model("m", SLOW))
    thread.join()
    assert_nothing_happened(db)


def test_cancel_a_native_query(db):
    result = db.sql(HUGE)
    thread = when(lambda: True, lambda: (time.sleep(0.3), result.cancel()))
    with pytest.raises(CancelledError):
        result.fetchall()
    thread.join()
    assert db.sql("SELECT 1").fetchall() == [(1,)]


@pytest.mark.parametrize("how", ["result", "session"])
def test_cancel_a_prediction(trained, how):
    result = trained.sql("SELECT avg(PREDICT_PROBA(churn, c.*)) FROM customers c, range(10000000)")
    cancel = result.cancel if how == "result" else trained.cancel
    thread = when(lambda: True, lambda: (time.sleep(0.5), cancel()))
    with pytest.raises(CancelledError):
        result.fetchall()
    thread.join()
    assert shop.leftovers(trained) == []
    assert trained.sql("SELECT count(PREDICT(churn, *)) FROM customers").fetchall() == [
        (shop.ROWS,)
    ]


def test_a_stream_left_early_gives_everything_back(trained):
    result = trained.sql("SELECT PREDICT_PROBA(churn, c.*) AS p FROM customers c, range(100000)")
    batches = result.batches()
    assert next(batches).num_rows > 0
    batches.close()
    assert shop.leftovers(trained) == []


def test_closing_stops_what_runs(db):
    thread = when(lambda: has_trained(db), db.close)
    with pytest.raises(CancelledError):
        db.sql(FOREVER)
    thread.join()
