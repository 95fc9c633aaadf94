"""The process of `test_larger_than_memory_files` that may have no more memory than it was given.

Prints the largest difference from what NumPy computes, and the bytes that it came to have.
"""

from __future__ import annotations

import importlib
import json
import resource
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa

import gradbase as gb

SPARE = 256 << 20  # stacks of threads and what allocators reserve


def status(name):
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(lines[name].split()[0]) << 10


def main(path, answers, limit):
    for part in ("gradbase.runtime.predict", "gradbase.session.importing"):
        importlib.import_module(part)
    x, expected = (np.load(answers / f"{n}.npy") for n in ("x", "y"))
    with gb.connect(progress=False, memory_limit_bytes=limit) as db:
        rows = pa.FixedSizeListArray.from_arrays(pa.array(x.ravel()), x.shape[1])
        db.register("given", pa.table({"id": range(len(x)), "x": rows}))
        db.sql("CREATE TABLE t AS SELECT * FROM given")
        assert db.calibration
        idle = status("VmHWM")
        most = status("VmPeak") + limit + SPARE
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
        kind = {".onnx": "onnx", ".pt2": "torch"}[path.suffix]
        db.sql(f"CREATE MODEL m OPTIONS (model_type = '{kind}', model_path = '{path}')")
        found = db.sql("SELECT id, PREDICT(m, x) AS p FROM t ORDER BY id").fetchall()
    error = float(np.abs(np.array([p for _, p in found]) - expected).max())
    sys.stdout.write(json.dumps({"error": error, "bytes": status("VmHWM") - idle}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
