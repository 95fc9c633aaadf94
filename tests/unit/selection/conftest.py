"""A small database, and a search over it from a TrainingSpec to a committed model."""

from __future__ import annotations

import dataclasses
import threading

import numpy as np
import pyarrow as pa
import pytest

from gradbase.engines import connect
from gradbase.ir.learning import FusedFit
from gradbase.ir.relational import Scan
from gradbase.resources.broker import Broker
from gradbase.runtime.context import RunContext
from gradbase.selection.progress import Silent
from gradbase.selection.run import RunInfo, run
from gradbase.selection.search import build, terms_of
from gradbase.selection.solving import Counts
from gradbase.store import Store

ROWS = 400


def rows():
    """Two numbers, a colour and a label that follows from them."""
    random = np.random.default_rng(5)
    a, b = random.normal(size=ROWS), random.normal(size=ROWS)
    colour = random.integers(0, 3, ROWS)
    label = (a + 0.5 * b + 0.7 * (colour == 1) + 0.3 * random.normal(size=ROWS) > 0.3).astype(int)
    return pa.table(
        {
            "id": np.arange(ROWS),
            "a": a,
            "b": b,
            "colour": pa.array([["red", "green", "blue"][c] for c in colour]),
            "label": pa.array([["no", "yes"][v] for v in label]),
            "y": a - 2 * b,
        }
    )


class Laboratory:
    """An engine with table `t`, a store, and `train`."""

    def __init__(self, engine):
        self.engine = engine
        self.engine.register("source", rows())
        self.engine.run("CREATE TABLE t AS SELECT * FROM source")
        self.engine.unregister("source")
        self.store = Store.open(engine)
        self.context = None

    def plan(
        self,
        spec,
        label="label",
        name="m",
        *,
        columns=("id", "a", "b", "colour"),
        python_modules=(),
        classes=2,
        **changes,
    ):
        spec = dataclasses.replace(spec, label=label, row_key=("id",), **changes)
        schema = self.engine.schema("SELECT * FROM t").select((*columns, label))
        return build(spec, name, Scan("t", "", schema), Counts(ROWS, classes), python_modules)

    def train(self, spec, *, listener=None, workers=1, fused=False, only=None, info=None, **plan):
        planned = self.plan(spec, **plan)
        search = planned.search.replace(workers=workers, threads=1)
        fits = [f for f in search.fits if only is None or f.trial in only]
        by_data = {
            d: tuple(f for f in fits if f.data is d) for d in dict.fromkeys(f.data for f in fits)
        }
        search = search.replace(
            trials=tuple(map(FusedFit, by_data.values())) if fused else tuple(fits)
        )
        self.context = RunContext(
            self.engine, self.store.blobs, Broker(4, 1 << 30), cancelled=threading.Event()
        )
        details = {"query": "SELECT * FROM t", "tuned": planned.tuned, "seed": spec.seed}
        details |= {"model_type": planned.spec.model_type, "or_replace": True}
        details |= {"terms": terms_of(planned.spec)} | (info or {})
        return run(search, self.context, self.store, RunInfo(**details), listener or Silent())

    def runs(self):
        return self.engine.fetch("SELECT * FROM gradbase.runs ORDER BY started").to_pylist()


@pytest.fixture
def lab(tmp_path):
    engine = connect(str(tmp_path / "db.duckdb"))
    made = Laboratory(engine)
    yield made
    made.store.close()
    engine.close()
