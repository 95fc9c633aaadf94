"""What a search holds in memory hardly grows with the rows of its table."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

ROWS, LIMIT = 20_000_000, 48_000_000
BYTES_A_ROW = 8
"""A search over rows of ten times as many bytes, or more, stays within a tenth of their size."""
CHILD = """
import gc, json, sys
import gradbase as gb

def status(key):
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(key))

path, limit = sys.argv[1], int(sys.argv[2])
with gb.connect(path, progress=False) as db:
    db.sql(f"SET gradbase.memory_limit = '{limit}B'; SET gradbase.threads = 2")
    db.sql("CREATE TABLE few AS FROM t LIMIT 2000")
    model = ("OPTIONS (model_type = 'logistic_reg', input_label_cols = ['y'], batch_size = 8192, max_epochs = 1, "
             "early_stop = FALSE, learn_rate = HPARAM_CANDIDATES([0.01, 0.1])) AS SELECT * FROM")
    db.sql(f"CREATE MODEL warm {model} few")
    gc.collect()
    idle = status("VmRSS")
    open("/proc/self/clear_refs", "w").write("5")  # forgets the high-water mark
    db.sql(f"CREATE MODEL m {model} t")
    found = db.sql("SELECT roc_auc FROM ML.EVALUATE(MODEL m)").fetchone()[0]
    print(json.dumps([status("VmHWM") - idle, found]))
"""


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.skipif(sys.platform != "linux", reason="resident memory is read from /proc")
def test_a_search_holds_few_bytes_of_each_row(tmp_path):
    """Twenty million rows of three numbers, measured against the same process when it is idle."""
    import duckdb

    path = tmp_path / "narrow.duckdb"
    with duckdb.connect(str(path)) as db:
        db.sql(
            "CREATE TABLE t AS SELECT sin(i) AS a, cos(i * 1.7) AS b, "
            f"(sin(i) + cos(3 * i) > 0)::BIGINT AS y FROM range({ROWS}) r(i)"
        )
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(path), str(LIMIT)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    peak, area = json.loads(done.stdout.splitlines()[-1])
    assert peak <= BYTES_A_ROW * ROWS
    assert area > 0.7
