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
from numpy.typing import NDArray

from gradbase.engines.postgres.numerics import decimals, floats
from gradbase.engines.postgres.types import NUMERIC, Described, arrow_of, element_of
from gradbase.engines.postgres.wire import Rows
from gradbase.errors import InternalError
from gradbase.ir.types import SqlType

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
_NUMBERS = (20, 21, 23, 700, 701, 1083)
"""Types whose values on the wire differ from Arrow's in the order of their bytes alone."""
_TIMES = ("date", "timestamp", "timestamptz")
"""Counted from another day than Arrow's."""
_NULL = 0xFF
_WIDTHS: dict[int | str, int] = {oid: np.dtype(kind).itemsize for oid, kind in _FIXED.items()}
_HEX = np.frombuffer(b"0123456789abcdef", np.uint8)


class Field:
    """One field of many rows: its bytes, and which rows have it.

    Parameters
    ----------
    data : uint8[bytes of the batch]
        At least as many as a value of one width: a NULL is read at the first place of all.
    starts, lengths : int64[rows]
        Of a NULL the length is -1.
    stride : int
        Bytes from each value to the next where that never differs and none is NULL; else 0.
    """

    def __init__(
        self,
        data: NDArray[np.uint8],
        starts: NDArray[np.int64],
        lengths: NDArray[np.int64],
        stride: int = 0,
    ) -> None:
        self.data, self.starts, self.lengths, self.stride = data, starts, lengths, stride

    @property
    def there(self) -> NDArray[np.bool_]:
        """Which rows have a value."""
        return self.lengths >= 0

    def fixed(self, kind: str) -> NDArray[Any]:
        """Values of one width; anything where there is none."""
        width, rows = np.dtype(kind).itemsize, len(self.lengths)
        if self.stride and rows and self.lengths[0] == width:
            return np.ndarray((rows,), kind, self.data, int(self.starts[0]), (self.stride,))
        anywhere = np.ndarray((len(self.data) - width + 1,), kind, self.data, 0, (1,))
        return anywhere[np.where(self.lengths == width, self.starts, 0)]

    def texts(self, skip: int = 0) -> tuple[NDArray[np.int32], pa.Buffer]:
        """Offsets and bytes of values of any length, without their first `skip` bytes."""
        rows = len(self.lengths)
        bounds = np.empty(2 * rows, np.int32)  # what is between two values counts as one too
        bounds[0::2] = np.where(self.lengths < 0, self.starts, self.starts + skip)
        bounds[1::2] = self.starts + np.maximum(self.lengths, 0)
        buffers = [None, pa.py_buffer(bounds), pa.py_buffer(self.data)]
        every = pa.Array.from_buffers(pa.binary(), max(2 * rows - 1, 0), buffers)
        values = every.take(pa.array(np.arange(0, 2 * rows, 2)))
        _, offsets, data = values.buffers()
        found = np.frombuffer(offsets, np.int32)[: rows + 1] if rows else np.zeros(1, np.int32)
        return found, data or pa.py_buffer(b"")

    def values(self) -> list[bytes | None]:
        """The bytes of each value."""
        whole = self.data.tobytes()
        pairs = zip(self.starts.tolist(), self.lengths.tolist(), strict=True)
        return [None if n < 0 else whole[s : s + n] for s, n in pairs]

    def inner(self, at: int, kind: str, there: NDArray[np.bool_]) -> NDArray[Any]:
        """Numbers that stand `at` bytes inside values, of the rows that are `there`; zeros else."""
        width = np.dtype(kind).itemsize
        part = Field(self.data, self.starts + at, np.where(there, width, -1))
        return np.where(there, part.fixed(kind), 0)


def pieces_of(rows: Rows, columns: Sequence[Described]) -> Iterator[pa.Array | NDArray[Any]]:
    """The columns of rows, each of which is a message of the server.

    Numbers and times of one type that stand side by side come together as long as none is NULL:
    values of one kind [columns, rows], of any byte order, valid as long as the rows are.
    """
    counts = Field(rows.data, rows.starts, np.full(len(rows.sizes), 2)).fixed(">i2")
    if (counts != len(columns)).any():
        raise InternalError("a message of the server's COPY is not one row")
    walk, at, reach = _Walk(rows), 0, len(columns)
    while at < len(columns):
        asked = _alike(columns[at : at + reach]) if reach > 1 else 0  # 1: a NULL was here
        found = walk.together(columns[at], asked) if asked else None
        done = 0 if found is None else len(found)
        if found is not None:
            yield found
            at += done
        reach = 2 * reach if done == asked else max(done, 1)
        if done < max(asked, 1):
            column = columns[at]
            yield _array(walk.next(_WIDTHS.get(column.wire, 0)), column.type, column.wire)
            at += 1


def _alike(columns: Sequence[Described]) -> int:
    """How many of the first columns are numbers or times of one type."""
    wire = columns[0].wire
    if wire not in _OWN:
        return 0
    return next((i for i, c in enumerate(columns) if c.wire != wire), len(columns))


class _Walk:
    """From field to field, in all rows at once."""

    def __init__(self, rows: Rows) -> None:
        self._data, self._places, self._stride = rows.data, rows.starts + 2, rows.stride

    def next(self, width: int) -> Field:
        """The next field; `width` is that of its type, 0 where it has none."""
        data, count = self._data, len(self._places)
        if self._stride:
            lengths = np.ndarray((count,), ">i4", data, int(self._places[0]), (self._stride,))
            length = int(lengths[0])
            if length >= 0 and (lengths == length).all():
                self._places = self._places + (4 + length)
                return Field(data, self._places - length, np.full(count, length), self._stride)
            self._stride = 0
        if width:  # a NULL's length begins with a byte that no other has
            lengths = np.where(data[self._places] == _NULL, -1, width)
        else:
            lengths = Field(data, self._places, np.full(count, 4)).fixed(">i4").astype(np.int64)
        starts = self._places + 4
        self._places = starts + np.maximum(lengths, 0)
        return Field(data, starts, lengths)

    def together(self, like: Described, most: int) -> NDArray[Any] | None:
        """The next fields of one type, `most` of them and none with a NULL: [fields, rows]."""
        assert isinstance(like.wire, int)
        kind = _FIXED[like.wire]
        step, count = 4 + np.dtype(kind).itemsize, len(self._places)
        offsets = step * np.arange(most)
        if self._stride:
            shape, first = (count, most), int(self._places[0])
            lengths = np.ndarray(shape, ">i4", self._data, first, (self._stride, step))
            there = (lengths == step - 4).all(axis=0)
        else:
            there = (self._data[self._places[:, None] + offsets] != _NULL).all(axis=0)
        found = most if there.all() else int(there.argmin())
        if not found:
            return None
        values = self._values(kind, offsets[:found])
        self._places = self._places + found * step
        return values.T if like.wire in _NUMBERS else _owned(values.T, like.type, like.wire)

    def _values(self, kind: str, offsets: NDArray[np.int64]) -> NDArray[Any]:
        """Of fields whose lengths stand at `offsets` from here: kind[rows, fields]."""
        if self._stride:
            shape, step = (len(self._places), len(offsets)), np.dtype(kind).itemsize + 4
            first = int(self._places[0]) + 4
            return np.ndarray(shape, kind, self._data, first, (self._stride, step))
        size = len(self._data) - np.dtype(kind).itemsize + 1
        anywhere = np.ndarray((size,), kind, self._data, 0, (1,))
        return anywhere[(self._places + 4)[:, None] + offsets]


def schema_of(columns: Sequence[Described]) -> pa.Schema:
    """The Arrow schema of such batches."""
    return pa.schema([(c.name, arrow_of(c.type)) for c in columns])


def _array(field: Field, of: SqlType, wire: int | str) -> pa.Array:
    if isinstance(wire, str):
        return _vectors(field, of, wire)
    if wire in _FIXED:
        return _primitive(field, of, wire)
    match of.kind:
        case "decimal":
            return decimals(field, of.size)
        case "float64" if wire == NUMERIC:
            return floats(field, _valid(field))
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
    values = _owned(raw, of, wire)
    return pa.Array.from_buffers(arrow_of(of), rows, [valid, pa.py_buffer(values)])


def _owned(raw: NDArray[Any], of: SqlType, wire: int) -> NDArray[Any]:
    """Values of the wire, of any shape, as Arrow has them, in memory of their own."""
    values = raw.astype(_OWN[wire], order="C")
    if of.kind in _TIMES:
        ends = np.iinfo(values.dtype)
        shift = _DAYS if of.kind == "date" else _MICROS
        finite = (values != ends.max) & (values != ends.min)
        values = np.where(finite, values + shift, np.where(values > 0, ends.max, -ends.max))
        values = values.astype(_OWN[wire])
    return values


def _bytes(field: Field, of: pa.DataType, skip: int = 0) -> pa.Array:
    offsets, data = field.texts(skip)
    buffers = [_valid(field), pa.py_buffer(offsets), data]
    return pa.Array.from_buffers(of, len(field.lengths), buffers)


def _uuids(field: Field) -> pa.Array:
    raw = np.ascontiguousarray(field.fixed("V16")).view(np.uint8).reshape(-1, 16)
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
    raw = np.ascontiguousarray(field.fixed("V16")).view(
        [("micros", ">i8"), ("days", ">i4"), ("months", ">i4")]
    )
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
    flat = pa.array(np.frombuffer(data, kind).astype("<f4"))
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
    raw = np.frombuffer(data + bytes(16), np.uint8)
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
