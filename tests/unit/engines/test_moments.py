"""Order-free statistics: equal bit for bit, and right."""

from __future__ import annotations

import math
import struct

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gradbase.errors import BindError, UnsupportedError


def bits(moments):
    return {k: [struct.pack("<d", v) for v in vars(m).values()] for k, m in moments.items()}


def messy(rows, seed=1):
    random = np.random.default_rng(seed)
    wide = random.standard_normal(rows) * 10.0 ** random.integers(-12, 12, rows)
    holes = np.where(random.random(rows) < 0.1, np.nan, random.standard_normal(rows))
    return pa.table(
        {
            "wide": wide,
            "far": 1e9 + random.standard_normal(rows) * 1e-3,
            "small": (random.standard_normal(rows) * 1e-3).astype("float32"),
            "holes": pa.array(holes),
            "nulls": pa.array(random.standard_normal(rows), mask=random.random(rows) < 0.2),
            "count": random.integers(-5, 1000, rows),
            "zero": np.where(random.random(rows) < 0.5, 0.0, -0.0),
        }
    )


def test_equal_in_every_order_with_any_threads(engine):
    """Shuffled rows, one and two threads, repeated: the same bits."""
    table = messy(100_000)
    found = set()
    for k in range(6):
        order = np.random.default_rng(k).permutation(table.num_rows)
        engine.register("r", table.take(pa.array(order)))
        engine.run("CREATE OR REPLACE TABLE t AS SELECT * FROM r")
        engine.limit(threads=1 + k % 2)
        found.add(str(bits(engine.exact_moments("SELECT * FROM t", table.column_names))))
    assert len(found) == 1


def test_agrees_with_numpy(engine):
    """Mean and variance to the last digits that float64 sums can give."""
    table = messy(50_000)
    found = engine.exact_moments("SELECT * FROM r", table.column_names, views={"r": table})
    for name in table.column_names:
        values = np.array([v for v in table[name].to_pylist() if v is not None], dtype="float64")
        values = values[np.isfinite(values)]
        expected = math.fsum(values) / len(values)
        moments = found[name]
        assert moments.mean == pytest.approx(expected, rel=1e-14, abs=1e-18)
        spread = math.fsum((values - expected) ** 2) / len(values)
        assert moments.variance == pytest.approx(spread, rel=1e-12)
        assert (moments.minimum, moments.maximum) == (values.min(), values.max())
        assert moments.largest == np.abs(values).max()
        assert moments.count == len(values)
    assert found["nulls"].nulls + found["nulls"].count == 50_000
    assert found["holes"].nan + found["holes"].count == 50_000
    assert math.copysign(1, found["zero"].minimum) == 1


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([], (0, 0, 0, 0.0, 0.0)),
        ([None, None], (0, 2, 0, 0.0, 0.0)),
        ([math.nan, None, 2.0], (1, 1, 0, 2.0, 0.0)),
        ([math.inf, -math.inf, 1.0, 3.0], (2, 0, 2, 2.0, 1.0)),
        ([1e308, -1e308], (2, 0, 0, 0.0, math.inf)),
        ([1.7e308, 1.7e308], (2, 0, 0, 1.7e308, 0.0)),
        ([5e-324, 5e-324], (2, 0, 0, 5e-324, 0.0)),
        ([1e-200, 3e-200], (2, 0, 0, 2e-200, 0.0)),
        ([1e150, 3e150], (2, 0, 0, 2e150, 1e300)),
        ([0.1] * 10, (10, 0, 0, 0.1, 0.0)),
    ],
)
def test_edges_of_float64(engine, values, expected):
    """Nothing overflows on the way; NaN and infinity are counted apart."""
    table = pa.table({"x": pa.array(values, pa.float64())})
    m = engine.exact_moments("SELECT x FROM r", ["x"], views={"r": table})["x"]
    count, nulls, inf, mean, variance = expected
    assert (m.count, m.nulls, m.inf) == (count, nulls, inf)
    assert m.mean == pytest.approx(mean, rel=1e-15)
    assert m.variance == pytest.approx(variance, rel=1e-14)


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=20))
def test_mean_of_anything(engine, values):
    """Exact up to the last of 62 bits below the largest magnitude."""
    table = pa.table({"x": pa.array(values, pa.float64())})
    m = engine.exact_moments("SELECT x FROM r", ["x"], views={"r": table})["x"]
    exact = math.fsum(v / len(values) for v in values)
    assert m.mean == pytest.approx(exact, abs=max(map(abs, values)) * 1e-15 + 1e-322)
    assert m.variance >= 0


def test_other_types(engine):
    """Booleans, decimals, wide integers, dates and timestamps as epoch seconds, vectors."""
    engine.run(
        "CREATE TABLE t AS SELECT * FROM (VALUES "
        "(true, 1.25::DECIMAL(9,2), 4::HUGEINT, DATE '1970-01-02', TIMESTAMP '1970-01-01 00:00:01.5', "
        "TIMESTAMPTZ '1970-01-01 01:00:00+01', [1, 2]::FLOAT[2]), "
        "(false, 1.75, 6, 'infinity', NULL, NULL, [3, NULL])) AS v(b, d, h, day, ts, tz, vec)"
    )
    m = engine.exact_moments("SELECT * FROM t", ["b", "d", "h", "day", "ts", "tz", "vec"])
    means = {k: v.mean for k, v in m.items()}
    assert means == {
        "b": 0.5, "d": 1.5, "h": 5.0, "day": 86400.0, "ts": 1.5, "tz": 0.0, "vec[1]": 2.0, "vec[2]": 2.0,
    }  # fmt: skip
    assert (m["day"].inf, m["ts"].nulls, m["vec[2]"].nulls) == (1, 1, 1)


def test_refused_by_name(engine):
    """Texts have no mean; unknown columns have near matches."""
    with pytest.raises(UnsupportedError, match="column `s` is text: it has no mean"):
        engine.exact_moments("SELECT 'a' AS s", ["s"])
    with pytest.raises(BindError, match="did you mean `price`"):
        engine.exact_moments("SELECT 1 AS price", ["prise"])


def test_names_that_look_like_sql(engine):
    """Column names are data."""
    name = 'epoch "x" -- \' ; DROP'
    table = pa.table({name: [1.0, math.nan]})
    m = engine.exact_moments("SELECT * FROM r -- all", [name], views={"r": table})
    assert (m[name].mean, m[name].nan) == (1.0, 1)


def test_vocabulary_by_count_then_bytes(engine):
    """Ties by UTF-8 bytes, whatever the collation; NULL is no value."""
    engine.run("CREATE TABLE t (s VARCHAR COLLATE NOCASE, k INTEGER)")
    values = ["b", "b", "B", "a", "é", "Z", "", None, "日", "😀"]
    with engine.transaction() as handle:
        for k, v in enumerate(values):
            handle.execute("INSERT INTO t VALUES (?, ?)", [v, k % 2])
    found = engine.vocabulary("SELECT * FROM t", ["s", "k"], 100)
    assert found["s"] == [
        ("b", 2),
        ("", 1),
        ("B", 1),
        ("Z", 1),
        ("a", 1),
        ("é", 1),
        ("日", 1),
        ("😀", 1),
    ]
    assert found["k"] == [("0", 5), ("1", 5)]
    assert engine.vocabulary("SELECT * FROM t", ["s"], 2) == {"s": [("b", 2), ("", 1)]}
    assert engine.distinct_counts("SELECT * FROM t", ["s", "k"]) == {"s": 8, "k": 2}
    assert engine.distinct_counts("SELECT * FROM t", []) == {}
