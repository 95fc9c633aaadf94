"""Spark: `PREDICT` on the executors against ``predict_batch_udf``, rows out into tensors.

    python benchmarks/spark.py [rows]

The same network (8-64-1), the same rows, the sum of all predictions; ``local[2]``. Both keep their
network in Spark's Python processes; the first run of each, which starts them, is not counted. Then
the same rows as one tensor in this process, by our way of reading and by Spark's own.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np

import gradbase as gb

FEATURES = [f"x{i}" for i in range(8)]
RUNS = 3


def main(rows: int) -> None:
    """Print rows a second of both ways."""
    warnings.simplefilter("ignore")
    folder = Path(tempfile.mkdtemp())
    db = gb.connect("local[2]", store=folder / "store", progress=False)
    columns = ", ".join(
        f"CAST((id * {7 + i}) % {101 + i} AS DOUBLE) / 10 AS x{i}" for i in range(8)
    )
    db.sql(f"CREATE TEMP VIEW points AS SELECT {columns} FROM range(0, {rows}, 1, 4)")
    db.sql(
        "CREATE MODEL m OPTIONS (model_type = 'dnn_regressor', hidden_units = [64], "
        "input_label_cols = ['y'], max_epochs = 1, seed = 1) AS "
        f"SELECT {', '.join(FEATURES)}, x0 - x1 AS y FROM points LIMIT 2000"
    )
    db.sql("SET gradbase.representation = 'executors'")
    db.engine.session.conf.set("spark.sql.execution.arrow.pyspark.enabled", "true")
    ours = speed(lambda: db.sql("SELECT sum(PREDICT(m, *)) FROM points").fetchall(), rows)
    theirs = speed(own(db.engine.session, folder), rows)
    print(f"PREDICT on executors  {ours / 1e6:6.2f} million rows/s")
    print(f"predict_batch_udf     {theirs / 1e6:6.2f} million rows/s")
    print(f"ratio                 {ours / theirs:6.2f}")
    for name, run in tensors(db).items():
        print(f"{name:21} {speed(run, rows) / 1e6:6.2f} million rows/s into a tensor")
    db.close()


def tensors(db: gb.Session) -> dict[str, Any]:
    """Ways to have all rows as one tensor here."""
    import torch

    frame = db.engine.session.table("points")

    def stacked(columns: Any) -> torch.Tensor:
        return torch.from_numpy(np.column_stack([c.to_numpy() for c in columns]))

    return {
        "gradbase": lambda: stacked(db.sql("SELECT * FROM points").arrow().columns),
        "toArrow": lambda: stacked(frame.toArrow().columns),
        "toPandas by Arrow": lambda: torch.from_numpy(frame.toPandas().to_numpy()),
    }


def speed(run: Any, rows: int) -> float:
    """Rows a second, the median of a few runs after one that starts everything."""
    run()
    seconds: list[float] = []
    for _ in range(RUNS):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return rows / statistics.median(seconds)


def own(session: Any, folder: Path) -> Any:
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
    return lambda: frame.select(functions.sum(udf(*FEATURES))).collect()


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000)
