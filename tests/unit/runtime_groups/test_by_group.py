"""What is computed of all groups at once is what is computed of each."""

from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
import pytest
import torch

from gradbase.runtime.groups.keys import GroupKeys, keys_of
from gradbase.runtime.groups.layout import Layout, common_shape
from gradbase.runtime.groups.metrics import metrics_by_group
from gradbase.runtime.groups.ragged import _sorted_within
from gradbase.runtime.groups.statistics import moments_by_group
from gradbase.runtime.metrics import metrics
from gradbase.runtime.train.networks import MlpShape, initial
from gradbase.runtime.train.statistics import moments

SIZES = [1, 2, 40, 7, 300]


def test_moments_are_equal_to_the_last_bit():
    draw = np.random.default_rng(2)
    values = draw.normal(size=(sum(SIZES), 3)) * [1e-9, 1.0, 1e12] + [0.0, 5.0, 1e15]
    values[draw.random(values.shape) < 0.1] = np.nan
    values[1:3] = np.nan
    starts = np.cumsum([0, *SIZES])[:-1]
    found = moments_by_group(values, starts)
    for g, (start, size) in enumerate(zip(starts, SIZES, strict=True)):
        rows = values[start : start + size]
        for j, expected in enumerate(moments(lambda rows=rows: iter([rows]))):
            assert (found.count[g, j], found.missing[g, j]) == (expected.count, expected.missing)
            if expected.count:
                assert found.mean[g, j] == expected.mean
                assert found.deviation[g, j] == expected.deviation


@pytest.mark.parametrize("task", ["binary", "regression", "multiclass"])
def test_metrics_are_those_of_each_group(task):
    draw = np.random.default_rng(5)
    width = 3 if task == "multiclass" else 1
    outputs = [draw.normal(size=(n, width)).round(1) + 0.0 for n in SIZES]
    targets = [draw.integers(0, max(width, 2), n).astype(float) for n in SIZES]
    if task == "regression":
        targets = [draw.normal(size=n) for n in SIZES]
        outputs[2], targets[2] = np.abs(outputs[2]), np.abs(targets[2])
        targets[3][:] = 4.0
    outputs[4][0] = np.inf
    found = metrics_by_group(task, outputs, targets)
    for own, x, y in zip(found, outputs, targets, strict=True):
        expected = metrics(task, torch.from_numpy(x), torch.from_numpy(y))
        assert own == pytest.approx(expected, rel=1e-9, abs=1e-12, nan_ok=True)
    assert all(math.isnan(v) for v in found[4].values())


KEYED = [
    (pa.array([10, 9, None, 9]), [("9",), ("10",), (None,)]),
    (pa.array(["b", "", None, "a"]), [("",), ("a",), ("b",), (None,)]),
    (pa.array([0.0, -0.0, float("nan"), None]), [("0",), (None,)]),
    (pa.array([True, False, True, None]), [("false",), ("true",), (None,)]),
]


@pytest.mark.parametrize(("column", "expected"), KEYED, ids=lambda v: str(v)[:20])
def test_groups_are_in_the_order_of_their_values_with_null_last(column, expected):
    keys = keys_of(["k"], [column])
    assert keys.values == expected
    found = keys.find([column])
    assert [keys.values[g] for g in found] == [(v,) for v in _texts(column)]
    assert keys.find([pa.array([None], column.type)]).tolist() == [len(expected) - 1]


def _texts(column):
    from gradbase.runtime.columns import category_text

    return category_text(column).to_pylist()


def test_a_pair_that_was_not_there_is_no_group():
    keys = GroupKeys(["a", "b"], [("x", "1"), ("y", "2"), (None, "1")])
    columns = [pa.array(["x", "x", None, "z", "y"]), pa.array([1, 2, 1, 1, 2])]
    assert keys.find(columns).tolist() == [0, -1, 2, -1, 1]


def test_orders_within_segments_also_where_keys_nearly_tie():
    draw = np.random.default_rng(1)
    segment = np.repeat(np.arange(5), 50)[draw.permutation(250)]
    key = draw.integers(0, 1 << 63, 250).astype(np.uint64)
    expected = np.lexsort((key, segment))
    assert _sorted_within(segment, key).tolist() == expected.tolist()
    key = (key % np.uint64(3)).astype(np.uint64)  # equal ones in a segment
    assert _sorted_within(segment, key).tolist() == np.lexsort((key, segment)).tolist()


SHAPES = [
    MlpShape(5, (), (3,), 1), MlpShape(19, ((70, 18), (300, 32)), (30, 7), 4), MlpShape(4, (), (), 1),
    MlpShape(9, ((66, 17),), (), 3),
]  # fmt: skip


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_parameters_come_back_from_their_padded_places(shape):
    layout = Layout(common_shape(shape))
    flat = torch.zeros(2, layout.width)
    layers = initial(shape, 3, torch.float32)
    layout.place(flat, 1, shape, layers)
    assert not flat[0].any()
    for found, expected in zip(layout.layers(flat, 1, shape), layers, strict=True):
        assert torch.equal(found, expected)
