"""What committing units costs a search, and whether a killed one comes to the same.

``python benchmarks/resume.py [--rows 100000] [--trials 16] [--epochs 5]``
"""

from __future__ import annotations

import argparse
import itertools
import sys
import threading
import time

import gradbase as gb
from gradbase.selection.states import States
from gradbase.selection.watch import Watch
from gradbase.store.journal import Journal


class Killed(BaseException):
    """As if the process had died."""


class Clock:
    """Seconds that a method took, all its calls together; nested ones once."""

    def __init__(self):
        self.seconds, self._inside = 0.0, threading.local()

    def around(self, home, name):
        method = getattr(home, name)

        def timed(*args, **kwargs):
            if getattr(self._inside, "yes", False):
                return method(*args, **kwargs)
            self._inside.yes, started = True, time.perf_counter()
            try:
                return method(*args, **kwargs)
            finally:
                self.seconds += time.perf_counter() - started
                self._inside.yes = False

        setattr(home, name, timed)


def train(db, args, name):
    db.table("t").fit(
        gb.mlp(hidden=[64, 32]), target="y", name=name, lr=gb.loguniform(1e-4, 1e-1),
        trials=args.trials, epochs=args.epochs, batch_size=256, early_stop=False, seed=1,
        executor=args.executor, workers=args.workers, split="random",
    )  # fmt: skip


def outcome(db, name):
    return db.study(name).history.drop(columns="seconds").to_json()


def killed_and_resumed(db, args):
    """The history of a search that was killed in the middle, and gone on with."""
    looks, check = itertools.count(), Watch.check

    def dying(self):
        if next(looks) > args.trials * args.epochs // 2:
            raise Killed
        check(self)

    Watch.check = dying
    try:
        train(db, args, "killed")
    except Killed:
        Watch.check = check
        db.resume("killed")
    Watch.check = check
    return outcome(db, "killed")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--trials", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--executor", default="in_process")
    parser.add_argument("--workers", type=int, default=1)
    args = parser.parse_args()
    with gb.connect(":memory:", progress=False) as db:
        columns = ", ".join(f"sin(i * {k + 1}.37)::FLOAT AS x{k}" for k in range(28))
        db.sql(
            f"CREATE TABLE t AS SELECT {columns}, (x0 + x1 * x2 > 0)::INT AS y "
            f"FROM range({args.rows}) r(i)"
        )
        train(db, args, "warm")
        clock = Clock()
        for home, name in ((States, "save"), (Journal, "append")):
            clock.around(home, name)
        started = time.perf_counter()
        train(db, args, "whole")
        seconds = time.perf_counter() - started
        report = db.study("whole").report()
        share = clock.seconds / seconds
        print(
            f"{report.units} units of {args.trials} trials in {seconds:.2f} s; states and journal "
            f"took {clock.seconds:.3f} s of all workers: {100 * share:.1f} %"
        )
        assert killed_and_resumed(db, args) == outcome(db, "whole")
        print("killed in the middle and resumed: the same, bit for bit")


if __name__ == "__main__":
    sys.exit(main())
