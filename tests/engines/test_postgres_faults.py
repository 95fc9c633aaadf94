"""What can go wrong with a server while a session works: nothing is lost, half-visible or unsaid."""

from __future__ import annotations

import contextlib
import threading
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

import gradbase as gb
from gradbase.engines.postgres import connections
from gradbase.engines.postgres.transactions import PostgresTransaction
from gradbase.errors import BindError, CancelledError, EngineError, ResourceError, StoreError
from gradbase.ir.printer import print_plan
from gradbase.selection import states
from gradbase.selection.watch import Watch
from gradbase.testing.servers import PostgresServer, postgres_url

ROWS = (
    "CREATE TABLE points AS SELECT i AS id, i % 7 - 3.5::float8 AS x, i % 5 AS y, "
    "(i % 7) + i % 5 > 6 AS label FROM generate_series(1, 300) i"
)
TRAIN = """CREATE MODEL m OPTIONS (model_type = 'dnn_classifier', input_label_cols = ['label'],
 row_key = ['id'], hidden_units = [16], max_epochs = 4, num_trials = 3, seed = 3, early_stop = FALSE,
 learn_rate = HPARAM_RANGE(0.01, 0.1), hparam_tuning_algorithm = 'random_search')
 AS SELECT * FROM points"""
ANSWER = "SELECT id, PREDICT_PROBA(m, *) AS p FROM points ORDER BY id"


def connect(url):
    return gb.connect(url, progress=False)


@pytest.fixture
def url():
    return postgres_url()


@pytest.fixture
def db(url):
    with connect(url) as session:
        session.sql(ROWS).fetchall()
        yield session


@pytest.fixture(scope="module")
def server():
    return PostgresServer(durable=True)


@pytest.fixture
def killable(server):
    """A session on a server that may be killed."""
    server.start()
    with connect(server.new_database()) as session:
        session.sql("SET gradbase.reconnect_timeout = 0")
        session.sql(ROWS).fetchall()
        yield session
    server.start()


def at_epoch(monkeypatch, number, then):
    """Call `then` when the epoch of this number is told; states are saved after every unit."""
    told, left = Watch.epoch, [number]

    def counted(self, *what):
        told(self, *what)
        left[0] -= 1
        if not left[0]:
            then()

    monkeypatch.setattr(Watch, "epoch", counted)
    monkeypatch.setattr(states.Pace, "is_due", lambda self, size: True)


def cancelled_at_the_first_batch(result):
    with result.stream() as reader:
        for _ in reader:
            result.cancel()


def weights(db):
    return [print_plan(db.model("m", trial=t).model) for t in (1, 2, 3)]


# -- the server dies -----------------------------------------------------------------------------


@pytest.mark.slow
def test_killed_during_a_prediction(killable, server):
    """The reader is told; the same session goes on when the server is back."""
    killable.sql(TRAIN)
    expected = killable.sql(ANSWER).arrow()
    lots = "SELECT PREDICT_PROBA(m, p.*) AS p FROM points p, generate_series(1, 100000) i"
    lost = pytest.raises(StoreError, match=r"connection to the server is lost[\s\S]*connects anew")
    with lost, killable.sql(lots).stream() as reader:
        for number, _ in enumerate(reader):
            if number == 1:
                server.kill()
    with pytest.raises(StoreError, match="connection to the server is lost or cannot be made"):
        killable.sql("SELECT 1").fetchall()
    server.start()
    assert killable.sql(ANSWER).arrow().equals(expected)


@pytest.mark.slow
@pytest.mark.parametrize("executor", ["in_process", "processes"])
def test_killed_during_training(killable, server, monkeypatch, executor):
    """Nothing is visible; the search goes on where it was, to the same weights bit by bit."""
    train = TRAIN.replace("seed = 3", f"seed = 3, executor = '{executor}', workers = 1")
    killable.sql(train)
    expected = weights(killable)
    killable.sql("DROP MODEL m")
    with monkeypatch.context() as patched:
        at_epoch(patched, 5, server.kill)
        with pytest.raises(StoreError, match=r"connection to the server[\s\S]*RESUME SEARCH \"m\""):
            killable.sql(train)
    server.start()
    assert killable.sql("SHOW MODELS").arrow().num_rows == 0
    (row, *_) = killable.sql("SHOW SEARCHES").arrow().to_pylist()
    assert row["model"] == "m"
    killable.sql("RESUME SEARCH m")
    assert weights(killable) == expected
    assert killable.fsck().ok


@pytest.mark.slow
@pytest.mark.parametrize("executor", ["in_process", "processes"])
def test_a_search_waits_for_its_server(killable, server, monkeypatch, executor, caplog):
    """Stopped, killed and started again: the search goes on by itself, to the same weights."""
    train = TRAIN.replace("seed = 3", f"seed = 3, executor = '{executor}', workers = 1")
    killable.sql("SET search_path = public, pg_catalog").fetchall()
    killable.sql(train)
    expected = weights(killable)
    killable.sql("DROP MODEL m")
    killable.sql("SET gradbase.reconnect_timeout = 60")

    def restarted():
        server.kill()
        threading.Timer(2, server.start).start()

    at_epoch(monkeypatch, 5, restarted)
    ((_, version, *_),) = killable.sql(train).fetchall()
    assert version == 1
    assert weights(killable) == expected
    assert "waits up to 60 s for the server" in caplog.text
    assert "training of `m` goes on" in caplog.text
    assert killable.sql("SHOW SEARCHES").arrow()["status"].to_pylist() == ["DONE"]
    assert killable.sql("SHOW search_path").fetchall() == [("public, pg_catalog",)]
    assert killable.fsck().ok


@pytest.mark.slow
def test_killed_in_the_commit(killable, server, monkeypatch):
    """All of a model or nothing; what was trained is committed later."""
    killable.sql(TRAIN)
    expected = weights(killable)
    killable.sql("DROP MODEL m")
    plain = PostgresTransaction.insert

    def killed(self, table, rows):
        if table.endswith("trials"):
            server.kill()
        plain(self, table, rows)

    with monkeypatch.context() as patched:
        patched.setattr(PostgresTransaction, "insert", killed)
        with pytest.raises(StoreError, match="RESUME SEARCH"):
            killable.sql(TRAIN)
    server.start()
    assert killable.sql("SHOW MODELS").arrow().num_rows == 0
    assert killable.fsck().ok
    killable.sql("RESUME SEARCH m")
    assert weights(killable) == expected


# -- the server has no more ----------------------------------------------------------------------


def test_no_connection_is_left(db, url, monkeypatch):
    """A session that has none is told at once, one that works waits for one of its own first."""
    db.sql(TRAIN)
    monkeypatch.setattr(connections, "WAIT_S", 0.3)
    others = []
    try:
        with contextlib.suppress(psycopg.OperationalError):
            while True:
                others.append(psycopg.connect(url))
        with pytest.raises(ResourceError, match=r"takes no more connections[\s\S]*max_connections"):
            connect(url)
        assert db.sql(ANSWER).arrow().num_rows == 300  # a connection of its own was idle
    finally:
        for other in others:
            other.close()


def test_the_disk_is_full(db, monkeypatch):
    """The server's words; nothing is half there, and what was trained is not lost."""
    db.sql(TRAIN)
    expected = weights(db)
    db.sql("DROP MODEL m")
    db.sql("DELETE FROM gradbase.pieces").fetchall()
    db.sql(
        "CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE "
        "'could not extend file \"base/1/2\": No space left on device' "
        "USING ERRCODE = 'disk_full'; END $$"
    ).fetchall()
    db.sql(
        "CREATE TRIGGER full_disk BEFORE INSERT ON gradbase.pieces "
        "FOR EACH ROW EXECUTE FUNCTION full_disk()"
    ).fetchall()
    with pytest.raises(StoreError, match=r"No space left[\s\S]*make room[\s\S]*RESUME SEARCH"):
        db.sql(TRAIN)
    assert db.sql("SHOW MODELS").arrow().num_rows == 0
    db.sql("DROP TRIGGER full_disk ON gradbase.pieces").fetchall()
    db.sql("RESUME SEARCH m")
    assert weights(db) == expected
    assert db.fsck().ok


def test_a_search_of_another_process_that_lives(db, url, monkeypatch):
    """It is not called interrupted, and not resumed: its journal names a process that runs."""
    seen = []

    def look():
        with monkeypatch.context() as patched, connect(url) as other:
            patched.setattr("gradbase.store.runs._PROCESS", "another")
            seen.append(other.sql("SHOW SEARCHES").arrow()["status"].to_pylist())
            other.sql(
                TRAIN.replace("MODEL m", "MODEL n").replace("num_trials = 3", "num_trials = 1")
            )
            with pytest.raises(BindError, match="the search for model `m` is running"):
                other.sql("RESUME SEARCH m")

    with monkeypatch.context() as patched:
        at_epoch(patched, 3, look)
        db.sql(TRAIN)
    assert seen == [["RUNNING"]]
    assert db.store.names() == ("m", "n")
    assert db.sql("SHOW SEARCHES").arrow()["status"].to_pylist() == ["DONE", "DONE"]


# -- others change what is there -----------------------------------------------------------------


def test_a_table_dropped_under_a_search(db, url, monkeypatch):
    """Its rows are read already: the model is made. Resumed later, the table is missed by name."""

    def drop():
        with psycopg.connect(url) as other:
            other.execute("DROP TABLE points")

    with monkeypatch.context() as patched:
        at_epoch(patched, 2, drop)
        db.sql(TRAIN)
    assert db.store.names() == ("m",)
    db.sql("DROP MODEL m")
    db.sql(ROWS).fetchall()

    def stop():
        drop()
        raise KeyboardInterrupt

    at_epoch(monkeypatch, 5, stop)
    with pytest.raises(CancelledError, match="RESUME SEARCH"):
        db.sql(TRAIN)
    with pytest.raises(EngineError, match='relation "points" does not exist'):
        db.sql("RESUME SEARCH m")
    db.sql(ROWS).fetchall()
    db.sql("RESUME SEARCH m")
    assert db.store.names() == ("m",)


@pytest.mark.slow
def test_a_thousand_statements_of_sixteen_threads(db, url):
    """Nothing is lost or half-visible: reads, predictions, writes, models made, replaced, dropped."""
    db.sql(TRAIN)
    db.sql("CREATE TABLE seen (worker integer, n integer)").fetchall()
    small = (
        "CREATE OR REPLACE MODEL {} OPTIONS (model_type = 'logistic_reg', "
        "input_label_cols = ['label'], row_key = ['id'], max_epochs = 1) AS SELECT * FROM points"
    )
    half = []

    def work(number):
        with connect(url) if number % 2 else contextlib.nullcontext(db) as session:
            for k in range(63):
                if k % 21 == 20:
                    session.sql(small.format(f"own_{number}"))
                elif k % 21 == 10:
                    session.sql(small.format("shared"))
                elif k % 3 == 0:
                    sql = f"SELECT count(PREDICT(m, *)) FROM points WHERE id <= {k}"
                    assert session.sql(sql).fetchall() == [(k,)]
                elif k % 3 == 1:
                    session.sql("INSERT INTO seen VALUES ($1, $2)", [number, k]).fetchall()
                else:
                    rows = session.sql(
                        "SELECT v.version_id, count(t.trial) FROM gradbase.versions v "
                        "LEFT JOIN gradbase.trials t USING (version_id) GROUP BY 1"
                    ).fetchall()
                    half.extend(row for row in rows if not row[1])

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(work, range(16)))
    inserted = sum(k % 21 not in (10, 20) and k % 3 == 1 for k in range(63))
    found = db.sql("SELECT count(*), count(DISTINCT (worker, n)) FROM seen").fetchall()
    assert found == [(16 * inserted, 16 * inserted)]
    assert half == []
    assert set(db.store.names()) == {"m", "shared", *(f"own_{n}" for n in range(16))}
    assert db.fsck().ok


def test_cancelling_a_prediction_reaches_the_server(db):
    """Its query is gone there too, and so is one that times out."""
    db.sql(TRAIN)
    lots = "SELECT PREDICT_PROBA(m, p.*) AS p FROM points p, generate_series(1, 1000000) i"
    active = (
        "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%generate_series(1, 1000000)%' "
        "AND state = 'active' AND pid <> pg_backend_pid()"
    )
    result = db.sql(lots)
    with pytest.raises(CancelledError):
        cancelled_at_the_first_batch(result)
    assert db.sql(active).fetchall() == [(0,)]
    db.sql("SET statement_timeout = '50ms'").fetchall()
    with pytest.raises(EngineError, match=r"statement timeout[\s\S]*SET statement_timeout"):
        db.sql(lots).arrow()
    db.sql("RESET statement_timeout").fetchall()
    assert db.sql(active).fetchall() == [(0,)]
