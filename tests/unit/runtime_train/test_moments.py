"""Exact statistics: right, and the same bits in every order and every cut."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pyarrow as pa
import pytest

from gradbase.runtime.train.statistics import count_texts, moments, vocabulary

SAMPLES = {
    "normal": lambda d: d.normal(3, 2, 5000),
    "shifted": lambda d: 1e9 + d.normal(size=5000),
    "tiny": lambda d: 1e-300 * d.normal(size=5000),
    "huge": lambda d: 1e200 * d.normal(size=5000),
    "mixed": lambda d: d.normal(size=5000) * 10.0 ** d.integers(-5, 6, 5000),
    "whole": lambda d: d.integers(-9, 9, 5000).astype(float),
    "negative": lambda d: -np.exp(d.normal(size=5000)),
}


def cut(values, sizes):
    parts = np.split(values[:, None], np.cumsum(sizes))
    return lambda: iter(parts)


@pytest.mark.parametrize("sample", SAMPLES)
def test_moments_are_right_and_do_not_depend_on_order(sample):
    draw = np.random.default_rng(1)
    values = SAMPLES[sample](draw)
    [found] = moments(cut(values, [10, 2000]))
    assert found.mean == pytest.approx(float(np.mean(values, dtype=np.longdouble)), rel=1e-11)
    exact = float(np.std(values.astype(np.longdouble)))
    assert found.deviation == pytest.approx(exact, rel=1e-9)
    for _ in range(3):
        draw.shuffle(values)
        assert moments(cut(values, sorted(draw.integers(0, 1500, 2)))) == [found]


def test_missing_values_are_counted_and_left_out():
    values = np.array([1.0, np.nan, 3.0, np.nan])
    [found] = moments(cut(values, [1]))
    assert (found.count, found.missing, found.mean, found.deviation) == (2, 2, 2.0, 1.0)


@pytest.mark.parametrize("values", [[np.nan, np.nan], [4.0, 4.0], [0.0], [-0.0, 0.0]], ids=str)
def test_columns_without_spread(values):
    [found] = moments(cut(np.array(values), []))
    assert found.deviation == 0
    assert found.mean == (0 if np.isnan(values[0]) else values[0])


def test_each_position_of_a_vector_has_its_own():
    draw = np.random.default_rng(2)
    values = draw.normal(size=(100, 3)) * [1, 10, 100]
    found = moments(lambda: iter([values]))
    alone = [moments(lambda j=j: iter([values[:, j : j + 1]]))[0] for j in range(3)]
    assert found == alone


def test_no_rows_give_no_moments():
    assert moments(lambda: iter([])) == []


def test_vocabulary_keeps_the_most_frequent_and_breaks_ties_by_bytes():
    counted = count_texts([pa.array(["b", "a", None, "c"]), pa.array(["é", "c", "b", "z"])])
    assert counted == Counter({"b": 2, "c": 2, "a": 1, "é": 1, "z": 1, None: 1})
    assert vocabulary(counted, 10) == ("a", "b", "c", "z", "é")
    assert vocabulary(counted, 3) == ("a", "b", "c")
