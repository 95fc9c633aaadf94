"""A context over an Arrow table, in place of an engine."""

from __future__ import annotations

import contextlib
import threading
from types import SimpleNamespace

import numpy as np
import pyarrow as pa

from gradbase.ir.learning import Dataset, Fit, Mlp, Optimizer, Split
from gradbase.ir.networks import Autoencoder, WideDeep
from gradbase.ir.relational import SqlFragment
from gradbase.ir.types import Field, Schema, parse_type
from gradbase.resources.broker import Broker
from gradbase.runtime.train.prepare import prepare


class TableEngine:
    """Streams the columns of one table."""

    name, path, folder, read_only = "table", None, None, False

    def __init__(self, table, batch_rows):
        self.table, self.batch_rows = table, batch_rows

    def compile(self, relation, names, functions=None):
        del names, functions
        return relation.names

    @contextlib.contextmanager
    def stream(self, sql, parameters=None, *, batch_rows=0, **_others):
        del parameters, batch_rows
        selected = self.table.select(sql)
        yield pa.RecordBatchReader.from_batches(
            selected.schema, selected.to_batches(max_chunksize=self.batch_rows)
        )


def context_of(table, *, memory_bytes=1 << 32, batch_rows=10_000):
    return SimpleNamespace(
        engine=TableEngine(table, batch_rows),
        broker=Broker(2, memory_bytes),
        parameters={},
        cancelled=threading.Event(),
    )


ARROW = {
    pa.int64(): "int64", pa.int32(): "int32", pa.float64(): "float64", pa.float32(): "float32",
    pa.string(): "text", pa.bool_(): "bool", pa.date32(): "date", pa.null(): "null",
    pa.timestamp("us"): "timestamp", pa.binary(): "blob",
}  # fmt: skip


def type_of(kind):
    if pa.types.is_fixed_size_list(kind):
        return parse_type(f"{type_of(kind.value_type)}[{kind.list_size}]")
    if pa.types.is_decimal(kind):
        return parse_type(f"decimal({kind.precision},{kind.scale})")
    return parse_type(ARROW[kind])


def dataset_of(table, label="y", task="binary", **options):
    schema = Schema(tuple(Field(f.name, type_of(f.type)) for f in table.schema))
    split = options.pop("split", Split("random", 0.2, 0.0))
    row_key = options.pop("row_key", ())
    weight = options.pop("weight", "")
    special = {label, split.column, weight, *row_key}
    features = tuple(n for n in schema.names if n not in special)
    relation = SqlFragment(("FROM t",), (), schema)
    return Dataset(
        relation, features, label, task, split, row_key, options.pop("shards", 2),
        options.pop("seed", 7), weight, options.pop("class_weights", ()),
    )  # fmt: skip


def prepared(table, label="y", task="binary", **options):
    keywords = {k: options.pop(k) for k in ("memory_bytes", "batch_rows") if k in options}
    how = {k: options.pop(k) for k in ("embeddings", "centred") if k in options}
    context = context_of(table, **keywords)
    return prepare(dataset_of(table, label, task, **options), context, **how)


def fit_of(data_node, trial=1, **changes):
    wide = changes.pop("wide", None)
    shape = (
        changes.pop("hidden", (8, 5)),
        changes.pop("activation", "relu"),
        changes.pop("dropout", 0.0),
        changes.pop("intercept", True),
    )
    latent = changes.pop("latent", None)
    network = Mlp(*shape) if wide is None else WideDeep(*shape, *wide)
    if latent is not None:
        network = Autoencoder(*shape, latent)
    optimizer = Optimizer(
        changes.pop("optimizer", "adamw"), changes.pop("learn_rate", 0.01),
        changes.pop("l2_reg", 0.0), changes.pop("momentum", 0.0), changes.pop("l1_reg", 0.0),
    )  # fmt: skip
    values = {"batch_size": 32, "epochs": 2, "early_stop": False, "min_rel_progress": 0.0,
              "auto_class_weights": False, "seed": 3, **changes}  # fmt: skip
    return Fit(data_node, trial, network, optimizer, **values)


def make_table(rows=300, classes=2, seed=0):
    """Numbers with NULLs, a small and a large category, and a label that depends on them."""
    draw = np.random.default_rng(seed)
    a, b = draw.normal(size=(2, rows))
    kind = draw.integers(0, 4, rows)
    code = draw.integers(0, 90, rows)
    score = a - 0.5 * b + 0.3 * kind + 0.02 * code + 0.3 * draw.normal(size=rows)
    y = np.searchsorted(np.quantile(score, np.arange(1, classes) / classes), score)
    return pa.table(
        {
            "a": pa.array(a, mask=draw.random(rows) < 0.1),
            "b": pa.array(b),
            "kind": pa.array([f"k{v}" for v in kind]),
            "code": pa.array([f"c{v}" for v in code]),
            "y": pa.array([f"class{v}" for v in y]),
            "value": pa.array(10 + 3 * score),
        }
    )
