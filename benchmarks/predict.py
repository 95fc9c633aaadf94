"""Prediction over a DuckDB table against what one would write by hand.

Two networks, 28-16-1 and 28-256-1, over `--rows` rows of 28 floats:

- ``SELECT id, PREDICT_PROBA(m, *) FROM t`` into Arrow;
- ``SELECT count(*) FROM t WHERE PREDICT_PROBA(m, *) > 0.5 AND seg < 100`` (10 % of the rows).

In the same run, each at its best batch and number of threads: an Arrow stream into NumPy and torch
(rows or columns first), an export to pandas and then torch, DuckDB's own Arrow function. The
alternatives get the network with standardisation already folded into its weights. All answers are
checked against NumPy in float64. Nothing is cached: results are computed anew in every repetition.

    python benchmarks/predict.py --rows 2000000 --repeat 5

``--only conv encoder`` takes other networks (see `predict_deep`), ``--only perceptrons`` these two.
"""

from __future__ import annotations

import argparse
import inspect
import json
import os
import platform
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import predict_deep
import pyarrow as pa
import torch

import gradbase
from gradbase.ir.tensor import Linear
from gradbase.runtime.encode import constant

COLUMNS = 28
NAMES = [f"f{i}" for i in range(COLUMNS)]
SEGMENTS = 1000
TOLERANCE = 5e-5


@dataclass
class Network:
    """Weights of the two layers, standardisation folded in: W1 [hidden, 28], W2 [1, hidden]."""

    W1: torch.Tensor
    b1: torch.Tensor
    W2: torch.Tensor
    b2: torch.Tensor

    @classmethod
    def of(cls, db: gradbase.Session, name: str) -> Network:
        last: Any = db.store.model(name).output("proba").x
        first: Any = last.x.x
        assert isinstance(last, Linear)
        assert isinstance(first, Linear)
        parts = {p.column: p.encoding for p in first.x.inputs}
        assert list(parts) == NAMES
        assert not any(e.indicator for e in parts.values())
        mean = np.array([parts[n].mean for n in NAMES])
        scale = np.array([parts[n].scale for n in NAMES])
        w1, b1, w2, b2 = (
            constant(p, db.store.blobs).astype(np.float64)
            for p in (first.weight, first.bias, last.weight, last.bias)
        )
        w1 = w1 * scale
        folded = (w1, b1 - w1 @ mean, w2, b2)
        return cls(*(torch.from_numpy(a.astype(np.float32)) for a in folded))

    def exact(self, x: np.ndarray) -> np.ndarray:
        """Probabilities in float64 for x [rows, 28]."""
        w1, b1, w2, b2 = (
            p.numpy().astype(np.float64) for p in (self.W1, self.b1, self.W2, self.b2)
        )
        hidden = np.maximum(x.astype(np.float64) @ w1.T + b1, 0)
        return 1 / (1 + np.exp(-(hidden @ w2.T + b2)[:, 0]))

    def of_rows(self, x: torch.Tensor) -> torch.Tensor:
        """Probabilities for x [rows, 28]."""
        linear = torch.nn.functional.linear
        with torch.inference_mode():
            hidden = torch.relu_(linear(x, self.W1, self.b1))
            return torch.sigmoid_(linear(hidden, self.W2, self.b2))[:, 0]

    def of_columns(self, x: torch.Tensor) -> torch.Tensor:
        """Probabilities for x [28, rows]."""
        with torch.inference_mode():
            hidden = torch.relu_(torch.addmm(self.b1[:, None], self.W1, x))
            return torch.sigmoid_(torch.addmm(self.b2[:, None], self.W2, hidden))[0]


# -- by hand -----------------------------------------------------------------------------------


def by_rows(net: Network, columns: list[pa.Array]) -> pa.Array:
    x = np.stack([c.to_numpy() for c in columns], axis=1)
    return pa.array(net.of_rows(torch.from_numpy(x)).numpy().astype(np.float64))


def by_columns(net: Network, columns: list[pa.Array]) -> pa.Array:
    x = np.stack([c.to_numpy() for c in columns], axis=0)
    return pa.array(net.of_columns(torch.from_numpy(x)).numpy().astype(np.float64))


def arrow_stream(con: Any, net: Network, score: Callable[..., pa.Array], batch: int) -> pa.Table:
    query = f"SELECT id, {', '.join(NAMES)} FROM t"
    found = []
    for rows in con.cursor().sql(query).to_arrow_reader(batch):
        columns = [rows.column(0), score(net, rows.columns[1:])]
        found.append(pa.RecordBatch.from_arrays(columns, ["id", "p"]))
    return pa.Table.from_batches(found)


def drain(con: Any) -> None:
    """What nothing that streams the columns can be faster than."""
    con.cursor().sql(f"SELECT id, {', '.join(NAMES)} FROM t").to_arrow_table()


def onnx_session(net: Network) -> Any:
    """The network in ONNX Runtime, with one thread; None where it is not installed."""
    try:
        import onnxruntime
        from onnx import TensorProto, helper, numpy_helper
    except ImportError:
        return None
    kind, make = TensorProto.FLOAT, helper.make_tensor_value_info
    weights = [
        numpy_helper.from_array(getattr(net, n).numpy(), n) for n in ("W1", "b1", "W2", "b2")
    ]
    nodes = [
        helper.make_node("Gemm", ["x", "W1", "b1"], ["h"], transB=1),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("Gemm", ["r", "W2", "b2"], ["z"], transB=1),
        helper.make_node("Sigmoid", ["z"], ["p"]),
    ]
    ends = [make("x", kind, ["n", COLUMNS])], [make("p", kind, ["n", 1])]
    graph = helper.make_graph(nodes, "net", *ends, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def pandas_export(con: Any, net: Network, batch: int) -> pa.Table:
    frame = con.cursor().sql(f"SELECT id, {', '.join(NAMES)} FROM t").df()
    values = frame[NAMES].to_numpy()
    values.flags.writeable = True  # pandas hands out read-only views; torch warns about those
    x = torch.from_numpy(values)
    parts = [net.of_rows(x[i : i + batch]) for i in range(0, len(x), batch)]
    return pa.table(
        {"id": frame["id"].to_numpy(), "p": torch.cat(parts).numpy().astype(np.float64)}
    )


def register_function(con: Any, net: Network) -> None:
    """DuckDB wants as many named parameters as columns."""

    def score(*columns: pa.ChunkedArray) -> pa.Array:
        return by_rows(net, [c.combine_chunks() for c in columns])

    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    score.__signature__ = inspect.Signature([inspect.Parameter(n, kind) for n in NAMES])
    con.create_function("score", score, ["FLOAT"] * COLUMNS, "DOUBLE", type="arrow")


# -- measuring ---------------------------------------------------------------------------------

SETTLE_S = 0.3
"""Between two cases: idle threads of OpenMP go on spinning for 0.2 s, on a core of the next one."""
DUEL_RUNS = 25


def with_threads(threads: int, run: Callable[[], Any]) -> Callable[[], Any]:
    def wrapped() -> Any:
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            return run()
        finally:
            torch.set_num_threads(before)

    return wrapped


def measure(
    cases: dict[str, Callable[[], Any]], check: Callable[[Any], None], repeat: int
) -> dict[str, float]:
    """Least seconds of each case; cases take turns in another order each time.

    So a busy moment, and what the case before leaves behind, hit all of them.
    """
    seconds = dict.fromkeys(cases, float("inf"))
    for turn in range(repeat):
        for name, run in random.Random(turn).sample(list(cases.items()), len(cases)):
            time.sleep(SETTLE_S)
            start = time.perf_counter()
            result = run()
            seconds[name] = min(seconds[name], time.perf_counter() - start)
            check(result)
            del result
    return seconds


def duel(cases: dict[str, Callable[[], Any]], rival: str) -> float:
    """Median seconds of `rival` over those of gradbase, in runs that take turns.

    The least of sixteen ways in a few runs each is also the luckiest; this settles which is faster.
    """
    seconds: dict[str, list[float]] = {"gradbase": [], rival: []}
    for _ in range(DUEL_RUNS):
        for name, taken in seconds.items():
            start = time.perf_counter()
            result = cases[name]()
            taken.append(time.perf_counter() - start)
            del result
    return statistics.median(seconds[rival]) / statistics.median(seconds["gradbase"])


def full_cases(db: Any, con: Any, net: Network, model: str) -> dict[str, Callable[[], Any]]:
    cases = _by_torch(db, con, net, model)
    session = onnx_session(net)
    if session is None:
        return cases

    def by_onnx(_net: Network, columns: list[pa.Array]) -> pa.Array:
        x = np.stack([c.to_numpy() for c in columns], axis=1)
        return pa.array(session.run(None, {"x": x})[0][:, 0].astype(np.float64))

    for batch in (2048, 8192, 16384):
        run = lambda b=batch: arrow_stream(con, net, by_onnx, b)  # noqa: E731
        cases[f"arrow+onnxruntime {batch}"] = run
    return cases


def _by_torch(db: Any, con: Any, net: Network, model: str) -> dict[str, Callable[[], Any]]:
    ours = f"SELECT id, PREDICT_PROBA({model}, *) AS p FROM t"
    cases: dict[str, Callable[[], Any]] = {"gradbase": lambda: db.sql(ours).arrow()}
    for threads in (1, torch.get_num_threads()):
        for form, score in (("rows", by_rows), ("columns", by_columns)):
            for batch in (2048, 8192, 16384, 32768):
                run = lambda s=score, b=batch: arrow_stream(con, net, s, b)  # noqa: E731
                cases[f"arrow+torch {form} {batch} threads {threads}"] = with_threads(threads, run)
        for batch in (2048, 8192):
            run = lambda b=batch: pandas_export(con, net, b)  # noqa: E731
            cases[f"pandas+torch {batch} threads {threads}"] = with_threads(threads, run)
        udf = f"SELECT id, score({', '.join(NAMES)}) AS p FROM t"
        cases[f"duckdb udf threads {threads}"] = with_threads(
            threads, lambda q=udf: con.sql(q).to_arrow_table()
        )
    return cases


def filter_cases(db: Any, con: Any, model: str) -> dict[str, Callable[[], Any]]:
    def ours() -> int:
        return db.sql(
            f"SELECT count(*) FROM t WHERE PREDICT_PROBA({model}, *) > 0.5 AND seg < 100"
        ).fetchall()[0][0]

    def udf() -> int:
        return con.sql(
            f"SELECT count(*) FROM t WHERE score({', '.join(NAMES)}) > 0.5 AND seg < 100"
        ).fetchall()[0][0]

    return {"gradbase": ours, "duckdb udf threads 1": with_threads(1, udf)}


def report(
    title: str, seconds: dict[str, float], rows: int, cases: dict[str, Callable[[], Any]]
) -> dict[str, Any]:
    others = {k: v for k, v in seconds.items() if k != "gradbase"}
    best = min(others, key=others.__getitem__)
    ratio = others[best] / seconds["gradbase"]
    settled = duel(cases, best)
    print(f"\n{title}")
    for name, value in sorted(seconds.items(), key=lambda kv: kv[1]):
        print(f"  {name:36s} {value:8.3f} s  {rows / value / 1e6:8.2f} M rows/s")
    print(f"  ratio to the best other ({best}): {ratio:.2f}x by the least times")
    print(f"  head to head, {DUEL_RUNS} runs in turns: {settled:.2f}x by the median")
    return {"title": title, "seconds": seconds, "best": best, "ratio": ratio, "duel": settled}


# -- data --------------------------------------------------------------------------------------


def prepare(db: gradbase.Session, rows: int, hidden: list[int]) -> np.ndarray:
    """Table t and one model per width; returns the features [rows, 28]."""
    generator = np.random.default_rng(0)
    x = generator.standard_normal((rows, COLUMNS), dtype=np.float32)
    x = x * np.linspace(0.5, 3, COLUMNS, dtype=np.float32) + np.float32(0.3)
    y = (x[:, 0] + np.sin(x[:, 1]) + 0.3 * x[:, 2] * x[:, 3]) > 0.3
    ids = np.arange(rows)
    columns = {n: x[:, i] for i, n in enumerate(NAMES)}
    db.register(
        "made", pa.table({"id": ids, "seg": (ids % SEGMENTS).astype(np.int32), **columns, "y": y})
    )
    db.sql("CREATE TABLE sample AS SELECT * FROM made LIMIT 10000").arrow()
    db.sql("CREATE TABLE t AS SELECT * EXCLUDE (y) FROM made").arrow()
    db.unregister("made")
    for width in hidden:
        db.sql(
            f"CREATE MODEL m{width} OPTIONS (model_type = 'dnn_classifier', hidden_units = [{width}], "
            f"input_label_cols = ['y'], max_epochs = 2, batch_size = 256, seed = 1) "
            f"AS SELECT {', '.join(NAMES)}, y FROM sample"
        ).arrow()
    return x


def checker(expected: np.ndarray) -> Callable[[pa.Table], None]:
    def check(table: pa.Table) -> None:
        found = table.column(1).to_numpy()[np.argsort(table.column(0).to_numpy(), kind="stable")]
        worst = np.abs(found - expected).max()
        assert worst < TOLERANCE, f"probabilities differ by {worst:g}"

    return check


def count_checker(expected: np.ndarray) -> Callable[[int], None]:
    chosen = expected[np.arange(len(expected)) % SEGMENTS < 100]
    unsure = int((np.abs(chosen - 0.5) < TOLERANCE).sum())
    wanted = int((chosen > 0.5).sum())

    def check(found: int) -> None:
        assert abs(found - wanted) <= unsure, f"{found} rows, expected {wanted}"

    return check


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--hidden", type=int, nargs="+", default=[16, 256])
    known = ["perceptrons", *predict_deep.ROWS]
    parser.add_argument("--only", nargs="+", choices=known, default=known)
    parser.add_argument("--json", type=Path, help="write the results there")
    options = parser.parse_args()
    print(f"{platform.machine()}, {len(os.sched_getaffinity(0))} cores, torch {torch.__version__}, "
          f"DuckDB {duckdb.__version__}, {options.rows:,} rows x {COLUMNS} floats")  # fmt: skip
    results = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "predict.duckdb"
        with gradbase.connect(str(path), progress=False) as db:
            if "perceptrons" in options.only:
                x = prepare(db, options.rows, options.hidden)
                for width in options.hidden:
                    results += compare(db, x, width, options)
            for name in options.only:
                if name != "perceptrons":
                    results.append(compare_deep(db, name, options.repeat))
    if options.json:
        options.json.write_text(json.dumps(results, indent=1))


def compare_deep(db: Any, name: str, repeat: int) -> dict[str, Any]:
    con = db.engine._connections.main.cursor()  # noqa: SLF001
    try:
        cases, check = predict_deep.cases(db, con, name, with_threads)
        seconds = measure(cases, check, repeat)
        return report(name, seconds, predict_deep.ROWS[name], cases)
    finally:
        con.close()


def compare(
    db: Any, x: np.ndarray, width: int, options: argparse.Namespace
) -> list[dict[str, Any]]:
    net = Network.of(db, f"m{width}")
    expected = net.exact(x)
    # Another cursor of the same database: two connections cannot open the file.
    con = db.engine._connections.main.cursor()  # noqa: SLF001
    register_function(con, net)
    found = []
    try:
        for query, cases, check in (
            ("SELECT id, PREDICT_PROBA(m, *)", full_cases(db, con, net, f"m{width}"), checker),
            (
                "count(*) WHERE PREDICT_PROBA(m, *) > 0.5 AND seg < 100",
                filter_cases(db, con, f"m{width}"),
                count_checker,
            ),
        ):
            seconds = measure(cases, check(expected), options.repeat)
            found.append(report(f"28-{width}-1: {query}", seconds, options.rows, cases))
            if check is checker:
                floor = measure({"scan": lambda: drain(con)}, lambda _: None, options.repeat)[
                    "scan"
                ]
                found[-1] |= {"scan": floor}
                print(f"  DuckDB's own scan into Arrow takes {floor:.3f} s: gradbase takes "
                      f"{seconds['gradbase'] / floor:.2f}x")  # fmt: skip
    finally:
        con.remove_function("score")
        con.close()
    return found


if __name__ == "__main__":
    main()
