"""Predictions over a join, the first layer computed once per row of the dimension.

``python benchmarks/factorised.py [--rows 1000000] [--curve]``: 1 M rows of facts with 16 features,
2,000 of a dimension with 256, an MLP 272-64-1. Compared: the plan as it is chosen; the joined plan
(all features of all rows go through the join; ``split_layer_over_join`` disabled); and what one
would write by hand: the engine's join as Arrow batches, torch over them. (orbital, which writes a
model as SQL, is not among the installable dependencies of this project.)
``--curve``: fan-outs 1 to 1,000. Each figure is the minimum of several runs.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch

import gradbase as gb

BATCHES = (4096, 16384, 65536)
"""Rows at once that are tried by hand; the best counts."""
RULE = "split_layer_over_join"


def prepared(
    rows: int, keys: int, fact: int, dimension: int, hidden: int
) -> tuple[gb.Session, str, torch.nn.Module]:
    """A session with tables and a model, the query, and the model."""
    db = gb.connect(progress=False)
    x = ", ".join(f"(random() - 0.5)::FLOAT AS x{i}" for i in range(fact))
    z = ", ".join(f"(random() - 0.5)::FLOAT AS z{i}" for i in range(dimension))
    db.sql(f"CREATE TABLE facts AS SELECT (i * 7919) % {keys} AS k, {x} FROM range({rows}) t(i)")
    db.sql(f"CREATE TABLE things AS SELECT i AS k, {z} FROM range({keys}) t(i)")
    torch.manual_seed(0)
    net = torch.nn.Sequential(
        torch.nn.Linear(fact + dimension, hidden), torch.nn.ReLU(), torch.nn.Linear(hidden, 1)
    )
    features = [*(f"x{i}" for i in range(fact)), *(f"z{i}" for i in range(dimension))]
    db.import_model("m", net, features=features)
    call = f"PREDICT(m, {', '.join(features)})"
    return db, f"SELECT sum(p) FROM (SELECT {call} AS p FROM facts JOIN things USING (k))", net


def seconds(db: gb.Session, query: str, runs: int) -> float:
    """The fastest of some runs, after one to warm up."""
    times: list[float] = []
    for _ in range(runs + 1):
        start = time.perf_counter()
        db.sql(query).fetchall()
        times.append(time.perf_counter() - start)
    return min(times[1:])


def by_hand(db: gb.Session, net: torch.nn.Module, width: int, runs: int) -> float:
    """The join as Arrow batches, and torch over them: the fastest of some runs."""
    names = [f"x{i}" for i in range(width)] + [f"z{i}" for i in range(256)]
    query = f"SELECT {', '.join(names)} FROM facts JOIN things USING (k)"
    times: list[float] = []
    for batch_rows in BATCHES * runs:
        start, total = time.perf_counter(), 0.0
        with torch.inference_mode(), db.engine.stream(query, batch_rows=batch_rows) as batches:
            for batch in batches:
                x = torch.from_numpy(np.stack([c.to_numpy() for c in batch.columns]))
                total += float(net(x.T).sum())
        times.append(time.perf_counter() - start)
    return min(times)


def compared(rows: int, keys: int, runs: int, *, hand: bool) -> None:
    """One line: the plans and their ratios."""
    db, query, net = prepared(rows, keys, 16, 256, 64)
    chosen = seconds(db, query, runs)
    split = RULE in db.last_plan.rules
    db.sql(f"SET gradbase.disabled_rules = '{RULE}'")
    joined = seconds(db, query, runs)
    line = (
        f"{rows:>9,} rows, {keys:>7,} keys (fan-out {rows / keys:>6,.0f}): chosen "
        f"{'split ' if split else 'joined'} {chosen:7.3f} s, joined {joined:7.3f} s, "
        f"{joined / chosen:5.2f}x"
    )
    if hand:
        own = by_hand(db, net, 16, max(1, runs // len(BATCHES)))
        line += f"; by hand {own:7.3f} s, {own / chosen:5.2f}x"
    db.close()
    print(line, flush=True)


def main() -> None:
    """Run."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--keys", type=int, default=2_000)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--curve", action="store_true")
    given = parser.parse_args()
    if not given.curve:
        compared(given.rows, given.keys, given.runs, hand=True)
        return
    rows = min(given.rows, 200_000)
    for fan_out in (1, 2, 3, 5, 10, 30, 100, 300, 1000):
        compared(rows, max(1, rows // fan_out), given.runs, hand=False)


if __name__ == "__main__":
    main()
