"""Rows a second out of PostgreSQL into tensors, and predictions a second, by access path.

    python benchmarks/engines.py [--rows 200000] [--columns 28] [--only rows]

The server is the one of the tests (PostgreSQL 18 from a wheel), started for this on a local port,
because connectorx knows no sockets. Every path runs five times, in turns; the best of each counts.
What is slower than half of the best runs once. Bar: at least the best of psycopg, pandas and connectorx.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import psycopg
import pyarrow as pa
import torch

import gradbase as gb
from gradbase.testing.servers import PostgresServer

TIMES = 5
MODEL = (
    "CREATE OR REPLACE MODEL {} OPTIONS (model_type = 'dnn_classifier', input_label_cols = ['y'], "
    "hidden_units = [16], row_key = ['id'], max_epochs = {}, seed = 1{}) AS SELECT * FROM f WHERE id <= {}"
)


PARTS = ("read", "write", "decode", "train", "validate", "build", "hop", "idle")
ACCESS = {
    "in this process": "",
    **{
        f"2 processes, {access}": f", executor = 'processes', workers = 2, shard_access = '{access}'"
        for access in ("direct", "targeted", "export")
    },
}


def best(paths: dict[str, Callable[[], Any]], rows: int) -> dict[str, float]:
    """Rows a second of the fastest run of each path; what a path raises is printed."""
    seconds: dict[str, list[float]] = {name: [] for name in paths}
    over: set[str] = set()
    for _ in range(TIMES):
        for name, run in paths.items():
            if name in over:
                continue
            started = time.perf_counter()
            try:
                run()
            except Exception as error:
                print(f"{name}: {type(error).__name__}: {str(error)[:60]}")
                over.add(name)
                continue
            seconds[name].append(time.perf_counter() - started)
            if seconds[name][0] > 2 * min(min(s) for s in seconds.values() if s):
                over.add(name)
    return {name: rows / min(found) for name, found in seconds.items() if found}


def main() -> None:
    """Print one line a path."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--columns", type=int, default=28)
    parser.add_argument("--only", choices=["rows", "predictions", "search"])
    asked = parser.parse_args()
    warnings.simplefilter("ignore")
    url, rows = _filled(asked.rows, asked.columns), asked.rows
    columns = ", ".join(f"c{i}" for i in range(asked.columns))
    queries = {
        f"{asked.columns} doubles": f"SELECT {columns} FROM f",
        "doubles, some NULL": f"SELECT {columns}, CASE WHEN id % 3 > 0 THEN c0 END AS n FROM f",
        "numeric": "SELECT c0::numeric(12, 6) AS a, c1::numeric(9, 2) AS b, id FROM f",
    }
    with gb.connect(url, progress=False) as db:
        for what, query in queries.items() if asked.only in (None, "rows") else ():
            paths = {
                "gradbase": lambda q=query: _ours(db, q),
                "psycopg, binary": lambda q=query: _psycopg(url, q, binary=True),
                "psycopg": lambda q=query: _psycopg(url, q),
                "pandas read_sql": lambda q=query: _pandas(url, q),
                "connectorx": lambda q=query: _connectorx(url, q),
                "ADBC": lambda q=query: _adbc(url, q),
            }
            print(f"-- {what}: rows/s into a tensor")
            found = best(paths, rows)
            others = max(speed for name, speed in found.items() if name != "gradbase")
            for name, speed in found.items():
                print(f"{name:28s} {speed:12,.0f}")
            print(f"{'gradbase / best other':28s} {found['gradbase'] / others:12.2f}x")
        if asked.only in (None, "predictions"):
            _predictions(db, rows)
        if asked.only in (None, "search"):
            _breakdown(db, url, rows)


def _filled(rows: int, columns: int) -> str:
    url = PostgresServer().listen()
    names = ", ".join(f"random() AS c{i}" for i in range(columns))
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            f"CREATE TABLE f AS SELECT i AS id, i % 2 = 0 AS y, {names} "
            f"FROM generate_series(1, {rows}) i".encode()
        )
        connection.execute("VACUUM ANALYZE f")
    return url


def _predictions(db: gb.Session, rows: int) -> None:
    db.sql(MODEL.format("m", 1, "", 5000))
    print("-- predictions/s of a network 28-16-1")
    paths = {
        name: lambda q=sql: db.sql(q).arrow()
        for name, sql in {
            "out": "SELECT PREDICT_PROBA(m, *) AS p FROM f",
            "and back by COPY": "SELECT avg(PREDICT_PROBA(m, *)) AS p FROM f",
        }.items()
    }
    for name, speed in best(paths, rows).items():
        print(f"{name:28s} {speed:12,.0f}")


def _breakdown(db: gb.Session, url: str, rows: int) -> None:
    """Where the time of a search goes, by access path; of workers it is summed over them."""
    print("-- seconds of a search, 4 trials of 3 epochs")
    with psycopg.connect(url) as connection:
        started = time.perf_counter()
        connection.execute(b"COPY (SELECT * FROM f) TO '/dev/null' (FORMAT binary)")
        print(f"the server alone, once       {time.perf_counter() - started:8.2f}")
    print(f"{'':28s}" + "".join(f"{name:>9s}" for name in ("whole", *PARTS)))
    for name, options in ACCESS.items():
        more = f", num_trials = 4, learn_rate = HPARAM_RANGE(1e-3, 1e-1){options}"
        started = time.perf_counter()
        db.sql(MODEL.format("s", 3, more, rows))
        whole = time.perf_counter() - started
        report = db.study("s").report()
        parts = [getattr(report, f"{part}_s") for part in PARTS]
        print(f"{name:28s}" + "".join(f"{seconds:9.2f}" for seconds in (whole, *parts)))


def _tensor(table: pa.Table) -> torch.Tensor:
    columns = [c.cast(pa.float64()).to_numpy() for c in table.columns]
    return torch.from_numpy(np.column_stack(columns))


def _ours(db: gb.Session, query: str) -> torch.Tensor:
    return _tensor(db.sql(query).arrow())


def _psycopg(url: str, query: str, *, binary: bool = False) -> torch.Tensor:
    with psycopg.connect(url) as connection, connection.cursor(binary=binary) as cursor:
        return torch.from_numpy(np.array(cursor.execute(query.encode()).fetchall(), np.float64))


def _pandas(url: str, query: str) -> torch.Tensor:
    import pandas as pd

    with psycopg.connect(url) as connection:
        frame = pd.read_sql(query, connection)  # type: ignore[arg-type]
        return torch.from_numpy(frame.to_numpy(np.float64))


def _connectorx(url: str, query: str) -> torch.Tensor:
    """With its default protocol, on one connection; more of them were slower on two cores."""
    import connectorx

    frame: Any = connectorx.read_sql(url.partition("?")[0], query, return_type="arrow")
    return _tensor(frame)


def _adbc(url: str, query: str) -> torch.Tensor:
    from adbc_driver_postgresql import dbapi

    with dbapi.connect(url) as connection, connection.cursor() as cursor:
        cursor.execute(query)
        table = cursor.fetch_arrow_table()
    return _tensor(table)


if __name__ == "__main__":
    main()
