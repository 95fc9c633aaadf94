"""Splits: right sizes, whole coverage, independent of the table's physical order."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from gradbase.errors import DataError
from gradbase.ir.learning import Split
from gradbase.runtime.train.identity import identities, row_hashes
from gradbase.runtime.train.split import divide, epoch_order, shards


def rows_of(values):
    content = row_hashes(pa.RecordBatch.from_pydict({"a": pa.array(values)}), ["a"])
    return identities(content, content)


def sizes(split, rows, column=None):
    ids, order = rows_of(range(rows))
    parts = divide(split, ids, order, 7, column)
    together = np.concatenate([parts.train, parts.eval, parts.test])
    assert sorted(together.tolist()) == list(range(rows))
    return len(parts.train), len(parts.eval), len(parts.test)


# BigQuery ML, CREATE MODEL for DNN models, data_split_method.
AUTO = [
    (499, 0.0, (499, 0, 0)),
    (500, 0.0, (400, 100, 0)),
    (50_000, 0.0, (40_000, 10_000, 0)),
    (60_000, 0.0, (50_000, 10_000, 0)),
    (499, 0.1, (499, 0, 0)),
    (1000, 0.1, (800, 100, 100)),
]


@pytest.mark.parametrize(("rows", "test", "expected"), AUTO)
def test_auto_split_has_bigquerys_sizes(rows, test, expected):
    assert sizes(Split("auto", 0.0, test), rows) == expected


def test_random_and_no_split_have_the_sizes_asked_for():
    assert sizes(Split("random", 0.25, 0.05), 1000) == (700, 250, 50)
    assert sizes(Split("none", 0.0, 0.0), 10) == (10, 0, 0)


def test_splits_and_orders_follow_the_rows_not_their_places():
    values = np.arange(2000)
    shuffled = np.random.default_rng(0).permutation(values)
    dealt = []
    for table in (values, shuffled):
        ids, order = rows_of(table)
        parts = divide(Split("random", 0.2, 0.1), ids, order, 7, None)
        dealt.append([
            table[parts.eval].tolist(), table[parts.test].tolist(),
            *(table[epoch_order(ids, s, 7, 3)].tolist() for s in shards(ids, parts.train, 4, 7)),
        ])  # fmt: skip
    assert dealt[0] == dealt[1]


def test_epochs_and_seeds_have_orders_of_their_own():
    ids, order = rows_of(range(500))
    orders = {tuple(epoch_order(ids, order, seed, epoch)) for seed in (1, 2) for epoch in (0, 1)}
    assert len(orders) == 4
    assert {tuple(sorted(o)) for o in orders} == {tuple(range(500))}


@pytest.mark.parametrize(
    ("rows", "asked", "expected"), [(100, 0, 1), (20_000, 0, 2), (100_000, 0, 8), (50, 3, 3)]
)
def test_shards_come_from_the_number_of_training_rows(rows, asked, expected):
    ids, order = rows_of(range(rows))
    found = shards(ids, order, asked, 7)
    assert len(found) == expected
    assert sum(map(len, found)) == rows


def test_sequential_split_evaluates_the_last_rows_and_trains_on_nulls():
    ids, order = rows_of(range(10))
    column = pa.array([9, 8, 7, 6, 5, 4, 3, 2, 1, None])
    parts = divide(Split("seq", 0.2, 0.1, "s"), ids, order, 7, column)
    assert (parts.test.tolist(), sorted(parts.eval.tolist())) == ([0], [1, 2])
    assert 9 in parts.train
    by_text = divide(Split("seq", 0.2, 0.1, "s"), ids, order, 7, pa.array([*"jihgfedcb", None]))
    assert (by_text.test.tolist(), sorted(by_text.eval.tolist())) == ([0], [1, 2])


def test_custom_split_by_flag_and_by_name():
    ids, order = rows_of(range(4))
    flags = divide(Split("custom", 0, 0, "s"), ids, order, 7, pa.array([True, False, None, False]))
    assert (sorted(flags.eval.tolist()), sorted(flags.train.tolist())) == ([0, 2], [1, 3])
    names = pa.array(["TRAIN", "eval", "TEST", "train"])
    parts = divide(Split("custom", 0, 0, "s"), ids, order, 7, names)
    assert (parts.eval.tolist(), parts.test.tolist()) == ([1], [2])


def test_custom_split_refuses_other_values():
    ids, order = rows_of(range(2))
    with pytest.raises(DataError, match="split column `s` holds 'dev', it must hold TRAIN"):
        divide(Split("custom", 0, 0, "s"), ids, order, 7, pa.array(["TRAIN", "dev"]))


def test_something_must_be_left_to_train_on():
    ids, order = rows_of(range(2))
    with pytest.raises(DataError, match="none of the 2 rows is left to train on"):
        divide(Split("custom", 0, 0, "s"), ids, order, 7, pa.array([True, True]))
