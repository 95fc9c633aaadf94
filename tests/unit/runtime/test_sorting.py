"""Few rows are sorted here: in the engine's order."""

from __future__ import annotations

import itertools
import math

import duckdb
import pyarrow as pa
import pytest

import gradbase as gb
from gradbase.runtime import sorting
from gradbase.runtime.sorting import in_order

TABLE = pa.table(
    {
        "x": [1.5, None, math.nan, -0.0, 2.0, math.inf, None, -math.inf, 1.5],
        "flag": [True, None, False, True, None, False, True, None, False],
        "n": [3, 1, None, 2, 3, 1, 2, None, 3],
        "id": list(range(9)),
    }
)
ORDERS = [f"{d} nulls {n}" for d in ("asc", "desc") for n in ("first", "last")]


@pytest.mark.parametrize("orders", list(itertools.product(ORDERS, ORDERS)), ids=", ".join)
@pytest.mark.parametrize("first", ["x", "flag", "n"])
def test_the_order_is_duckdbs(first, orders):
    second = "n" if first != "n" else "x"
    found = in_order(TABLE, [TABLE[first], TABLE[second], TABLE["id"]], [*orders, ORDERS[0]])
    text = f"SELECT id FROM TABLE ORDER BY {first} {orders[0]}, {second} {orders[1]}, id"
    with duckdb.connect() as engine:
        engine.register("given", TABLE)
        expected = engine.sql(text.replace("TABLE", "given")).fetchall()
    assert [(i,) for i in found["id"].to_pylist()] == expected


@pytest.mark.parametrize("most", [0, 5, 10_000])
@pytest.mark.parametrize("where", ["true", "id < 4", "false"])
def test_few_and_many_rows_come_in_the_same_order(monkeypatch, most, where):
    monkeypatch.setattr(sorting, "MOST_ROWS", most)
    with gb.connect(":memory:", progress=False) as db:
        db.sql("CREATE TABLE t AS SELECT i AS id, sin(i) AS a, i % 3 AS y FROM range(60) r(i)")
        db.sql(
            "CREATE MODEL m OPTIONS (model_type = 'linear_reg', input_label_cols = ['y']) "
            "AS SELECT a, y FROM t"
        )
        text = f"SELECT id, PREDICT(m, *) AS p FROM t WHERE {where}"
        plain = db.sql(text).fetchall()
        expected = sorted(plain, key=lambda row: (-row[1], row[0]))
        assert db.sql(f"{text} ORDER BY p DESC, id").fetchall() == expected
