"""The same training data from the real engine, whatever its threads and the table's order."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import numpy as np
import pytest
from training_tables import dataset_of, make_table

from gradbase.engines import connect
from gradbase.ir.relational import SqlFragment
from gradbase.resources.broker import Broker
from gradbase.runtime.train.prepare import prepare

QUERY = "SELECT a, b, kind, code, y FROM t"


def prepared_from(engine, query=QUERY):
    context = SimpleNamespace(
        engine=engine, broker=Broker(2, 1 << 32), parameters={}, cancelled=threading.Event()
    )
    node = dataset_of(make_table(10).drop_columns(["value"]))
    return prepare(node.replace(relation=SqlFragment((query,), (), engine.schema(query))), context)


@pytest.fixture
def engine():
    opened = connect(":memory:")
    opened.register("rows", make_table(30_000).drop_columns(["value"]))
    opened.run("CREATE TABLE t AS SELECT * FROM rows")
    yield opened
    opened.close()


def test_threads_and_physical_order_change_nothing(engine):
    found = []
    for order in ("rowid", "hash(rowid)", "-rowid"):
        for threads in (1, 2):
            engine.run(f"SET threads = {threads}")
            engine.run(f"CREATE OR REPLACE TABLE t AS SELECT * FROM t ORDER BY {order}")
            data = prepared_from(engine)
            batches = [b for s in range(2) for b in data.batches(1, s, 1000)]
            found.append((data.inputs, data.relation_hash, batches))
    for inputs, relation_hash, batches in found[1:]:
        assert (inputs, relation_hash) == found[0][:2]
        for batch, first in zip(batches, found[0][2], strict=True):
            assert all(np.array_equal(a, b) for a, b in zip(batch, first, strict=True))


def test_enums_learn_like_text(engine):
    plain = prepared_from(engine)
    engine.run("CREATE TYPE kinds AS ENUM (SELECT DISTINCT kind FROM t ORDER BY kind DESC)")
    engine.run("ALTER TABLE t ALTER kind TYPE kinds USING kind::kinds")
    data = prepared_from(engine)
    assert np.array_equal(data.x, plain.x)
    assert np.array_equal(data.parts.train, plain.parts.train)
