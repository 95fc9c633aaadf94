"""Which rows train, which choose the best trial, which report; and in which shard a row lies."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from gradbase.errors import DataError
from gradbase.ir.learning import Split
from gradbase.runtime.columns import numbers
from gradbase.runtime.train.identity import Words, keyed

Rows = npt.NDArray[np.int64]
Places = Rows | range
"""Rows by their numbers; consecutive ones as a range."""
ROWS_PER_SHARD, MAX_SHARDS = 8_192, 8


@dataclass(frozen=True)
class Parts:
    """Row numbers of each part, in the order of the rows' identities."""

    train: Any
    eval: Any
    test: Any


def divide(split: Split, ids: Words, rows: Rows, seed: int, column: pa.Array | None) -> Parts:
    """Deal `rows` (sorted by identity) out as `split` says.

    Parameters
    ----------
    split : Split
    ids : uint64[all rows, 2]
    rows : int64[n]
        Rows with a label.
    seed : int
    column : Array, optional
        Values of the split column, for all rows.

    Raises
    ------
    DataError
        No row is left to train on, or a value of the split column says nothing.
    """
    match split.method:
        case "none":
            empty = rows[:0]
            return Parts(rows, empty, empty)
        case "custom":
            assert column is not None
            parts = _custom(split.column, rows, column)
        case "seq":
            assert column is not None
            parts = _sequential(split, rows, column)
        case "k_fold":
            parts = _by_rank(split, rows, _ranks(ids, rows, seed, "fold"), len(rows))
        case _:
            parts = _by_rank(split, rows, _ranks(ids, rows, seed, "split"), len(rows))
    check_trains(len(parts.train), len(rows))
    return parts


def check_trains(train: int, rows: int) -> None:
    """DataError where no row is left."""
    if not train:
        raise DataError(
            f"none of the {rows} rows is left to train on",
            hint="fewer rows for evaluation and test, or data_split_method = 'NO_SPLIT'",
        )


def cuts(split: Split, rows: int, known: int) -> tuple[tuple[int, int], tuple[int, int, int]]:
    """Ranks at which a part ends, and the parts (0 train, 1 eval, 2 test) below, between and above.

    Parameters
    ----------
    rows, known : int
        With a label; of them with a value that they are sorted by.
    """
    match split.method:
        case "random":
            first = round(rows * split.eval_fraction)
            return (first, first + round(rows * split.test_fraction)), (1, 2, 0)
        case "k_fold":
            if rows < split.folds:
                raise DataError(
                    f"{split.folds} folds need at least as many rows with a label, "
                    f"there are {rows}",
                    hint="lower num_folds",
                )
            ends = (-(-f * rows // split.folds) for f in (split.fold - 1, split.fold))
            return (next(ends), next(ends)), (0, 1, 0)
        case _:
            test = known - round(rows * split.test_fraction)
            first = test - round(rows * split.eval_fraction)
            return (max(first, 0), max(test, 0)), (0, 1, 2)


def _by_rank(split: Split, rows: Rows, rank: Rows, known: int) -> Parts:
    (first, second), parts = cuts(split, len(rows), known)
    part = np.array(parts)[(rank >= first).astype(np.int64) + (rank >= second)]
    return Parts(*(rows[part == p] for p in range(3)))


def _ranks(ids: Words, rows: Rows, seed: int, purpose: str) -> Rows:
    """0, 1, … of each of `rows` by h(id, seed, purpose)."""
    rank = np.empty(len(rows), np.int64)
    rank[np.argsort(keyed(ids[rows], seed, purpose), kind="stable")] = np.arange(len(rows))
    return rank


def _sequential(split: Split, rows: Rows, column: pa.Array) -> Parts:
    """Sorted ascending by the column: the last fraction tests, the one before it evaluates."""
    values = column.take(pa.array(rows))
    known = has_value(values)
    rank = np.full(len(rows), -1)
    order = np.flatnonzero(known)[_ascending(values.filter(pa.array(known)), split.column)]
    rank[order] = np.arange(len(order))
    return _by_rank(split, rows, rank, len(order))


def has_value(values: pa.Array) -> npt.NDArray[np.bool_]:
    """Where a value is neither NULL nor NaN; the rows without one train."""
    return ~values.is_null(nan_is_null=True).to_numpy(zero_copy_only=False)


def _ascending(values: pa.Array, name: str) -> Rows:
    """Stable, so that equal values keep the order of their identities."""
    if pa.types.is_string(values.type) or pa.types.is_large_string(values.type):
        return np.argsort(np.array(values.cast(pa.binary()).to_pylist(), object), kind="stable")
    return np.argsort(numbers(values, "value", name), kind="stable")


def _custom(name: str, rows: Rows, column: pa.Array) -> Parts:
    part = named_parts(name, column.take(pa.array(rows)))
    return Parts(*(rows[part == p] for p in range(3)))


def named_parts(name: str, values: pa.Array) -> npt.NDArray[np.int64]:
    """The part (0 train, 1 eval, 2 test) that each value of the split column names."""
    if pa.types.is_boolean(values.type):
        evaluated = pc.fill_null(values, fill_value=True).to_numpy(zero_copy_only=False)
        return evaluated.astype(np.int64)
    texts = values.cast(pa.large_string()).to_pylist()
    found = np.array([_PART_NUMBER.get((t or "").upper(), -1) for t in texts])
    if (found < 0).any():
        bad = values[int(np.flatnonzero(found < 0)[0])].as_py()
        shown = "NULL" if bad is None else repr(bad)
        raise DataError(
            f"split column `{name}` holds {shown}, it must hold TRAIN, EVAL or TEST",
            at=f"column {name}",
        )
    return found


_PART_NUMBER = {"TRAIN": 0, "EVAL": 1, "TEST": 2}


def shards(ids: Words, train: Rows, count: int, seed: int) -> list[Rows]:
    """Training rows by shard, each in the order of identities; `count` 0: by number of rows."""
    count = shard_count(len(train), count)
    shard = shard_of(ids[train], count, seed)
    return [train[shard == s] for s in range(count)]


def shard_count(rows: int, given: int) -> int:
    """Shards of so many training rows; `given` where not 0."""
    return given or min(MAX_SHARDS, max(1, rows // ROWS_PER_SHARD))


def shard_of(ids: Words, count: int, seed: int) -> Words:
    """The shard of each row that trains."""
    return keyed(ids, seed, "shard") % np.uint64(count)


def epoch_order(ids: Words, rows: Rows, seed: int, epoch: int) -> Rows:
    """`rows` (sorted by identity) in the order of `epoch`: the same for every trial."""
    return rows[np.argsort(keyed(ids[rows], seed, epoch), kind="stable")]


def stretches(rows: int, size: int) -> Iterator[range]:
    """Places 0, 1, … of so many rows, `size` at a time; the last may be fewer."""
    return (range(start, min(start + size, rows)) for start in range(0, rows, size))
