"""Networks from files and pipelines of scikit-learn, for `predict.py --only conv encoder pipeline forest`.

- ``conv``: two convolutions over images of 28 x 28 in a column FLOAT[784];
- ``encoder``: a transformer encoder of 6 layers (16 tokens of 64 numbers, in a column FLOAT[1024]);
- ``pipeline``, ``forest``: a scaler and logistic regression, 20 trees of depth 6, over 28 floats.

Against them, in the same run, each at its best batch and number of threads: an Arrow stream into
torch and into ONNX Runtime (what torch or skl2onnx writes), and SQL text by orbital where it is
installed.
"""

from __future__ import annotations

import importlib.util
import io
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import torch

ROWS = {"conv": 20_000, "encoder": 2_000, "pipeline": 1_000_000, "forest": 200_000}
BATCHES = {"conv": (128, 512, 2048), "encoder": (32, 128, 512)}
FLAT_BATCHES = (8192, 32_768)
COLUMNS = 28
TOLERANCE = 1e-3

Cases = dict[str, Callable[[], Any]]


def conv() -> torch.nn.Module:
    """From Tensor[B, 784] to Tensor[B, 10]."""
    nn = torch.nn
    return nn.Sequential(
        nn.Unflatten(1, (1, 28, 28)), nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(8, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(16 * 7 * 7, 10),
    )  # fmt: skip


def encoder() -> torch.nn.Module:
    """From Tensor[B, 1024] to Tensor[B, 10]."""
    nn = torch.nn
    layer = nn.TransformerEncoderLayer(64, 4, 256, dropout=0.0, batch_first=True)
    body = nn.TransformerEncoder(layer, 6, enable_nested_tensor=False)
    return nn.Sequential(nn.Unflatten(1, (16, 64)), body, nn.Flatten(), nn.Linear(1024, 10))


def cases(
    db: Any, con: Any, name: str, with_threads: Callable[..., Any]
) -> tuple[Cases, Callable[[Any], None]]:
    """Ways to predict, and what checks their answers: the ids and a column or matrix."""
    made = _networks if name in BATCHES else _pipelines
    return made(db, con, name, with_threads)


# -- networks ----------------------------------------------------------------------------------


def _networks(
    db: Any, con: Any, name: str, with_threads: Callable[..., Any]
) -> tuple[Cases, Callable[[Any], None]]:
    torch.manual_seed(0)
    network = {"conv": conv, "encoder": encoder}[name]().eval()
    width, rows = {"conv": 784, "encoder": 1024}[name], ROWS[name]
    x = np.random.default_rng(0).standard_normal((rows, width), np.float32)
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(x.ravel()), width)
    _table(db, f"{name}_rows", pa.table({"id": np.arange(rows), "x": vectors}))
    db.import_model(name, network, features=db.sql(f"SELECT x FROM {name}_rows LIMIT 1").arrow())
    ours = f"SELECT id, PREDICT({name}, x) AS p FROM {name}_rows"
    found: Cases = {"gradbase": lambda: db.sql(ours).arrow()}
    sql = f"SELECT id, x FROM {name}_rows"
    session_of = _exported(network, width)
    for threads in (1, torch.get_num_threads()):
        session = session_of(threads)
        for batch in BATCHES[name]:
            by_torch = lambda b=batch: _stream(con, sql, b, lambda v: _torch(network, v))  # noqa: E731
            found[f"arrow+torch {batch} threads {threads}"] = with_threads(threads, by_torch)
            run = lambda v, s=session: s.run(None, {s.get_inputs()[0].name: v})[0]  # noqa: E731
            found[f"arrow+onnxruntime {batch} threads {threads}"] = (
                lambda b=batch, r=run: _stream(con, sql, b, r)
            )  # fmt: skip
    return found, _checker(_torch(network, x))


def _torch(network: torch.nn.Module, x: Any) -> Any:
    with torch.inference_mode():
        return network(torch.from_numpy(x)).numpy()


def _exported(network: torch.nn.Module, width: int) -> Callable[[int], Any]:
    import onnxruntime

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        traced = torch.export.export(
            network,
            (torch.zeros(2, width),),
            dynamic_shapes=({0: torch.export.Dim("rows", min=1)},),
        )
        made: Any = torch.onnx.export(traced, dynamo=True, verbose=False)
    content = io.BytesIO(made.model_proto.SerializeToString()).getvalue()
    return lambda threads: _session(onnxruntime, content, threads)


def _session(onnxruntime: Any, content: bytes, threads: int) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = threads, 3
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def _stream(con: Any, sql: str, batch: int, score: Callable[[Any], Any]) -> pa.Table:
    """Rows of one column of vectors, scored batch by batch."""
    made = []
    for rows in con.cursor().sql(sql).to_arrow_reader(batch):
        x = rows.column(1).flatten().to_numpy(zero_copy_only=False).reshape(rows.num_rows, -1)
        y = np.ascontiguousarray(score(x if x.flags.writeable else x.copy()))
        vectors = pa.FixedSizeListArray.from_arrays(pa.array(y.ravel()), y.shape[1])
        made.append(pa.RecordBatch.from_arrays([rows.column(0), vectors], ["id", "p"]))
    return pa.Table.from_batches(made)


# -- scikit-learn ------------------------------------------------------------------------------


def _pipelines(
    db: Any, con: Any, name: str, with_threads: Callable[..., Any]
) -> tuple[Cases, Callable[[Any], None]]:
    del with_threads
    x = np.random.default_rng(0).standard_normal((ROWS[name], COLUMNS), np.float32)
    names = [f"f{i}" for i in range(COLUMNS)]
    columns = {n: x[:, i] for i, n in enumerate(names)}
    _table(db, f"{name}_rows", pa.table({"id": np.arange(len(x)), **columns}))
    model = _fitted(name, x)
    db.import_model(name, model, label="y", features=names)
    ours = f"SELECT id, PREDICT_PROBA({name}, *) AS p FROM {name}_rows"
    found: Cases = {"gradbase": lambda: db.sql(ours).arrow()}
    sql = f"SELECT id, {', '.join(names)} FROM {name}_rows"
    for threads in (1, torch.get_num_threads()):
        session = _converted(model, threads)
        run = lambda v, s=session: s.run(None, {"X": v})[1][:, 1]  # noqa: E731
        for batch in FLAT_BATCHES:
            found[f"arrow+skl2onnx {batch} threads {threads}"] = (
                lambda b=batch, r=run: _columns(con, sql, b, r)
            )  # fmt: skip
    text = _orbital(model, names, f"{name}_rows")
    if text:
        found["orbital's SQL"] = lambda: con.cursor().sql(text).to_arrow_table()
    return found, _checker(model.predict_proba(x)[:, 1])


def _fitted(name: str, x: Any) -> Any:
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    y = (x[:, 0] + np.sin(x[:, 1]) + 0.3 * x[:, 2] * x[:, 3]) > 0.3
    some = slice(0, 5000)
    if name == "forest":
        return RandomForestClassifier(20, max_depth=6, random_state=0).fit(x[some], y[some])
    return make_pipeline(StandardScaler(), LogisticRegression()).fit(x[some], y[some])


def _converted(model: Any, threads: int) -> Any:
    import onnxruntime
    from skl2onnx import to_onnx

    options = {id(model): {"zipmap": False}}
    made = to_onnx(model, np.zeros((1, COLUMNS), np.float32), options=options)
    return _session(onnxruntime, made.SerializeToString(), threads)


def _columns(con: Any, sql: str, batch: int, score: Callable[[Any], Any]) -> pa.Table:
    made = []
    for rows in con.cursor().sql(sql).to_arrow_reader(batch):
        x = np.stack([c.to_numpy() for c in rows.columns[1:]], axis=1)
        scored = pa.array(score(x).astype(np.float64))
        made.append(pa.RecordBatch.from_arrays([rows.column(0), scored], ["id", "p"]))
    return pa.Table.from_batches(made)


def _orbital(model: Any, names: list[str], table: str) -> str:
    """The pipeline as SQL; '' where orbital is not installed, which is said."""
    if importlib.util.find_spec("orbital") is None:
        print("  (orbital is not installed here: its SQL text is left out)")
        return ""
    import orbital

    features = {n: orbital.types.FloatColumnType() for n in names}
    sql = orbital.export_sql(
        table, orbital.parse_pipeline(model, features=features), dialect="duckdb"
    )
    return sql.replace("SELECT ", "SELECT id, ", 1)


# -- both --------------------------------------------------------------------------------------


def _table(db: Any, name: str, rows: pa.Table) -> None:
    db.register("made", rows)
    db.sql(f"CREATE TABLE {name} AS SELECT * FROM made").arrow()
    db.unregister("made")


def _checker(expected: Any) -> Callable[[pa.Table], None]:
    def check(table: pa.Table) -> None:
        column = table.column(1).combine_chunks()
        if pa.types.is_fixed_size_list(column.type):
            column = column.flatten()
        order = np.argsort(table.column(0).to_numpy(), kind="stable")
        found = column.to_numpy(zero_copy_only=False).reshape(expected.shape)[order]
        worst = np.abs(found - expected).max()
        # A float on the border of a tree's threshold may fall to the other side.
        assert worst < TOLERANCE or (np.abs(found - expected) > TOLERANCE).mean() < 1e-4, worst

    return check
