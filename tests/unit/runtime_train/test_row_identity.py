"""Row identity: the same for equal rows from anywhere, different for different ones."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest

from gradbase.runtime.train.identity import identities, keyed, order_of, row_hashes


def hashes(**columns):
    batch = pa.RecordBatch.from_pydict(columns)
    return row_hashes(batch, list(columns))


EQUAL = [
    (pa.array([5], pa.int8()), pa.array([5], pa.int64())),
    (pa.array([-1], pa.int16()), pa.array([-1], pa.int64())),
    (pa.array([0.0]), pa.array([-0.0])),
    (pa.array([0.5], pa.float32()), pa.array([0.5], pa.float64())),
    (pa.array([np.nan]), pa.array([-np.nan])),
    (pa.array(["é"]), pa.array(["é"]).dictionary_encode()),
    (pa.array(["é"]), pa.array(["é"], pa.large_string())),
    (pa.array([1], pa.timestamp("s")), pa.array([1_000_000], pa.timestamp("us"))),
    (pa.array([1], pa.date32()), pa.array([86_400_000], pa.date64())),
    (pa.array([Decimal("1.50")], pa.decimal128(9, 2)), pa.array([Decimal("1.50")], pa.decimal128(20, 2))),
]  # fmt: skip


@pytest.mark.parametrize(("one", "other"), EQUAL)
def test_equal_values_have_equal_hashes_in_every_representation(one, other):
    assert (hashes(x=one) == hashes(x=other)).all()


DIFFERENT = [
    pa.array([None, 0], pa.int64()),
    pa.array([None, 0.0, np.nan], pa.float64()),
    pa.array([None, "", "a", "b"]),
    pa.array([None, False, True]),
    pa.array([Decimal("1.5"), Decimal("1.6"), None], pa.decimal128(9, 1)),
    pa.array([None, [None, 1.0], [0.0, 1.0], [1.0, 0.0]], pa.list_(pa.float32(), 2)),
    pa.array([None, [], [1], [1, 2]], pa.list_(pa.int64())),
    pa.array([0, 1, None], pa.timestamp("us")),
    pa.array([dt.date(2020, 1, 1), dt.date(2020, 1, 2), None]),
    pa.array([b"", b"a", None]),
]


@pytest.mark.parametrize("column", DIFFERENT, ids=lambda c: str(c.type))
def test_different_values_have_different_hashes(column):
    assert len(np.unique(hashes(x=column), axis=0)) == len(column)


def test_slices_and_chunks_hash_like_the_whole():
    column = pa.array([None, *range(99)], pa.int64())
    text = pa.array([str(v) if v % 3 else None for v in range(100)])
    vector = pa.array([[v, 2 * v] if v % 7 else None for v in range(100)], pa.list_(pa.int64(), 2))
    decimal = pa.array([Decimal(v) for v in range(100)], pa.decimal128(9, 0))
    whole = hashes(a=column, b=text, c=vector, d=decimal)
    part = hashes(
        **{n: c.slice(30, 40) for n, c in zip("abcd", (column, text, vector, decimal), strict=True)}
    )
    assert (part == whole[30:70]).all()


def test_columns_are_told_apart_by_name_order_not_by_position():
    a, b = pa.array([1, 2]), pa.array([2, 1])
    assert (hashes(a=a, b=b) == hashes(b=b, a=a)).all()
    assert not (hashes(a=a, b=b) == hashes(a=b, b=a)).any()


def test_no_collisions_among_many_rows():
    number = np.arange(200_000)
    found = hashes(a=pa.array(number % 500), b=pa.array(number // 500))
    assert len(np.unique(found[:, 0])) == len(np.unique(found[:, 1])) == len(number)
    assert abs(float((keyed(found, 1, "split") % np.uint64(10)).mean()) - 4.5) < 0.03


def test_order_is_by_the_whole_hash():
    draw = np.random.default_rng(0)
    found = draw.integers(0, 3, (500, 3)).astype(np.uint64)
    ordered = found[order_of(found)].tolist()
    assert ordered == sorted(found.tolist())


def test_equal_rows_get_identities_of_their_own_and_the_same_set_in_any_order():
    content = hashes(a=pa.array([1, 2, 1, 1, 3]))
    ids, order = identities(content, content)
    shuffled, _ = identities(content[[3, 4, 0, 1, 2]], content[[3, 4, 0, 1, 2]])
    assert len(np.unique(ids, axis=0)) == 5
    assert sorted(ids.tolist()) == sorted(shuffled.tolist()) == ids[order].tolist()


def test_rows_that_share_a_key_are_told_apart_by_content():
    key, content = hashes(k=pa.array([1, 1, 2])), hashes(a=pa.array([5, 6, 7]))
    ids, _ = identities(key, content)
    swapped, _ = identities(key[[1, 0, 2]], content[[1, 0, 2]])
    assert (ids == swapped[[1, 0, 2]]).all()


def test_keyed_hashes_differ_by_seed_and_purpose():
    ids = hashes(a=pa.array(range(50)))
    streams = [keyed(ids, s, p) for s in (1, 2) for p in ("split", "shard", 0, 1)]
    assert len({v for s in streams for v in s.tolist()}) == 400
