"""Splits: right sizes, whole coverage, independent of the table's physical order."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from gradbase.errors import DataError
from gradbase.frontend.training import SplitSpec, resolve_split
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
    (499, False, (499, 0, 0)),
    (500, False, (400, 100, 0)),
    (50_000, False, (40_000, 10_000, 0)),
    (50_001, False, (40_001, 10_000, 0)),
    (60_000, False, (50_000, 10_000, 0)),
    (499, True, (499, 0, 0)),
    (500, True, (400, 50, 50)),
    (1000, True, (800, 100, 100)),
    (60_000, True, (48_000, 6_000, 6_000)),
]


@pytest.mark.parametrize(("rows", "tuned", "expected"), AUTO)
def test_auto_split_has_bigquerys_sizes(rows, tuned, expected):
    assert sizes(resolve_split(SplitSpec(), rows, tuned=tuned), rows) == expected


@pytest.mark.parametrize(
    ("split", "rows", "expected"),
    [
        (Split("random", 0.2, 0.1), 2, (2, 0, 0)),
        (Split("random", 0.2, 0.0), 3, (2, 1, 0)),
        (Split("random", 0.5, 0.25), 4, (1, 2, 1)),
        (Split("random", 0.01, 0.0), 10, (10, 0, 0)),
        (Split("seq", 0.5, 0.0, "s"), 2, (1, 1, 0)),
        (Split("seq", 0.2, 0.2, "s"), 2, (2, 0, 0)),
        (Split("k_fold", 0.0, 0.0, folds=2, fold=1), 2, (1, 1, 0)),
        (Split("k_fold", 0.0, 0.0, folds=2, fold=2), 3, (2, 1, 0)),
    ],
)
def test_few_rows_are_rounded_and_may_leave_a_part_empty(split, rows, expected):
    column = pa.array(range(rows)) if split.column else None
    assert sizes(split, rows, column) == expected


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


SORTED = {
    "numbers": pa.array([3.0, 1.0, float("nan"), 2.0, None, 4.0]),
    "decimals": pa.array([3, 1, None, 2, None, 4]).cast(pa.decimal128(21, 1)),
    "timestamps": pa.array([3, 1, None, 2, None, 4], pa.timestamp("us")),
    "dates": pa.array([3, 1, None, 2, None, 4], pa.date32()),
    "texts": pa.array(["c", "a", None, "b", None, "é"]),
    "truths": pa.array([True, False, None, False, None, True]),
}


@pytest.mark.parametrize("kind", SORTED)
def test_sequential_split_sorts_whatever_has_an_order(kind):
    """NULL and NaN train; text sorts by its bytes."""
    ids, order = rows_of(range(6))
    parts = divide(Split("seq", 0.2, 0.2, "s"), ids, order, 7, SORTED[kind])
    assert {*parts.eval.tolist(), *parts.test.tolist()} == {0, 5}
    if kind != "truths":
        assert (parts.eval.tolist(), parts.test.tolist()) == ([0], [5])


def test_rows_that_tie_are_dealt_out_by_their_identity_not_their_place():
    values = np.arange(40)
    shuffled = np.random.default_rng(2).permutation(values)
    dealt = []
    for table in (values, shuffled):
        ids, order = rows_of(table)
        column = pa.array((table // 20).tolist())
        parts = divide(Split("seq", 0.25, 0.25, "s"), ids, order, 7, column)
        dealt.append((table[parts.eval].tolist(), table[parts.test].tolist()))
    assert dealt[0] == dealt[1]
    assert all(v >= 20 for v in (*dealt[0][0], *dealt[0][1]))


def test_custom_split_by_flag_and_by_name():
    ids, order = rows_of(range(4))
    flags = divide(Split("custom", 0, 0, "s"), ids, order, 7, pa.array([True, False, None, False]))
    assert (sorted(flags.eval.tolist()), sorted(flags.train.tolist())) == ([0, 2], [1, 3])
    names = pa.array(["TRAIN", "eval", "TEST", "train"])
    parts = divide(Split("custom", 0, 0, "s"), ids, order, 7, names)
    assert (parts.eval.tolist(), parts.test.tolist()) == ([1], [2])


def test_custom_split_refuses_other_values():
    ids, order = rows_of(range(2))
    for value, shown in (("dev", "'dev'"), (None, "NULL"), ("", "''")):
        with pytest.raises(DataError, match=f"split column `s` holds {shown}, it must hold TRAIN"):
            divide(Split("custom", 0, 0, "s"), ids, order, 7, pa.array(["TRAIN", value]))


def test_something_must_be_left_to_train_on():
    ids, order = rows_of(range(2))
    with pytest.raises(DataError, match="none of the 2 rows is left to train on"):
        divide(Split("custom", 0, 0, "s"), ids, order, 7, pa.array([True, True]))
