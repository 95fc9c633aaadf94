"""Statistics of the columns of a training query: FEATURE_INFO's numbers."""

from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
import pytest

from gradbase.ir.types import FLOAT32, FLOAT64, TEXT, SqlType, array_of
from gradbase.runtime.train.rows import Block
from gradbase.runtime.train.summaries import summary

BOOL, INT, DATE = SqlType("bool"), SqlType("int64"), SqlType("date")


def told(values, kind, of, train=None, known=None):
    """The summary of `values`, in two blocks, of the rows `train`."""
    column = pa.array(values, kind)
    train = np.ones(len(column), bool) if train is None else np.array(train)
    half = len(column) // 2

    def blocks():
        for start, stop in ((0, half), (half, len(column))):
            rows = pa.record_batch([column[start:stop]], names=["c"])
            yield Block(rows, start, None, start), train[start:stop]

    return summary("c", of, blocks, known)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1.0, 2.0, 4.0], (1.0, 4.0, 7 / 3, 2.0, math.sqrt(7 / 3))),
        ([1.0, 2.0, 3.0, 10.0], (1.0, 10.0, 4.0, 2.0, math.sqrt(50 / 3))),
        ([5.0], (5.0, 5.0, 5.0, 5.0, 0.0)),
        ([-0.0, 0.0], (0.0, 0.0, 0.0, 0.0, 0.0)),
    ],
)
def test_numbers(values, expected):
    """Least, greatest, mean, median (a value of the data), deviation of a sample."""
    found = told(values, pa.float64(), FLOAT64)
    seen = (found.minimum, found.maximum, found.mean, found.median, found.stddev)
    assert seen == pytest.approx(expected, rel=1e-15)
    assert (found.category_count, found.dimension) == (None, None)


@pytest.mark.parametrize("values", [[], [None, float("nan")]])
def test_no_numbers(values):
    """No statistics."""
    found = told(values, pa.float64(), FLOAT64)
    assert (found.minimum, found.mean, found.median, found.stddev) == (None,) * 4
    assert found.null_count == len(values)


def test_missing_numbers_are_counted():
    """NULL and NaN; only of rows that train."""
    values = [1.0, None, float("nan"), 3.0, None, 100.0]
    found = told(values, pa.float64(), FLOAT64, [True, True, True, True, False, False])
    assert (found.null_count, found.mean, found.maximum) == (2, 2.0, 3.0)


def test_other_types_of_numbers():
    """Integers, decimals; dates as seconds since 1970."""
    assert told([3, None, 5], pa.int64(), INT).mean == 4.0
    decimals = told([None, 2], pa.decimal128(10, 2), SqlType("decimal", size=(10, 2)))
    assert (decimals.mean, decimals.null_count, decimals.type) == (2.0, 1, "decimal(10,2)")
    dates = told([0, 2], pa.date32(), DATE)
    assert (dates.minimum, dates.maximum) == (0.0, 2 * 86_400.0)


@pytest.mark.parametrize(
    ("values", "kind", "of", "expected"),
    [
        (["a", "b", "a", None], pa.string(), TEXT, (2, 1)),
        ([None, None], pa.string(), TEXT, (0, 2)),
        ([True, None, True], pa.bool_(), BOOL, (1, 1)),
    ],
)
def test_categories(values, kind, of, expected):
    """Distinct values and missing ones; no numbers."""
    found = told(values, kind, of)
    assert (found.category_count, found.null_count) == expected
    assert (found.minimum, found.mean, found.median, found.stddev) == (None,) * 4


def test_vectors():
    """Numbers over all elements; missing as a whole."""
    found = told([[1.0, 2.0], None, [3.0, float("nan")]], pa.list_(pa.float32(), 2),
                 array_of(FLOAT32, 2))  # fmt: skip
    assert (found.minimum, found.maximum, found.mean, found.median) == (1.0, 3.0, 2.0, 2.0)
    assert (found.null_count, found.dimension, found.type) == (1, 2, "float32[2]")


def test_types_without_statistics():
    """What is missing is counted all the same."""
    found = told([{"a": 1}, None], pa.struct({"a": pa.int64()}), SqlType("struct"))
    assert found.null_count == 1
    assert found.category_count is None


def test_the_order_of_rows_changes_no_bit():
    """Not even of the mean."""
    values = np.random.default_rng(1).standard_normal(999) * 10.0 ** np.arange(-4, 5).repeat(111)
    assert told(values, pa.float64(), FLOAT64) == told(values[::-1].copy(), pa.float64(), FLOAT64)
