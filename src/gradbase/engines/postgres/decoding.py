"""Rows of ``COPY … (FORMAT binary)`` as Arrow, column by column for many rows at once.

A row is the number of its fields, then for each its length (-1: NULL) and its bytes, big-endian.
Where no length differs between the rows a field stands at one distance in all of them; elsewhere
the places of the next field are computed for all rows together.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from gradbase.engines.postgres.numerics import decimals, floats
from gradbase.engines.postgres.types import NUMERIC, Described, arrow_of, element_of
from gradbase.errors import InternalError
from gradbase.ir.types import SqlType

SIGNATURE = b"PGCOPY\n\xff\r\n\0"
_HEAD = len(SIGNATURE) + 8
_DAYS, _MICROS = 10_957, 946_684_800_000_000
"""From 1970 to 2000, from where PostgreSQL counts."""

_FIXED = {
    16: "u1", 20: ">i8", 21: ">i2", 23: ">i4", 26: ">u4", 700: ">f4", 701: ">f8", 1082: ">i4",
    1083: ">i8", 1114: ">i8", 1184: ">i8",
}  # fmt: skip
"""Type -> its values on the wire."""
_OWN = {
    20: "<i8", 21: "<i2", 23: "<i4", 26: "<i8", 700: "<f4", 701: "<f8", 1082: "<i4", 1083: "<i8",
    1114: "<i8", 1184: "<i8",
}  # fmt: skip
_SPARE = bytes(16)
"""Behind the rows: a NULL is read at the first place of all, whatever the width of its type."""
_HEX = np.frombuffer(b"0123456789abcdef", np.uint8)


class Field:
    """One field of many rows: its bytes, and which rows have it.

    Parameters
    ----------
    data : uint8[bytes of the batch]
    starts, lengths : int64[rows]
        Of a NULL the length is -1.
    block : uint8[rows, length], optional
        The bytes themselves, where all rows have the same length.
    """

    def __init__(
        self,
        data: NDArray[np.uint8],
        starts: NDArray[np.int64],
        lengths: NDArray[np.int64],
        block: NDArray[np.uint8] | None = None,
    ) -> None:
        self.data, self.starts, self.lengths, self.block = data, starts, lengths, block

    @property
    def there(self) -> NDArray[np.bool_]:
        """Which rows have a value."""
        return self.lengths >= 0

    def fixed(self, kind: str) -> NDArray[Any]:
        """Values of one width; zeros where there is none."""
        width = np.dtype(kind).itemsize
        if self.block is not None and self.block.shape[1] == width:
            return np.ascontiguousarray(self.block).view(kind)[:, 0]
        safe = np.where(self.lengths == width, self.starts, 0)
        return sliding_window_view(self.data, width)[safe].view(kind)[:, 0]

    def texts(self, skip: int = 0) -> tuple[NDArray[np.int32], NDArray[np.uint8]]:
        """Offsets and bytes of values of any length, without their first `skip` bytes."""
        sizes = np.maximum(self.lengths - skip, 0)
        offsets = np.zeros(len(sizes) + 1, np.int64)
        np.cumsum(sizes, out=offsets[1:])
        places = np.repeat(self.starts + skip - offsets[:-1], sizes) + np.arange(offsets[-1])
        return offsets.astype(np.int32), self.data[places]

    def values(self) -> list[bytes | None]:
        """The bytes of each value."""
        whole = self.data.tobytes()
        pairs = zip(self.starts.tolist(), self.lengths.tolist(), strict=True)
        return [None if n < 0 else whole[s : s + n] for s, n in pairs]


def batch_of(rows: Sequence[bytes | memoryview], columns: Sequence[Described]) -> pa.RecordBatch:
    """Rows, each a message of the server, as a batch."""
    data = np.frombuffer(b"".join([*rows, _SPARE]), np.uint8)
    sizes = np.fromiter(map(len, rows), np.int64, len(rows))
    starts = np.cumsum(sizes) - sizes
    if len(rows):
        counts = Field(data, starts, np.full(len(rows), 2)).fixed(">i2")
        if not (counts == len(columns)).all():
            raise InternalError("a message of the server's COPY is not one row")
    fields = _fields(data, starts, sizes)
    arrays = [_array(next(fields), column.type, column.wire) for column in columns]
    return pa.RecordBatch.from_arrays(arrays, schema=schema_of(columns))


def _fields(
    data: NDArray[np.uint8], starts: NDArray[np.int64], sizes: NDArray[np.int64]
) -> Iterator[Field]:
    """The fields of the rows, one behind the other."""
    rows, at = len(sizes), 2
    if rows and (sizes == sizes[0]).all():
        whole = data[: rows * sizes[0]].reshape(rows, -1)
        while at < whole.shape[1]:
            lengths = np.ascontiguousarray(whole[:, at : at + 4]).view(">i4")[:, 0]
            width = int(lengths[0])
            if width < 0 or (lengths != width).any():
                break
            block = whole[:, at + 4 : at + 4 + width]
            yield Field(data, starts + at + 4, np.full(rows, width), block)
            at += 4 + width
    places = starts + at
    while True:
        lengths = Field(data, places, np.full(rows, 4)).fixed(">i4").astype(np.int64)
        yield Field(data, places + 4, lengths)
        places = places + 4 + np.maximum(lengths, 0)


def schema_of(columns: Sequence[Described]) -> pa.Schema:
    """The Arrow schema of such batches."""
    return pa.schema([(c.name, arrow_of(c.type)) for c in columns])


def without_head(first: bytes) -> bytes:
    """The first message without the file's header."""
    if first[: len(SIGNATURE)] != SIGNATURE:
        raise InternalError("the server's COPY has another format")
    (extension,) = struct.unpack_from(">i", first, len(SIGNATURE) + 4)
    return first[_HEAD + extension :]


def _array(field: Field, of: SqlType, wire: int | str) -> pa.Array:
    if isinstance(wire, str):
        return _vectors(field, of, wire)
    if wire in _FIXED:
        return _primitive(field, of, wire)
    match of.kind:
        case "decimal":
            return decimals(field.values(), of.size)
        case "float64" if wire == NUMERIC:
            return pa.array(floats(field.values()), pa.float64())
        case "uuid":
            return _uuids(field)
        case "interval":
            return _intervals(field)
        case "list":
            return _lists(field, of, element_of(wire))
        case "blob":
            return _bytes(field, pa.binary())
    return _bytes(field, pa.string(), skip=1 if wire == 3802 else 0)


def _valid(field: Field) -> pa.Buffer | None:
    there = field.there
    if there.all():
        return None
    return pa.py_buffer(np.packbits(there, bitorder="little").tobytes())


def _primitive(field: Field, of: SqlType, wire: int) -> pa.Array:
    raw, valid, rows = field.fixed(_FIXED[wire]), _valid(field), len(field.lengths)
    if wire == 16:
        bits = np.packbits(raw != 0, bitorder="little").tobytes()
        return pa.Array.from_buffers(pa.bool_(), rows, [valid, pa.py_buffer(bits)])
    values = raw.astype(_OWN[wire])
    if of.kind in ("date", "timestamp", "timestamptz"):
        ends = np.iinfo(values.dtype)
        shift = _DAYS if of.kind == "date" else _MICROS
        finite = (values != ends.max) & (values != ends.min)
        values = np.where(finite, values + shift, np.where(values > 0, ends.max, -ends.max))
        values = values.astype(_OWN[wire])
    return pa.Array.from_buffers(arrow_of(of), rows, [valid, pa.py_buffer(values.tobytes())])


def _bytes(field: Field, of: pa.DataType, skip: int = 0) -> pa.Array:
    offsets, data = field.texts(skip)
    buffers = [_valid(field), pa.py_buffer(offsets.tobytes()), pa.py_buffer(data.tobytes())]
    return pa.Array.from_buffers(of, len(field.lengths), buffers)


def _uuids(field: Field) -> pa.Array:
    raw = field.fixed("V16").view(np.uint8).reshape(-1, 16)
    digits = np.empty((len(raw), 32), np.uint8)
    digits[:, 0::2], digits[:, 1::2] = _HEX[raw >> 4], _HEX[raw & 15]
    dash = np.full((len(raw), 1), ord("-"), np.uint8)
    parts = np.split(digits, [8, 12, 16, 20], axis=1)
    joined = [p for part in parts[:-1] for p in (part, dash)] + [parts[-1]]
    text = np.ascontiguousarray(np.concatenate(joined, axis=1))
    offsets = np.arange(len(raw) + 1, dtype=np.int32) * 36
    buffers = [_valid(field), pa.py_buffer(offsets.tobytes()), pa.py_buffer(text.tobytes())]
    return pa.Array.from_buffers(pa.string(), len(raw), buffers)


def _intervals(field: Field) -> pa.Array:
    raw = field.fixed("V16").view([("micros", ">i8"), ("days", ">i4"), ("months", ">i4")])
    made = np.empty(len(raw), [("months", "<i4"), ("days", "<i4"), ("nanos", "<i8")])
    made["months"], made["days"] = raw["months"].ravel(), raw["days"].ravel()
    made["nanos"] = raw["micros"].ravel() * 1000
    buffers = [_valid(field), pa.py_buffer(made.tobytes())]
    return pa.Array.from_buffers(pa.month_day_nano_interval(), len(raw), buffers)


# -- vectors and arrays --------------------------------------------------------------------------


def _vectors(field: Field, of: SqlType, wire: str) -> pa.Array:
    """pgvector: the dimension and a spare word, then the elements."""
    kind = ">f4" if wire == "vector" else ">f2"
    width = np.dtype(kind).itemsize
    _, data = field.texts(skip=4)
    flat = pa.array(data.view(kind).astype("<f4"))
    if of.kind == "array":
        return _fixed_list(field, flat, of.size[0], arrow_of(of))
    counts = np.maximum(field.lengths - 4, 0) // width
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
    buffers = [_valid(field), pa.py_buffer(offsets.tobytes())]
    return pa.Array.from_buffers(arrow_of(of), len(counts), buffers, children=[flat])


def _fixed_list(field: Field, flat: pa.Array, size: int, of: pa.DataType) -> pa.Array:
    """NULL vectors take their place among the elements."""
    there = field.there
    if not there.all():
        whole = np.zeros((len(there), size), "<f4")
        whole[there] = flat.to_numpy().reshape(-1, size)
        flat = pa.array(whole.reshape(-1))
    return pa.Array.from_buffers(of, len(there), [_valid(field)], children=[flat])


def _lists(field: Field, of: SqlType, element: int) -> pa.Array:
    """Arrays of one dimension; one of more becomes a flat list of its elements, row by row."""
    assert of.element is not None
    lengths: list[int] = []
    cells: list[bytes] = []
    for value in field.values():
        if value is None:
            lengths.append(0)
            continue
        dimensions, _, _ = struct.unpack_from(">iii", value, 0)
        count = 1 if dimensions else 0
        for d in range(dimensions):
            count *= struct.unpack_from(">i", value, 12 + 8 * d)[0]
        lengths.append(count)
        cells.append(value[12 + 8 * dimensions :])
    inner = _elements(b"".join(cells), sum(lengths), of.element, element)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    buffers = [_valid(field), pa.py_buffer(offsets.tobytes())]
    return pa.Array.from_buffers(arrow_of(of), len(lengths), buffers, children=[inner])


def _elements(data: bytes, count: int, of: SqlType, wire: int) -> pa.Array:
    """Elements that stand one behind the other, each with its length."""
    raw = np.frombuffer(data + _SPARE, np.uint8)
    kind = _FIXED.get(wire)
    stride = 4 + (np.dtype(kind).itemsize if kind else 0)
    if kind and len(data) == stride * count:
        starts = np.arange(count, dtype=np.int64) * stride
        lengths = Field(raw, starts, np.full(count, 4)).fixed(">i4").astype(np.int64)
        if (lengths == stride - 4).all():
            return _array(Field(raw, starts + 4, lengths), of, wire)
    places = np.empty(count, np.int64)
    sizes = np.empty(count, np.int64)
    at = 0
    for k in range(count):
        (size,) = struct.unpack_from(">i", data, at)
        places[k], sizes[k] = at + 4, size
        at += 4 + max(size, 0)
    return _array(Field(raw, places, sizes), of, wire)
