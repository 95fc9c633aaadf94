"""Rows that do not fit into memory: told apart and dealt out without being held.

Everything comes out as for rows in memory (`identity.identities`, `split.divide`): what there is a
sort of all rows is here one of buckets of them, and a rank is a place between two rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from gradbase.ir.learning import Dataset, Split
from gradbase.runtime.columns import numbers
from gradbase.runtime.train.identity import Words, identities, keyed, leading, order_of, told_apart
from gradbase.runtime.train.ranks import ascending, of_rank
from gradbase.runtime.train.reading import Hashes, ReadRows
from gradbase.runtime.train.spill import Buckets, Spool, bits_for
from gradbase.runtime.train.split import check_trains, cuts, has_value, named_parts

Bools = npt.NDArray[np.bool_]
CHUNK_ROWS = 1 << 15


# -- who rows are ------------------------------------------------------------------------------


def identified(hashes: Hashes, folder: Path, part_bytes: int) -> Spool:
    """The identities of all rows, in the order in which they were read."""
    key, content = hashes
    dtype = np.dtype([("key", "<u8", (2,)), ("row", "<i8")])
    bits = bits_for(key.rows * dtype.itemsize, part_bytes)
    dealt = Buckets(dtype, 1 << bits, folder)
    for start, words in _chunks(key):
        dealt.add(leading(words[:, 0], bits), _records(dtype, key=words, row=_from(start, words)))
    changed = np.dtype([("id", "<u8", (2,)), ("row", "<i8")])
    per_range = max(1, part_bytes // changed.itemsize)
    back = Buckets(changed, -(-key.rows // per_range), folder) if key.rows else None
    for number in range(dealt.count):
        many = dealt.size(number) * dtype.itemsize > 4 * part_bytes and key is content
        pairs = _counted(dealt.parts(number)) if many else _later(dealt.take(number), key, content)
        for ids, rows in pairs:
            assert back is not None
            back.add(rows // per_range, _records(changed, id=ids, row=rows))
    return _patched(key, back, per_range, folder)


def _later(
    records: npt.NDArray[Any], key: Spool, content: Spool
) -> Iterator[tuple[Words, npt.NDArray[np.int64]]]:
    """Identities of rows that are like others of a bucket, and these rows."""
    words = records["key"]
    order = order_of(words)
    same = (words[order[1:]] == words[order[:-1]]).all(1)
    if same.any():
        tied = np.zeros(len(order), np.bool_)
        tied[1:] |= same
        tied[:-1] |= same
        places = np.sort(order[tied])
        mine, rows = words[places], records["row"][places]
        ids, _ = identities(mine, mine if key is content else content.take(rows))
        yield ids, rows


def _counted(
    parts: Iterator[npt.NDArray[Any]],
) -> Iterator[tuple[Words, npt.NDArray[np.int64]]]:
    """As `_later`, where a bucket is large because many rows are equal: these are counted."""
    seen: dict[bytes, int] = {}
    for part in parts:
        order = order_of(part["key"])
        words = part["key"][order]
        starts = np.flatnonzero(np.append(True, (words[1:] != words[:-1]).any(1)))
        lengths = np.diff(np.append(starts, len(words)))
        before = np.zeros(len(starts), np.int64)
        for i, (start, length) in enumerate(zip(starts.tolist(), lengths.tolist(), strict=True)):
            name = words[start].tobytes()
            before[i] = seen.get(name, 0)
            seen[name] = int(before[i]) + length
        number = np.arange(len(words)) - np.repeat(starts - before, lengths)
        later = number > 0
        yield told_apart(words[later], number[later]), part["row"][order[later]]


def _patched(key: Spool, back: Buckets | None, per_range: int, folder: Path) -> Spool:
    """`key` with other values in some rows."""
    if back is None or not back.rows:
        return key
    found = Spool(np.uint64, 2)
    found.spill(folder)
    for number in range(back.count):
        start = number * per_range
        words = key.read(start, min(start + per_range, key.rows))
        records = back.take(number)
        words[records["row"] - start] = records["id"]
        found.append(words)
    return found


# -- in which part they are --------------------------------------------------------------------


@dataclass(frozen=True)
class Dealt:
    """Who rows are, and in which part.

    Parameters
    ----------
    ids : Spool of uint64[rows, 2]
    part : Spool of uint8[rows]
        0: trains; 1: chooses the best trial; 2: reports.
    counts : tuple of int
        Rows of each part.
    """

    ids: Spool
    part: Spool
    counts: tuple[int, int, int]

    def __getitem__(self, rows: slice) -> Bools:
        """Which of these rows train."""
        return self.part.read(rows.start, rows.stop) == 0


def dealt(data: Dataset, rows: ReadRows, ids: Spool, folder: Path) -> Dealt:
    """As `split.divide`, whose errors it raises."""
    split, part = data.split, Spool(np.uint8)
    part.spill(folder)
    counts = np.zeros(3, np.int64)
    for found in _parts(split, rows, ids, data.seed):
        part.append(found.astype(np.uint8))
        counts += np.bincount(found, minlength=3)
    check_trains(int(counts[0]), part.rows)
    return Dealt(ids, part, (int(counts[0]), int(counts[1]), int(counts[2])))


def _parts(split: Split, rows: ReadRows, ids: Spool, seed: int) -> Iterator[npt.NDArray[np.int64]]:
    match split.method:
        case "none":
            yield from (np.zeros(len(words), np.int64) for _, words in _chunks(ids))
        case "custom":
            for block in rows.store.blocks():
                yield named_parts(split.column, block.rows.column(split.column))
        case "seq":
            yield from _by_rank(split, ids.rows, _sorted_by(split.column, rows, ids))
        case _:
            purpose = "fold" if split.method == "k_fold" else "split"

            def hashed() -> Iterator[tuple[Words, Bools]]:
                for _, words in _chunks(ids):
                    first = keyed(words, seed, purpose)
                    yield np.column_stack([first, words]), np.ones(len(words), np.bool_)

            yield from _by_rank(split, ids.rows, hashed)


Ranked = Callable[[], Iterator[tuple[Words, Bools]]]
"""What all rows are sorted by, uint64[rows, n], and which of them have a rank."""


def _sorted_by(name: str, rows: ReadRows, ids: Spool) -> Ranked:
    """The values of a column, then identities."""
    texts: dict[Any, int] = {}
    first = next(iter(rows.store.blocks())).rows.column(name).type
    if pa.types.is_string(first) or pa.types.is_large_string(first):
        blocks = (b.rows.column(name).unique().to_pylist() for b in rows.store.blocks())
        distinct = {t for found in blocks for t in found if t is not None}
        texts = {t: i for i, t in enumerate(sorted(distinct, key=str.encode))}

    def found() -> Iterator[tuple[Words, Bools]]:
        for block in rows.store.blocks():
            column = block.rows.column(name)
            known, words = has_value(column), ids.read(block.start, block.start + len(column))
            by = np.zeros(len(column), np.uint64)
            values = column.filter(pa.array(known))
            if texts:
                by[known] = [texts[t] for t in values.to_pylist()]
            else:
                by[known] = ascending(numbers(values, "value", name))
            yield np.column_stack([by, words]), known

    return found


def _by_rank(split: Split, rows: int, ranked: Ranked) -> Iterator[npt.NDArray[np.int64]]:
    known = sum(int(has.sum()) for _, has in ranked())
    ends, parts = cuts(split, rows, known)

    def words() -> Iterator[Words]:
        return (by[has] for by, has in ranked())

    first, second = (None if end >= known else of_rank(words, end) for end in ends)
    for by, has in ranked():
        above = _reaches(by, first).astype(np.int64) + _reaches(by, second)
        yield np.where(has, np.array(parts)[above], 0)


def _reaches(words: Words, bound: Words | None) -> Bools:
    """Which rows are not below `bound`; None: all are."""
    found = np.zeros(len(words), np.bool_)
    if bound is None:
        return found
    equal = np.ones(len(words), np.bool_)
    for column, value in zip(words.T, bound, strict=True):
        found |= equal & (column > value)
        equal &= column == value
    return found | equal


# -- pieces ------------------------------------------------------------------------------------


def _chunks(spool: Spool) -> Iterator[tuple[int, npt.NDArray[Any]]]:
    for start in range(0, spool.rows, CHUNK_ROWS):
        yield start, spool.read(start, min(start + CHUNK_ROWS, spool.rows))


def _from(start: int, rows: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    return np.arange(start, start + len(rows))


def _records(dtype: np.dtype[Any], **columns: npt.NDArray[Any]) -> npt.NDArray[Any]:
    found = np.empty(len(next(iter(columns.values()))), dtype)
    for name, values in columns.items():
        found[name] = values
    return found
