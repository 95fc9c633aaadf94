"""Kills processes at random moments of a statement; run as a script.

``python attack.py FOLDER STATEMENT ATTEMPTS SEED``: a forked child runs the statement on a copy of
a database and is killed (SIGKILL) after a random time; another child then opens the database and
checks it. Prints ``before`` or ``after`` per attempt, the state found.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import sys
import time
import traceback
from pathlib import Path

import torch  # noqa: F401 (loaded once, here, and not in every child)

import gradbase as gb
import shop
from gradbase.selection import run  # noqa: F401
from gradbase.session import planning, training  # noqa: F401

MADE = shop.create_model("m", max_epochs=4, shards=2, **shop.SIX)
AGAIN = MADE.replace("CREATE MODEL", "CREATE OR REPLACE MODEL").replace("seed = 7", "seed = 8")
STATEMENTS = {"create": (MADE, 0, 1), "replace": (AGAIN, 1, 2), "drop": ("DROP MODEL m", 1, 0)}
"""Statement, version of model m before it and after it; 0: there is none."""


def connect(path):
    return gb.connect(str(path), progress=False, threads=1)


def in_child(work):
    """Start `work` in a fork, on a pipe; (process id, the pipe's reading end)."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            work(writing)
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
    os.close(writing)
    return pid, reading


def ended(child):
    """Exit status of a child, -9 for one that was killed."""
    pid, reading = child
    os.close(reading)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def prepare(path, *, with_model):
    with connect(path) as db:
        shop.load(db)
        if with_model:
            db.sql(MADE)


def attack(path, statement, pipe):
    with connect(path) as db:
        os.write(pipe, b"x")
        db.sql(statement)


def timed(path, statement):
    """Seconds that the statement takes to its end."""
    child = in_child(lambda pipe: attack(path, statement, pipe))
    os.read(child[1], 1)
    started = time.perf_counter()
    assert os.read(child[1], 1) == b""
    assert ended(child) == 0
    return time.perf_counter() - started


def killed(path, statement, delay_s):
    child = in_child(lambda pipe: attack(path, statement, pipe))
    os.read(child[1], 1)
    time.sleep(delay_s)
    os.kill(child[0], signal.SIGKILL)
    assert ended(child) in (-signal.SIGKILL, 0)


def check(path, statement, before, after):
    """The model is whole or absent, in its old or new version; leavings mend; and life goes on."""
    with connect(path) as db:
        found = version(db)
        assert found in (before, after), found
        report = db.fsck()
        assert report.ok, str(report)
        db.fsck(repair=True)
        assert db.fsck().findings == [], str(db.fsck())
        assert db.sql("SELECT count(*) FROM customers").fetchall() == [(shop.ROWS,)]
        if found == before:
            db.sql(statement)
            assert version(db) == after
        running = "SELECT count(*) FROM gradbase.runs WHERE status = 'RUNNING'"
        assert db.sql(running).fetchall() == [(0,)]
        assert shop.leftovers(db) == []
        sys.stdout.write("before\n" if found == before else "after\n")


def version(db):
    """Version of model m, every trial of which must be usable; 0 where there is none."""
    if not db.store.names():
        return 0
    for trial in range(1, 7):
        model = db.store.model("m", trial=trial)
        for param in {p for o in model.outputs for p in o.params}:
            db.store.blobs.array(param)
    used = db.sql("SELECT count(*) FROM customers WHERE PREDICT_PROBA(m, *) BETWEEN 0 AND 1")
    assert used.fetchall() == [(shop.ROWS,)]
    return model.version


def main(folder, name, attempts, seed):
    statement, before, after = STATEMENTS[name]
    draw, template = random.Random(seed), folder / "template"
    template.mkdir()
    assert ended(in_child(lambda _: prepare(template / "shop.duckdb", with_model=before))) == 0
    shutil.copytree(template, folder / "timed")
    seconds = timed(folder / "timed" / "shop.duckdb", statement)
    for attempt in range(attempts):
        work = folder / str(attempt)
        shutil.copytree(template, work)
        path = work / "shop.duckdb"
        killed(path, statement, draw.uniform(0.0, 1.1 * seconds))
        assert ended(in_child(lambda _, p=path: check(p, statement, before, after))) == 0
        shutil.rmtree(work)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
