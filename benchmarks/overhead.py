"""What gradbase adds to a statement that is not ours, and to a repeated prediction query.

    python benchmarks/overhead.py

Each statement runs through a Session and on a bare DuckDB connection of an equal database, in turns
in the same run, many times. Printed are the least and the median time of both, and the median of
the differences of neighbours: a busy moment hits both. A prediction is compared with the engine's
own time to read the same columns of the same rows. The floor is what the arithmetic of the model
takes in torch on rows that are in memory already. All answers are checked.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import torch

import gradbase

BAR_NATIVE_US, BAR_PREDICTION_US = 50.0, 1000.0
ROWS = 1000
TABLE = (
    f"CREATE TABLE t AS SELECT i AS id, i % 7 AS a, (i % 11) * 0.5 AS x, 'name ' || i AS s, "
    f"DATE '2020-01-01' + (i % 300)::INT AS d, i % 3 = 0 AS y FROM range({ROWS}) r(i)"
)
MODEL = (
    "CREATE MODEL m OPTIONS (model_type = 'dnn_classifier', hidden_units = [16], row_key = ['id'], "
    "input_label_cols = ['y'], max_epochs = 2, seed = 1) AS SELECT id, a, x, y FROM t"
)
NATIVE = (
    "SELECT 42",
    "SELECT a, count(*) AS n, sum(x) FROM t WHERE id < 500 GROUP BY a ORDER BY a",
    "SELECT * FROM t WHERE id = 7;",
    "SELECT id, s, d FROM t LIMIT 100",
    "SELECT model FROM (SELECT 'predict' AS model)",
)
"""Read as tuples; the last has words that look like ours."""
PARAMETERS = ("SELECT s FROM t WHERE id = ?", [7])
INSERT = "INSERT INTO log VALUES (1, 'a')"
PREDICTION = ("SELECT id, PREDICT_PROBA(m, *) AS p FROM t", "SELECT id, a, x FROM t")
FILTERED = (
    "SELECT id, PREDICT(m, *) AS p FROM t WHERE id < 10 ORDER BY p, id",
    "SELECT id, a, x FROM t WHERE id < 10 ORDER BY x, id",
)


@dataclass
class Compared:
    """Microseconds of one statement: least and median of both, median difference, its bar."""

    name: str
    ours: list[float]
    theirs: list[float]
    bar_us: float

    @property
    def added_us(self) -> float:
        return statistics.median(a - b for a, b in zip(self.ours, self.theirs, strict=True))

    def line(self) -> str:
        ours, theirs = statistics.median(self.ours), statistics.median(self.theirs)
        return (
            f"{self.name[:58]:58} {min(self.theirs):7.0f} {theirs:7.0f} {min(self.ours):7.0f} "
            f"{ours:7.0f} {self.added_us:+8.0f} {ours / theirs:6.2f}x  "
            f"{'ok' if self.added_us <= self.bar_us else 'ABOVE'} (bar {self.bar_us:.0f})"
        )


def compare(
    name: str, ours: Callable[[], Any], theirs: Callable[[], Any], repeat: int, bar_us: float
) -> Compared:
    """Both in turns, after a few rounds that do not count."""
    found = Compared(name, [], [], bar_us)
    for i in range(repeat + 20):
        times = [_microseconds(run) for run in (ours, theirs)]
        if i >= 20:
            found.ours.append(times[0])
            found.theirs.append(times[1])
    return found


def _microseconds(run: Callable[[], Any]) -> float:
    start = time.perf_counter()
    run()
    return (time.perf_counter() - start) * 1e6


def native(db: gradbase.Session, con: Any, repeat: int) -> list[Compared]:
    """Statements without our words."""
    found = []
    for query in NATIVE:
        assert db.sql(query).fetchall() == con.execute(query).fetchall(), query
        found.append(
            compare(
                query,
                lambda q=query: db.sql(q).fetchall(),
                lambda q=query: con.execute(q).fetchall(),
                repeat,
                BAR_NATIVE_US,
            )
        )
    query, values = PARAMETERS
    assert db.sql(query, values).fetchall() == con.execute(query, values).fetchall()
    found.append(
        compare(
            query,
            lambda: db.sql(query, values).fetchall(),
            lambda: con.execute(query, values).fetchall(),
            repeat,
            BAR_NATIVE_US,
        )
    )
    first = NATIVE[1]
    assert db.sql(first).arrow().equals(con.sql(first).to_arrow_table())
    found.append(
        compare(
            f"as Arrow: {first}",
            lambda: db.sql(first).arrow(),
            lambda: con.sql(first).to_arrow_table(),
            repeat,
            BAR_NATIVE_US,
        )
    )
    found.append(
        compare(INSERT, lambda: db.sql(INSERT), lambda: con.execute(INSERT), repeat, BAR_NATIVE_US)
    )
    return found


def changing(db: gradbase.Session, con: Any, repeat: int) -> list[Compared]:
    """Texts that differ in their numbers; and texts of a new form each, bound once more."""
    numbers = iter(range(10_000_000))
    texts = {
        "another number each time: SELECT a FROM t WHERE id = <n>": (
            lambda: f"SELECT a FROM t WHERE id = {next(numbers)}",
            BAR_NATIVE_US,
        ),
        "another form each time: SELECT a AS a<n> FROM t WHERE id = 7": (
            lambda: f"SELECT a AS a{next(numbers)} FROM t WHERE id = 7",
            float("inf"),
        ),
    }
    return [
        compare(
            name,
            lambda t=text: db.sql(t()).fetchall(),
            lambda t=text: con.execute(t()).fetchall(),
            repeat,
            bar_us,
        )
        for name, (text, bar_us) in texts.items()
    ]


def predictions(db: gradbase.Session, con: Any, repeat: int) -> list[Compared]:
    """Repeated prediction queries against the engine's own reading of the same rows."""
    found = []
    for ours, theirs in (PREDICTION, FILTERED):
        assert len(db.sql(ours).fetchall()) == len(con.execute(theirs).fetchall())
        found.append(
            compare(
                ours,
                lambda q=ours: db.sql(q).fetchall(),
                lambda q=theirs: con.execute(q).fetchall(),
                repeat,
                BAR_PREDICTION_US,
            )
        )
    return found


def floor_us() -> float:
    """Least microseconds of a 2-16-1 network over the rows in memory."""
    x, w1, w2 = torch.rand(ROWS, 4), torch.rand(16, 4), torch.rand(1, 16)
    b1, b2 = torch.rand(16), torch.rand(1)
    linear = torch.nn.functional.linear

    def run() -> None:
        with torch.inference_mode():
            torch.sigmoid(linear(torch.relu(linear(x, w1, b1)), w2, b2))

    return min(_microseconds(run) for _ in range(500))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeat", type=int, default=1000)
    parser.add_argument("--out", type=Path, help="also write the lines there")
    options = parser.parse_args()
    machine = (
        f"{platform.machine()}, {len(os.sched_getaffinity(0))} cores, DuckDB {duckdb.__version__}, "
        f"torch {torch.__version__}, {options.repeat} rounds; microseconds"
    )
    heads = ("DuckDB: least, median", "ours: least, median", "added")
    lines = [machine, f"{'statement':54} {heads[0]:>19} {heads[1]:>19} {heads[2]:>8}"]
    with gradbase.connect(progress=False) as db, duckdb.connect() as con:
        for run in (con.execute, db.sql):
            run(TABLE)
            run("CREATE TABLE log (i INTEGER, s VARCHAR)")
        db.sql(MODEL)
        found = [*native(db, con, options.repeat), *changing(db, con, options.repeat)]
        found += predictions(db, con, max(options.repeat // 5, 20))
    lines += [f.line() for f in found]
    lines.append(f"floor of the arithmetic of {ROWS} predictions in torch: {floor_us():.0f} us")
    print("\n".join(lines))
    if options.out:
        options.out.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
