"""Spark: `PREDICT` against ``predict_batch_udf``, rows into tensors, where a search's time goes.

    python benchmarks/spark.py [--rows 1000000] [--rounds 9] [--only predictions|tensors|search]

``local[2]``. The ways of a part take turns, each first in every other round; the first three rounds,
in which Java compiles and Python processes start, are not counted. Printed are rows a second of the
least and the median time, and the ratio to the best other way by both. Bar: 1.0.

- predictions: a network 8-64-1, the sum over all rows; both sides keep it in Spark's Python.
- tensors: all rows of a query as one float64 tensor [rows, 8] in this process. Every way gets the
  text of the query, and the copy from Arrow to the tensor is the same.
- search: what a search of 8 trials of 3 epochs did with its time, for each way to its rows.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

import gradbase as gb

FEATURES = [f"x{i}" for i in range(8)]
WARM_UP = 3
QUERY = "SELECT * FROM points"
Ways = dict[str, Callable[[], Any]]


def main() -> None:
    """Print the parts that are asked for."""
    warnings.simplefilter("ignore")
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--only", choices=("predictions", "tensors", "search"))
    asked = parser.parse_args()
    folder = Path(tempfile.mkdtemp())
    with gb.connect("local[2]", store=folder / "store", progress=False) as db:
        columns = ", ".join(
            f"CAST((id * {7 + i}) % {101 + i} AS DOUBLE) / 10 AS x{i}" for i in range(8)
        )
        db.sql(f"CREATE TEMP VIEW points AS SELECT {columns} FROM range(0, {asked.rows}, 1, 4)")
        db.engine.session.conf.set("spark.sql.execution.arrow.pyspark.enabled", "true")
        if asked.only in (None, "predictions"):
            compared("predictions", predictions(db, folder), asked)
        if asked.only in (None, "tensors"):
            compared("rows into a tensor", tensors(db), asked)
        if asked.only in (None, "search"):
            search(db, asked.rows)


def compared(what: str, ways: Ways, asked: argparse.Namespace) -> None:
    """Rows a second of each way; the first is ours."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(WARM_UP + asked.rounds):
        order = list(ways) if number % 2 else list(ways)[::-1]
        for name in order:
            started = time.perf_counter()
            ways[name]()
            if number >= WARM_UP:
                seconds[name].append(time.perf_counter() - started)
    print(f"-- {what}, million rows/s by the least and the median of {asked.rounds} times")
    for name, found in seconds.items():
        speeds = (asked.rows / of(found) / 1e6 for of in (min, statistics.median))
        print(f"{name:24}" + "".join(f"{speed:8.2f}" for speed in speeds))
    ours, *others = seconds.values()
    ratios = (min(map(of, others)) / of(ours) for of in (min, statistics.median))
    print(f"{'ratio to the best other':24}" + "".join(f"{ratio:7.2f}x" for ratio in ratios))


def predictions(db: gb.Session, folder: Path) -> Ways:
    """The same network by us and by Spark's own function."""
    db.sql(
        "CREATE MODEL m OPTIONS (model_type = 'dnn_regressor', hidden_units = [64], "
        "input_label_cols = ['y'], max_epochs = 1, seed = 1) AS "
        f"SELECT {', '.join(FEATURES)}, x0 - x1 AS y FROM points LIMIT 2000"
    )
    db.sql("SET gradbase.representation = 'executors'")
    return {
        "PREDICT on executors": lambda: db.sql("SELECT sum(PREDICT(m, *)) FROM points").fetchall(),
        "predict_batch_udf": own(db.engine.session, folder),
    }


def tensors(db: gb.Session) -> Ways:
    """Ways to have all rows of a query as one tensor here."""
    spark: Any = db.engine.session
    return {
        "gradbase": lambda: tensor(db.sql(QUERY).arrow()),
        "toArrow": lambda: tensor(spark.sql(QUERY).toArrow()),
        "toPandas by Arrow": lambda: torch.from_numpy(spark.sql(QUERY).toPandas().to_numpy()),
    }


def tensor(table: pa.Table) -> torch.Tensor:
    """Columns side by side, each batch copied once."""
    found = np.empty((table.num_columns, table.num_rows))
    for row, column in zip(found, table.columns, strict=True):
        start = 0
        for chunk in column.chunks:
            row[start : start + len(chunk)] = chunk.to_numpy()
            start += len(chunk)
    return torch.from_numpy(found).T


def own(session: Any, folder: Path) -> Callable[[], Any]:
    """Spark's own way, with torch, batches of 8,192."""
    from pyspark.ml.functions import predict_batch_udf
    from pyspark.sql import functions
    from pyspark.sql.types import FloatType

    rng = np.random.default_rng(1)
    weights = str(folder / "weights.npz")
    np.savez(weights, a=rng.normal(size=(64, 8)), b=np.zeros(64), c=rng.normal(size=(1, 64)))

    def make() -> Any:
        import torch

        torch.set_num_threads(1)
        found = {k: torch.from_numpy(v).float() for k, v in np.load(weights).items()}

        # Spark reads the number of columns from the signature.
        def predict(x0: Any, x1: Any, x2: Any, x3: Any, x4: Any, x5: Any, x6: Any, x7: Any) -> Any:  # noqa: PLR0917
            columns = np.stack((x0, x1, x2, x3, x4, x5, x6, x7), axis=1)
            x = torch.from_numpy(columns).float()
            return (torch.relu(x @ found["a"].T + found["b"]) @ found["c"].T)[:, 0].numpy()

        return predict

    udf = predict_batch_udf(
        make, return_type=FloatType(), batch_size=8192, input_tensor_shapes=[[]] * len(FEATURES)
    )
    frame = session.table("points")

    def run() -> Any:
        # Processes with other variables are others: what ours keep loaded is of no use to them.
        session.sparkContext.environment["OWN"] = "1"
        try:
            return frame.select(functions.sum(udf(*FEATURES))).collect()
        finally:
            del session.sparkContext.environment["OWN"]

    return run


def search(db: gb.Session, rows: int) -> None:
    """Seconds of a search by what was done, for each way to its rows."""
    query = f"SELECT *, x0 - x1 + x2 AS y FROM points LIMIT {rows}"
    for name, options in {
        "in this process": {"executor": "in_process"},
        "2 processes, files mapped": {"executor": "processes", "shard_access": "direct"},
        "2 processes, files sent": {"executor": "processes", "shard_access": "export"},
    }.items():
        started = time.perf_counter()
        study = db.table(query).fit(
            gb.mlp(hidden=[16]), target="y", name="s", replace=True, epochs=3, batch_size=1024,
            lr=gb.choice(*[10.0**-n for n in np.arange(1, 5, 0.5)]), workers=2, seed=1, **options,
        )  # fmt: skip
        print(f"-- a search, {name}: {time.perf_counter() - started:.2f} s\n{study.report()}")


if __name__ == "__main__":
    main()
