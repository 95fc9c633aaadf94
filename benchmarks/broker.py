"""Several queries at once under one cap: no over-commit, no failure, throughput kept.

Mixed queries on one session: a small network over all rows, the same over a tenth of them, a network
whose weights exceed what statements may use (read in tiles), and SQL of the engine's own. The same
list of queries is run by 1, 2, 4 and 8 threads. A watcher adds up all leases every few milliseconds.

    python benchmarks/broker.py --limit 200000000
"""

from __future__ import annotations

import argparse
import itertools
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import torch

import gradbase as gb

COLUMNS = 28
LISTS = ", ".join(f"random() AS f{i}" for i in range(COLUMNS))
QUERIES = (
    "SELECT avg(PREDICT(small, *)[1]) FROM t",
    "SELECT count(*) FROM t WHERE k < 100 AND PREDICT(small, *)[1] > 0",
    "SELECT avg(PREDICT(large, x)[1]) FROM wide",
    "SELECT k, avg(f0), stddev(f1) FROM t GROUP BY k ORDER BY k LIMIT 3",
)
"""What is run, with answers that do not depend on who else is there."""


def net(*sizes: int) -> torch.nn.Module:
    parts: list[torch.nn.Module] = []
    for i, (a, b) in enumerate(itertools.pairwise(sizes)):
        parts += [torch.nn.ReLU()] * (i > 0) + [torch.nn.Linear(a, b)]
    return torch.nn.Sequential(*parts).eval()


def opened(limit: int, rows: int) -> gb.Session:
    """A session with tables and models."""
    torch.manual_seed(0)
    db = gb.connect(progress=False, memory_limit_bytes=limit)
    db.sql(f"CREATE TABLE t AS SELECT i % 1000 AS k, {LISTS} FROM range({rows}) r(i)")
    x = np.random.default_rng(1).normal(size=(400, 256)).astype(np.float32)
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(x.ravel()), 256)
    db.register("given", pa.table({"x": vectors}))
    db.sql("CREATE TABLE wide AS SELECT * FROM given")
    db.import_model("small", net(COLUMNS, 64, 2), features=[f"f{i}" for i in range(COLUMNS)])
    hidden = limit // 2 // (4 * 256) + 2048  # more than statements may use
    db.import_model("large", net(256, hidden, 2), features=db.sql("SELECT x FROM wide").arrow())
    return db


@dataclass
class Watcher:
    """Adds up leases until it is stopped."""

    db: gb.Session
    most_bytes: int = 0
    most_threads: int = 0
    _stop: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        broker = self.db.broker
        while not self._stop.wait(0.003):
            threads, size_bytes = broker.free()
            self.most_bytes = max(self.most_bytes, broker.memory_bytes - size_bytes)
            self.most_threads = max(self.most_threads, broker.threads - threads)

    def stop(self) -> None:
        self._stop.set()


def throughput(db: gb.Session, threads: int, rounds: int) -> dict[str, float]:
    """Queries a second by so many threads, failures, and the most that was leased."""
    work = [q for _ in range(rounds) for q in QUERIES]
    failures: list[str] = []

    def run(query: str) -> None:
        try:
            db.sql(query).fetchall()
        except Exception as error:
            failures.append(str(error))

    watcher = Watcher(db)
    watching = threading.Thread(target=watcher.run)
    watching.start()
    started = time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(run, work))
    seconds = time.perf_counter() - started
    watcher.stop()
    watching.join()
    for text in sorted(set(failures)):
        print(text)
    return {
        "at_once": threads, "queries_per_s": len(work) / seconds, "failures": len(failures),
        "most_leased": watcher.most_bytes / db.broker.memory_bytes,
        "most_threads": watcher.most_threads / db.broker.threads,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--limit", type=int, default=200_000_000, help="bytes")
    parser.add_argument("--rows", type=int, default=500_000)
    parser.add_argument("--rounds", type=int, default=8)
    given = parser.parse_args()
    with opened(given.limit, given.rows) as db:
        print(db.explain(QUERIES[2]))
        throughput(db, 1, 1)
        found = [throughput(db, n, given.rounds) for n in (1, 2, 4, 8)]
    for row in found:
        row["against_one"] = row["queries_per_s"] / found[0]["queries_per_s"]
        print(json.dumps({k: round(v, 3) for k, v in row.items()}))


if __name__ == "__main__":
    main()
