"""Rows a second out of PostgreSQL into tensors, and predictions a second, by access path.

    python benchmarks/engines.py [--rows 200000] [--columns 28]

The server is the one of the tests (PostgreSQL 18 from a wheel), started for this. Every path runs
three times; the best counts. Bar: at least the best of psycopg, pandas and connectorx.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import psycopg
import torch

import gradbase as gb
from gradbase.testing.servers import postgres_url


def best(run: Callable[[], Any], rows: int) -> float:
    """Rows a second of the fastest of three runs."""
    seconds: list[float] = []
    for _ in range(3):
        started = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - started)
    return rows / min(seconds)


def main() -> None:
    """Print one line a path."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--columns", type=int, default=28)
    asked = parser.parse_args()
    warnings.simplefilter("ignore")
    url, rows = postgres_url(), asked.rows
    names = ", ".join(f"random() AS c{i}" for i in range(asked.columns))
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            f"CREATE TABLE f AS SELECT i AS id, i % 2 = 0 AS y, {names} "
            f"FROM generate_series(1, {rows}) i".encode()
        )
        connection.execute("VACUUM ANALYZE f")
    columns = ", ".join(f"c{i}" for i in range(asked.columns))
    query = f"SELECT {columns} FROM f"
    with gb.connect(url, progress=False) as db:
        paths: dict[str, Callable[[], Any]] = {
            "gradbase (binary COPY)": lambda: _ours(db, query),
            "psycopg fetchall": lambda: _psycopg(url, query),
            "psycopg fetchall, binary": lambda: _psycopg(url, query, binary=True),
            "pandas read_sql": lambda: _pandas(url, query),
            "connectorx": lambda: _connectorx(url, query),
            "ADBC": lambda: _adbc(url, query),
        }
        for name, run in paths.items():
            try:
                print(f"{name:28s} {best(run, rows):12,.0f} rows/s into a tensor")
            except Exception as error:
                print(f"{name:28s} {type(error).__name__}: {str(error)[:60]}")
        db.sql(
            "CREATE MODEL m OPTIONS (model_type = 'dnn_classifier', input_label_cols = ['y'], "
            "hidden_units = [16], row_key = ['id'], max_epochs = 1, seed = 1) "
            "AS SELECT * FROM f WHERE id <= 5000"
        )
        for name, sql in {
            "predictions, out": "SELECT PREDICT_PROBA(m, *) AS p FROM f",
            "predictions, and back by COPY": "SELECT avg(PREDICT_PROBA(m, *)) AS p FROM f",
        }.items():
            found = best(lambda sql=sql: db.sql(sql).arrow(), rows)
            print(f"{name:28s} {found:12,.0f} rows/s")


def _ours(db: gb.Session, query: str) -> torch.Tensor:
    table = db.sql(query).arrow()
    return torch.from_numpy(np.column_stack([c.to_numpy() for c in table.columns]))


def _psycopg(url: str, query: str, *, binary: bool = False) -> torch.Tensor:
    with psycopg.connect(url) as connection, connection.cursor(binary=binary) as cursor:
        return torch.tensor(cursor.execute(query.encode()).fetchall(), dtype=torch.float64)


def _pandas(url: str, query: str) -> torch.Tensor:
    import pandas as pd

    with psycopg.connect(url) as connection:
        return torch.from_numpy(pd.read_sql(query, connection).to_numpy())  # type: ignore[arg-type]


def _connectorx(url: str, query: str) -> torch.Tensor:
    """It knows no sockets, only ports: the server of the tests has none, then it says so."""
    import connectorx

    frame: Any = connectorx.read_sql(url, query, return_type="arrow")
    return torch.from_numpy(np.column_stack([c.to_numpy() for c in frame.columns]))


def _adbc(url: str, query: str) -> torch.Tensor:
    from adbc_driver_postgresql import dbapi

    with dbapi.connect(url) as connection, connection.cursor() as cursor:
        cursor.execute(query)
        table = cursor.fetch_arrow_table()
    return torch.from_numpy(np.column_stack([c.to_numpy() for c in table.columns]))


if __name__ == "__main__":
    main()
