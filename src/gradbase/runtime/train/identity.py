"""Row identity: a 128-bit hash of what a row is, whatever engine it comes from.

Values are made canonical before hashing: integers int64; floats IEEE double with -0 as 0 and one
NaN; text and binary by their bytes; dates, times and timestamps microseconds (UTC); decimals their
unscaled value and scale; NULL by a tag; columns in order of their names.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

import blake3
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Words = npt.NDArray[np.uint64]

_P1, _P2 = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xC2B2AE3D27D4EB4F)
_P3, _P4 = np.uint64(0xFF51AFD7ED558CCD), np.uint64(0xC4CEB9FE1A85EC53)
_NULL = np.uint64(0xA0761D6478BD642F)
_S29, _S31, _S33 = np.uint64(29), np.uint64(31), np.uint64(33)
_NAN = np.array([np.nan]).view(np.uint64)[0]
_US_PER = {"s": 10**6, "ms": 10**3, "us": 1}
_DAY_US = 86_400 * 10**6
_CHUNK = 1 << 15
"""Rows hashed at a time, so that the running hashes stay in cache."""


def row_hashes(batch: pa.RecordBatch, columns: Sequence[str]) -> Words:
    """Hash of each row's values of `columns`, uint64[rows, 2]; their order does not matter."""
    found = np.empty((batch.num_rows, 2), np.uint64)
    ordered = [batch.column(name) for name in sorted(columns)]
    for start in range(0, batch.num_rows, _CHUNK):
        parts = [c.slice(start, _CHUNK) for c in ordered]
        _hash_rows(parts, found[start : start + _CHUNK])
    return found


def _hash_rows(columns: list[pa.Array], out: Words) -> None:
    a = np.full(len(out), _P3, np.uint64)
    b = np.full(len(out), _P4, np.uint64)
    scratch = np.empty(len(out), np.uint64)
    for column in columns:
        nulls = column.is_null().to_numpy(zero_copy_only=False) if column.null_count else None
        for word in words(column):
            a ^= word
            a *= _P1
            a ^= np.right_shift(a, _S29, out=scratch)
            b += word
            b *= _P2
            b ^= np.right_shift(b, _S31, out=scratch)
        if nulls is not None:
            a[nulls] += _NULL
            b[nulls] -= _NULL
    out[:, 0], out[:, 1] = finish(a), finish(b + (a >> _S31))


def finish(x: Words) -> Words:
    """Spread every bit of `x` over the whole word (MurmurHash3's finaliser)."""
    x = (x ^ (x >> _S33)) * _P3
    x = (x ^ (x >> _S33)) * _P4
    return x ^ (x >> _S33)


def keyed(ids: Words, seed: int, purpose: str | int) -> Words:
    """h(id, seed, purpose): uint64 for each row of `ids` (uint64[rows, 2])."""
    digest = blake3.blake3(f"{seed}|{purpose}".encode()).digest(16)
    first, second = np.frombuffer(digest, np.uint64)
    return finish(finish(ids[:, 0] ^ first) + (ids[:, 1] ^ second))


# -- canonical words ---------------------------------------------------------------------------


def words(column: pa.Array) -> list[Words]:
    """The values of a column as one or more words per row; 0 at NULLs."""
    if isinstance(column, pa.ExtensionArray):
        column = column.storage
    kind = column.type
    if pa.types.is_dictionary(kind):
        return _by_index(words(column.dictionary), column.indices)
    for applies, make in _MAKERS:
        if applies(kind):
            return make(column)
    return _by_value(column, lambda value: json.dumps(value, sort_keys=True, default=str).encode())


def _filled(column: pa.Array, zero: object = 0) -> pa.Array:
    return pc.fill_null(column, zero) if column.null_count else column


def _integers(column: pa.Array) -> list[Words]:
    values = _filled(column).to_numpy(zero_copy_only=True)
    if values.dtype == np.uint64:
        return [values]
    return [values.astype(np.int64, copy=False).view(np.uint64)]


def _booleans(column: pa.Array) -> list[Words]:
    return _integers(column.cast(pa.int8()))


def _floats(column: pa.Array) -> list[Words]:
    values = _filled(column, 0.0).to_numpy(zero_copy_only=True)
    canonical = values.astype(np.float64) + 0.0  # -0 + 0 is 0
    found = canonical.view(np.uint64)
    found[np.isnan(canonical)] = _NAN
    return [found]


def _decimals(column: pa.Array) -> list[Words]:
    if pa.types.is_decimal256(column.type):
        return _by_value(column, lambda value: str(value).encode())
    wide = column.cast(pa.decimal128(38, column.type.scale))
    raw = np.frombuffer(wide.buffers()[1], np.uint64).reshape(-1, 2)
    raw = raw[wide.offset : wide.offset + len(wide)].copy()
    if column.null_count:
        raw[column.is_null().to_numpy(zero_copy_only=False)] = 0
    scale = np.full(len(raw), column.type.scale, np.uint64)
    return [raw[:, 0], raw[:, 1], scale]


def _temporal(column: pa.Array) -> list[Words]:
    kind = column.type
    if pa.types.is_date64(kind):
        column, kind = column.cast(pa.date32()), pa.date32()
    is_narrow = pa.types.is_date32(kind) or pa.types.is_time32(kind)
    ticks = _filled(column.view(pa.int32() if is_narrow else pa.int64()))
    values = ticks.to_numpy(zero_copy_only=True).astype(np.int64)
    if pa.types.is_date(kind):
        values = values * _DAY_US
    elif kind.unit == "ns":
        # What is below a microsecond still tells rows apart.
        return [(values // 1000).view(np.uint64), (values % 1000).view(np.uint64)]
    else:
        values = values * _US_PER[kind.unit]
    return [values.view(np.uint64)]


def _texts(column: pa.Array) -> list[Words]:
    distinct = column.dictionary_encode()
    values = distinct.dictionary.cast(pa.large_binary())
    return _by_index(_digests(values.to_pylist()), distinct.indices)


def _vectors(column: pa.Array) -> list[Words]:
    """A fixed-size list: the words of each position, the elements' NULLs tagged."""
    size = column.type.list_size
    rows = len(column)
    inner = column.values.slice(column.offset * size, rows * size)
    nulls = inner.is_null().to_numpy(zero_copy_only=False) if inner.null_count else None
    outer = column.is_null().to_numpy(zero_copy_only=False) if column.null_count else None
    found: list[Words] = []
    for word in words(inner):
        tagged = np.where(nulls, _NULL, word) if nulls is not None else word
        table = tagged.reshape(rows, size)
        if outer is not None:
            table = np.where(outer[:, None], np.uint64(0), table)
        found.extend(np.ascontiguousarray(table[:, j]) for j in range(size))
    return found


def _by_value(column: pa.Array, text: Callable[[object], bytes]) -> list[Words]:
    return _digests([None if v is None else text(v) for v in column.to_pylist()])


def _digests(values: list[bytes | None]) -> list[Words]:
    digests = b"".join(blake3.blake3(v or b"").digest(16) for v in values)
    pairs = np.frombuffer(digests, np.uint64).reshape(-1, 2).copy()
    pairs[[v is None for v in values]] = 0
    return [pairs[:, 0], pairs[:, 1]]


def _by_index(found: list[Words], indices: pa.Array) -> list[Words]:
    """`found` (words of distinct values) at `indices`; NULL indices give 0."""
    where = pc.fill_null(indices.cast(pa.int64()), len(found[0])).to_numpy(zero_copy_only=False)
    return [np.append(word, np.uint64(0))[where] for word in found]


_MAKERS: tuple[tuple[Callable[[pa.DataType], bool], Callable[[pa.Array], list[Words]]], ...] = (
    (pa.types.is_boolean, _booleans),
    (pa.types.is_integer, _integers),
    (pa.types.is_floating, _floats),
    (pa.types.is_decimal, _decimals),
    (lambda t: pa.types.is_date(t) or pa.types.is_timestamp(t) or pa.types.is_time(t), _temporal),
    (lambda t: pa.types.is_string(t) or pa.types.is_large_string(t), _texts),
    (lambda t: pa.types.is_binary(t) or pa.types.is_large_binary(t), _texts),
    (pa.types.is_fixed_size_binary, _texts),
    (pa.types.is_fixed_size_list, _vectors),
)


# -- from hashes to identities -----------------------------------------------------------------


def order_of(*hashes: Words) -> npt.NDArray[np.int64]:
    """Rows sorted by their hashes (uint64[rows, 2 or more] each, most significant first)."""
    order = np.argsort(hashes[0][:, 0], kind="stable")
    first = hashes[0][order, 0]
    equal = np.flatnonzero(first[1:] == first[:-1])
    if not len(equal):
        return order
    tied = np.zeros(len(first), np.bool_)
    tied[equal] = tied[equal + 1] = True
    places = np.flatnonzero(tied)
    rows = order[places]
    columns = [part[rows, j] for part in hashes for j in range(part.shape[1])]
    order[places] = rows[np.lexsort(columns[::-1])]
    return order


def identities(
    key: Words, content: Words, group: npt.NDArray[np.int64] | None = None
) -> tuple[Words, npt.NDArray[np.int64]]:
    """(identity of each row uint64[rows, 2], rows in the order of their identities).

    Rows of equal key are told apart by their content, rows of equal content by an occurrence
    number: which of them gets which number does not matter, as they are equal. Rows of another
    `group` are no concern of a row; the order is then group by group.
    """
    everything = (key,) if key is content else (key, content)
    order = _grouped(order_of(*everything), group)
    first = key[order, 0]
    equal = np.flatnonzero(first[1:] == first[:-1])
    same = np.zeros(max(len(order) - 1, 0), np.bool_)
    same[equal] = key[order[equal], 1] == key[order[equal + 1], 1]
    if group is not None:
        same &= group[order[1:]] == group[order[:-1]]
    ids = key.copy()
    if same.any():
        starts = np.flatnonzero(np.concatenate([[True], ~same]))
        lengths = np.diff(np.append(starts, len(order)))
        occurrence = np.arange(len(order)) - np.repeat(starts, lengths)
        later = occurrence > 0
        rows = order[later]
        ids[rows] = told_apart(ids[rows], occurrence[later])
        order = _grouped(order_of(ids), group)
    return ids, order


def told_apart(words: Words, number: npt.NDArray[np.int64]) -> Words:
    """Identities of rows that are like `number` > 0 others before them."""
    count = number.astype(np.uint64)
    first, second = finish(words[:, 0] + count * _P1), finish(words[:, 1] ^ (count * _P2))
    return np.stack([first, second], 1)


def leading(words: Words, bits: int) -> npt.NDArray[np.int64]:
    """The first `bits` (at most 16) of each of uint64[rows]."""
    if not bits:
        return np.zeros(len(words), np.int64)
    return (words >> np.uint64(64 - bits)).astype(np.int64)


def _grouped(
    order: npt.NDArray[np.int64], group: npt.NDArray[np.int64] | None
) -> npt.NDArray[np.int64]:
    return order if group is None else order[np.argsort(group[order], kind="stable")]
