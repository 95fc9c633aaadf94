"""Kills processes at every step of an operation on a store; run as a script.

``python -m store.crash FOLDER OPERATION STRIDE``: for every STRIDE-th step k (and the last three) a
forked child does the operation and kills itself at the k-th write, flush, rename, deletion or
statement; another child then opens the database and checks it. Prints ``k before|after``, the
state found.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
from pathlib import Path

from gradbase.engines import connect
from gradbase.engines.duckdb.engine import DuckDBEngine, DuckDBTransaction
from gradbase.store import Store

from .samples import record, trial


def first(store):
    store.commit(record())


def replace(store):
    store.commit(record(trials=[trial(1, seed=5), trial(2, seed=6)]), or_replace=True)


def drop(store):
    store.drop("churn")


# Operation, whether there is a model before, and the version visible before and after.
OPERATIONS = {
    "first": (first, False, 0, 1),
    "replace": (replace, True, 1, 2),
    "drop": (drop, True, 1, 0),
}


class Steps:
    """Counts what touches files or the database, and kills this process at step `last`."""

    def __init__(self, last=None):
        self.taken, self.last = 0, last

    def take(self):
        if self.taken == self.last:
            os.kill(os.getpid(), signal.SIGKILL)
        self.taken += 1

    def counted(self, function):
        def call(*args, **kwargs):
            self.take()
            return function(*args, **kwargs)

        return call

    def arm(self):
        for name in ("write", "fsync", "replace", "unlink"):
            setattr(os, name, self.counted(getattr(os, name)))
        plain = DuckDBEngine.transaction

        @contextlib.contextmanager
        def transaction(engine, *, writes=False):
            self.take()
            with plain(engine, writes=writes) as handle:
                yield handle
                self.take()
            self.take()

        DuckDBEngine.transaction = transaction
        for name in ("execute", "insert"):
            setattr(DuckDBTransaction, name, self.counted(getattr(DuckDBTransaction, name)))


def in_child(work):
    """Run `work` in a fork; its exit status, or -9."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            work()
            status = 0
        finally:
            sys.stdout.flush()
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def prepare(path, *, with_model):
    engine = connect(path)
    store = Store.open(engine)
    if with_model:
        first(store)
    store.close()
    engine.close()


def attack(path, operation, *, step=None):
    steps = Steps(step)
    steps.arm()
    operation(Store.open(connect(path)))
    path.with_name("steps").write_text(str(steps.taken))


def check(path, step, name):
    """The state is the old or the new one, whole; what a crash left is harmless and mends."""
    operation, _, before, after = OPERATIONS[name]
    store = Store.open(connect(path))
    found = store.model("churn").version if store.names() else 0
    assert found in (before, after), found
    for number in (1, 2) if found else ():
        for param in store.model("churn", trial=number).outputs[0].params:
            store.blobs.array(param)
    report = store.fsck()
    assert report.ok, str(report)
    store.fsck(repair=True)
    assert store.fsck().findings == [], str(store.fsck())
    if found == before:
        operation(store)
        assert (store.model("churn").version if store.names() else 0) == after
    sys.stdout.write(f"{step} {'before' if found == before else 'after'}\n")


def main(folder, name, stride):
    operation, with_model, _, _ = OPERATIONS[name]
    template, counted = folder / "template", folder / "counted"
    template.mkdir()
    assert in_child(lambda: prepare(template / "shop.duckdb", with_model=with_model)) == 0
    shutil.copytree(template, counted)
    assert in_child(lambda: attack(counted / "shop.duckdb", operation)) == 0
    steps = int((counted / "steps").read_text())
    for step in range(steps):
        if step % stride and step < steps - 3:
            continue
        work = folder / str(step)
        shutil.copytree(template, work)
        path = work / "shop.duckdb"
        status = in_child(lambda p=path, k=step: attack(p, operation, step=k))
        assert status in (-signal.SIGKILL, 0), status
        assert in_child(lambda p=path, k=step: check(p, k, name)) == 0, step
        shutil.rmtree(work)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
