"""Encodings: one definition, every column type."""

from __future__ import annotations

import datetime as dt
import decimal
import math
import uuid

import numpy as np
import pyarrow as pa
import pytest

from gradbase.errors import DataError, UnsupportedError
from gradbase.ir.conversion import Category, Numeric, Vector
from gradbase.ir.tensor import Const
from gradbase.runtime.columns import category_text, numbers
from gradbase.runtime.encode import category_codes, encode, encode_into, null_rows

UTC = dt.UTC
NUMBER_TYPES = [
    (pa.array([1, None, -3], pa.int8()), [1, 0, -3]),
    (pa.array([1, None, 2**63], pa.uint64()), [1, 0, 2.0**63]),
    (pa.array([True, None, False]), [1, 0, 0]),
    (pa.array([1.5, None, -0.25], pa.float32()), [1.5, 0, -0.25]),
    (pa.array([decimal.Decimal("0.10"), None, decimal.Decimal("-2.35")]), [0.1, 0, -2.35]),
    (pa.array([decimal.Decimal(2) ** 100], pa.decimal128(38, 0)), [2.0**100]),
    (pa.array([1, None], pa.decimal128(38, 0)), [1, 0]),
    (pa.array(["1970-01-02", None]).cast(pa.date32()), [86400, 0]),
    (pa.array([dt.datetime(1970, 1, 1, 0, 0, 1, 500000, UTC)], pa.timestamp("us")), [1.5]),
    (pa.array([dt.datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC)], pa.timestamp("ns", "Asia/Tokyo")), [1]),
    (pa.array([None, None]), [0, 0]),
    (pa.array([1.5, 2.5, 1.5]).dictionary_encode(), [1.5, 2.5, 1.5]),
]  # fmt: skip


@pytest.mark.parametrize(
    ("column", "expected"), NUMBER_TYPES, ids=lambda c: str(getattr(c, "type", ""))
)
def test_every_numeric_type_is_read(column, expected):
    found = encode(column, Numeric(0.0, 1.0, indicator=True), name="x").numpy()
    missing = [v is None for v in column.to_pylist()]
    assert found[:, 0].tolist() == np.array(expected, np.float32).tolist()
    assert found[:, 1].tolist() == [float(m) for m in missing]


def test_slices_of_every_type_are_read_from_their_offset():
    for column, expected in NUMBER_TYPES:
        if len(column) > 1:
            sliced = encode(column.slice(1), Numeric(0.0, 1.0, indicator=False), name="x")
            assert sliced[:, 0].tolist() == np.array(expected[1:], np.float32).tolist()


def test_standardising_is_in_float64_and_rounded_once():
    x = np.random.default_rng(0).normal(1e6, 1, 1000).astype(np.float32)
    found = encode(pa.array(x), Numeric(1e6 + 0.1, 1.7, indicator=False), name="x").numpy()[:, 0]
    expected = ((x.astype(np.float64) - (1e6 + 0.1)) * 1.7).astype(np.float32)
    assert found.tobytes() == expected.tobytes()


def test_nan_and_null_are_missing_and_flagged():
    column = pa.array([1.0, math.nan, None], pa.float64())
    found = encode(column, Numeric(0.5, 2.0, indicator=True), name="x")
    assert found.tolist() == [[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]]


@pytest.mark.parametrize(
    ("part", "expected"),
    [("year", 2024), ("month", 2), ("day", 29), ("weekday", 3), ("hour", 23), ("minute", 30)],
)
def test_parts_of_timestamps_are_in_utc(part, expected):
    moment = dt.datetime(2024, 2, 29, 23, 30, tzinfo=UTC)
    for column in (
        pa.array([moment, None], pa.timestamp("us", "America/New_York")),
        pa.array([moment.replace(tzinfo=None), None], pa.timestamp("ms")),
    ):
        assert numbers(column, part, "t")[0] == expected


def test_parts_of_dates():
    column = pa.array([dt.date(2024, 2, 29), None])
    assert [int(numbers(column, p, "d")[0]) for p in ("year", "weekday", "hour")] == [2024, 3, 0]


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (pa.array([1.0, math.inf]), r"column `x` holds inf in row 12, which is infinite"),
        (pa.array([1.0, -math.inf], pa.float32()), r"holds -inf in row 12"),
        (pa.array([1.0, 1e300]), r"holds 1e\+300 in row 12, which is too large for float32"),
        (pa.array([0, 2**31 - 1], pa.int32()).view(pa.date32()), r"infinite date in row 12"),
        (pa.array([0, 2**63 - 1]).view(pa.timestamp("us")), r"infinite date in row 12"),
    ],
)
def test_infinite_values_name_column_and_row(column, message):
    with pytest.raises(DataError, match=message):
        encode(column, Numeric(0.0, 1.0, indicator=False), name="x", first_row=10)


def test_imported_networks_take_nan_and_inf():
    column = pa.array([math.nan, math.inf, 1.0])
    found = encode(column, Numeric(0.0, 1.0, indicator=False), name="x", imported=True)
    assert math.isnan(found[0, 0])
    assert found[1:, 0].tolist() == [math.inf, 1.0]


def test_text_has_no_number():
    with pytest.raises(UnsupportedError, match=r"column `x` of type string .* as a number"):
        encode(pa.array(["a"]), Numeric(0.0, 1.0, indicator=False), name="x")


ID = uuid.UUID("12345678-9abc-def0-1234-56789abcdef0")
TEXTS = [
    (pa.array(["a", None]), ["a", None]),
    (pa.array(["a", None, "a"]).dictionary_encode(), ["a", None, "a"]),
    (pa.array([True, False, None]), ["true", "false", None]),
    (pa.array([7, -1, None], pa.int16()), ["7", "-1", None]),
    (pa.array([0.1, -0.0, math.nan, None]), ["0.1", "0", None, None]),
    (pa.array([decimal.Decimal("1.50")]), ["1.50"]),
    (pa.array([dt.date(2024, 2, 29)]), ["2024-02-29"]),
    (pa.array([dt.datetime(2024, 2, 29, 1, tzinfo=UTC)], pa.timestamp("s", "Asia/Tokyo")), ["2024-02-29 01:00:00"]),
    (pa.array([ID.bytes, None], pa.binary(16)), [str(ID), None]),
    (pa.array([ID.bytes, None], pa.uuid()), [str(ID), None]),
]  # fmt: skip


@pytest.mark.parametrize(("column", "expected"), TEXTS, ids=lambda c: str(getattr(c, "type", "")))
def test_every_type_has_a_canonical_text(column, expected):
    assert category_text(column).to_pylist() == expected
    assert category_text(column.slice(len(column) - 1)).to_pylist() == expected[-1:]


@pytest.mark.parametrize("size", [2, 1000])
@pytest.mark.parametrize("form", ["plain", "dictionary", "chunked"])
def test_codes_are_positions_with_zero_for_unseen(size, form):
    encoding = Category(("a", "b", *(f"v{i}" for i in range(size - 2))), missing_code=size + 1)
    column = pa.array(["b", "zzz", None, "a"])
    if form == "dictionary":
        column = column.dictionary_encode()
    if form == "chunked":
        column = pa.chunked_array([column.slice(0, 1), column.slice(1)])
    assert encode(column, encoding, name="c")[:, 0].tolist() == [2, 0, size + 1, 1]


def test_missing_categories_may_be_unknown():
    assert category_codes(pa.array(["a", None]), Category(("a",), 0)).tolist() == [1, 0]


VECTORS = [[1.0, 2.0], None, [3.0, None], [math.nan, 4.0]]


@pytest.mark.parametrize("kind", [pa.list_(pa.float32(), 2), pa.list_(pa.float64()), pa.large_list(pa.float32())])  # fmt: skip
def test_vectors_with_missing_rows_and_elements(kind):
    mean, scale = Const((1.0, 1.0), (2,), "float64"), Const((2.0, 1.0), (2,), "float64")
    column = pa.array([[9.0, 9.0], *VECTORS], kind).slice(1)
    found = encode(column, Vector(2, mean, scale), name="v")
    assert found.tolist() == [[0.0, 1.0], [0.0, 0.0], [4.0, 0.0], [0.0, 3.0]]
    nulls = null_rows([column])
    assert nulls is not None
    assert nulls.tolist() == [False, True, True, False]


def test_vectors_of_wrong_length_name_row_and_lengths():
    column = pa.array([[1.0, 2.0], [1.0]], pa.list_(pa.float32()))
    with pytest.raises(DataError, match=r"length 1 in row 2, the model was trained on length 2"):
        encode(column, Vector(2), name="v")


def test_infinite_vector_elements_are_named():
    column = pa.array([None, [1.0, math.inf]], pa.list_(pa.float32(), 2))
    with pytest.raises(DataError, match=r"column `v\[2\]` holds inf in row 2"):
        encode(column, Vector(2), name="v")


@pytest.mark.parametrize("order", ["rows", "columns"])
def test_encoding_writes_into_either_layout(order):
    out = np.zeros((3, 2), np.float32) if order == "rows" else np.zeros((2, 3), np.float32).T
    column = pa.array([1.0, None, 3.0])
    encode_into(out, column, Numeric(1.0, 0.5, indicator=True), name="x")
    assert out.tolist() == [[0.0, 0.0], [0.0, 1.0], [1.0, 0.0]]


def test_empty_columns_give_empty_tensors():
    assert encode(
        pa.array([], pa.float32()), Numeric(0.0, 1.0, indicator=True), name="x"
    ).shape == (0, 2)
    assert encode(pa.array([], pa.string()), Category(("a",), 0), name="x").shape == (0, 1)
