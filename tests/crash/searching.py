"""A search that kills its own process: ``searching.py DATABASE EPOCH [EXECUTOR]``.

Before, it writes which processes it had started into DATABASE.pids.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import psutil

import gradbase as gb
from gradbase.selection import states
from gradbase.selection.watch import Watch

STATEMENT = """
CREATE MODEL m OPTIONS (model_type = 'dnn_classifier', input_label_cols = ['label'],
    hidden_units = [8], hparam_tuning_algorithm = 'asha', num_trials = 9, max_parallel_trials = 3,
    learn_rate = HPARAM_RANGE(1e-4, 1e-1), max_epochs = 9, early_stop = FALSE,
    data_split_method = 'random', shards = 2, executor = '{}', workers = 2)
    AS SELECT * FROM rows WHERE a < $most
"""
PARAMETERS = {"most": 0.99}


def begin(path: str) -> gb.Session:
    db = gb.connect(path, progress=False)
    db.sql(
        "CREATE TABLE IF NOT EXISTS rows AS SELECT sin(i) AS a, cos(i * i) AS b, "
        "sin(i) + cos(3 * i) > 0 AS label FROM range(200) r(i)"
    )
    return db


def kill_at(epoch: int) -> None:
    """Let the process die, like one whose power fails, when the nth epoch is told."""
    told, left = Watch.epoch, [epoch]

    def counted(self: Watch, *what: object) -> None:
        told(self, *what)
        left[0] -= 1
        if not left[0]:
            started = psutil.Process().children(recursive=True)
            Path(sys.argv[1] + ".pids").write_text(" ".join(str(c.pid) for c in started))
            os.kill(os.getpid(), signal.SIGKILL)

    Watch.epoch = counted
    states.Pace.is_due = lambda self, size: True


if __name__ == "__main__":
    kill_at(int(sys.argv[2]))
    executor = sys.argv[3] if len(sys.argv) > 3 else "in_process"
    begin(sys.argv[1]).sql(STATEMENT.format(executor), PARAMETERS)
