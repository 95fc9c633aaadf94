"""Spark fails under a statement: an error that says so, or the right answer; nothing half-made."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time

import psutil
import pyarrow as pa
import pytest

import gradbase as gb
from gradbase.errors import EngineError, GradbaseError
from gradbase.testing.servers import spark

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("spark")]

ROWS = pa.table(
    {
        "id": pa.array(range(400), pa.int64()),
        "x": [(i * 37 % 101) / 7 for i in range(400)],
        "y": [(i * 37 % 101) / 7 - i % 5 for i in range(400)],
    }
)
TRAIN = """CREATE MODEL {name} OPTIONS (model_type = 'dnn_regressor', input_label_cols = ['y'],
row_key = ['id'], max_epochs = 2, seed = 5) AS SELECT * FROM {table}"""


@pytest.fixture
def db(tmp_path):
    with gb.connect(spark().newSession(), store=tmp_path / "store", progress=False) as session:
        session.register("given", ROWS)
        yield session


def workers():
    """Python processes of Spark's executors that are at work."""
    every = psutil.Process().children(recursive=True)
    daemons = [p for p in every if "pyspark.daemon" in " ".join(p.cmdline())]
    return [p for p in daemons if any(p.ppid() == d.pid for d in daemons)]


def test_a_python_worker_is_killed_during_a_prediction(db):
    """Spark starts the task again, or says that it lost a worker; the next statement works."""
    db.sql(TRAIN.format(name="m", table="given"))
    db.sql("SET gradbase.representation = 'executors'")
    found: list = []

    def run():
        try:
            query = (
                "SELECT count(PREDICT(m, *)) FROM (SELECT id, id * 1.0D AS x FROM range(3000000)) q"
            )
            found.append(db.sql(query).fetchall())
        except GradbaseError as error:
            found.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    killed = 0
    while thread.is_alive() and not killed:
        for process in workers():
            process.send_signal(signal.SIGKILL)
            killed += 1
        time.sleep(0.02)
    thread.join()
    assert killed
    assert found == [[(3000000,)]] or isinstance(found[0], EngineError), found
    assert db.sql("SELECT count(PREDICT(m, *)) FROM given").fetchall() == [(400,)]


def test_two_sessions_create_the_same_model(db, tmp_path):
    """One makes it, the other is told; what is there is whole."""
    with gb.connect(spark().newSession(), store=tmp_path / "store", progress=False) as other:
        other.register("given", ROWS)
        said: list = []

        def create(session):
            try:
                said.append(session.sql(TRAIN.format(name="m", table="given")).fetchall())
            except GradbaseError as error:
                said.append(error)

        threads = [threading.Thread(target=create, args=(s,)) for s in (db, other)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        errors = [s for s in said if isinstance(s, Exception)]
        assert len(errors) == 1, said
        assert "exists already" in str(errors[0]) or "at the same time" in str(errors[0])
        versions = db.sql("SELECT count(*) FROM gradbase.versions").fetchall()
        assert versions == other.sql("SELECT count(*) FROM gradbase.versions").fetchall() == [(1,)]
        assert db.fsck().ok


def test_a_table_is_dropped_under_a_search(db):
    """The search has its rows, or says that Spark has no such table; nothing half-made is left."""
    db.sql("CREATE TABLE spark_fault AS SELECT * FROM given")
    try:
        drop = threading.Timer(0.4, db.engine.session.sql, ["DROP TABLE IF EXISTS spark_fault"])
        drop.start()
        error = ""
        try:
            db.sql(TRAIN.format(name="m", table="spark_fault"))
        except EngineError as caught:
            error = caught.message
        drop.join()
        made = db.sql("SHOW MODELS").arrow().num_rows
        assert made if not error else not made and "spark_fault" in error, error
    finally:
        db.engine.session.sql("DROP TABLE IF EXISTS spark_fault")
    assert db.fsck().ok


STOPPED = """
import sys, gradbase as gb
from gradbase.errors import StoreError
db = gb.connect("local[1]", store=sys.argv[1], progress=False)
db.sql("CREATE TEMP VIEW t AS SELECT id, id % 7 * 1.0D AS x, id % 3 * 1.0D AS y FROM range(200)")
make = "CREATE MODEL {} OPTIONS (model_type = 'linear_reg', input_label_cols = ['y'], max_epochs = 1) AS SELECT * FROM t"
db.sql(make.format("m"))
db.engine.session.stop()
for statement in ("SELECT count(*) FROM t", "SELECT PREDICT(m, *) FROM t", make.format("n")):
    try:
        db.sql(statement).fetchall()
    except StoreError as error:
        print(error.message.splitlines()[0], "|", error.hint)
db.close()
again = gb.connect("local[1]", store=sys.argv[1], progress=False)
print([row[0] for row in again.sql("SHOW MODELS").fetchall()])
again.sql("CREATE TEMP VIEW t AS SELECT id, id % 7 * 1.0D AS x FROM range(10)")
print(again.sql("SELECT count(PREDICT(m, *)) FROM t").fetchall())
"""


def run(program, *arguments):
    return subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)],
        capture_output=True, text=True, timeout=300, check=False,
        env=os.environ | {"PYSPARK_SUBMIT_ARGS": "--driver-memory 1g pyspark-shell"},
    )  # fmt: skip


def test_spark_is_stopped_under_a_session(tmp_path):
    """Every statement says so; a new session has the models."""
    done = run(STOPPED, tmp_path / "store")
    *refused, models, count = done.stdout.splitlines()
    assert len(refused) == 3, done.stdout + done.stderr
    for line in refused:
        assert "Spark session has ended" in line
        assert "connect again" in line
    assert (models, count) == ("['m']", "[(10,)]")


SEARCH = """
import os, sys, gradbase as gb
from gradbase.selection import states
from gradbase.selection.watch import Watch
db = gb.connect("local[1]", store=sys.argv[1], progress=False)
db.sql("CREATE TEMP VIEW t AS SELECT id, id % 7 * 1.0D AS x, id % 3 * 1.0D AS y FROM range(3000)")
if sys.argv[2] == "kill":
    told, left = Watch.epoch, [5]
    def counted(self, *what):
        told(self, *what)
        left[0] -= 1
        if not left[0]:
            os.kill(os.getpid(), 9)
    Watch.epoch = counted
    states.Pace.is_due = lambda self, size: True
db.sql(sys.argv[3])
print(repr(db.store.model("m", None, None).outputs))
"""
MANY = """CREATE MODEL m OPTIONS (model_type = 'dnn_regressor', input_label_cols = ['y'], row_key = ['id'],
hidden_units = [16], max_epochs = 6, early_stop = FALSE, seed = 3, learn_rate = HPARAM_CANDIDATES([0.1, 0.05, 0.01]))
AS SELECT * FROM t"""


def test_the_driver_is_killed_during_a_search_that_then_goes_on(tmp_path):
    """To the same weights as without the crash."""
    killed = run(SEARCH, tmp_path / "store", "kill", MANY)
    assert killed.returncode == -signal.SIGKILL, killed.stdout + killed.stderr
    resumed = run(SEARCH, tmp_path / "store", "go on", "RESUME SEARCH m")
    whole = run(SEARCH, tmp_path / "other", "whole", MANY)
    assert resumed.stdout.splitlines()[-1:] == whole.stdout.splitlines()[-1:], resumed.stderr
    assert whole.stdout
