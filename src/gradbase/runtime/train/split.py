"""Which rows train, which choose the best trial, which report; and in which shard a row lies."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from gradbase.errors import DataError
from gradbase.ir.learning import Split
from gradbase.runtime.columns import numbers
from gradbase.runtime.train.identity import Words, keyed

Rows = npt.NDArray[np.int64]
ROWS_PER_SHARD, MAX_SHARDS = 8_192, 8


@dataclass(frozen=True)
class Parts:
    """Row numbers of each part, in the order of the rows' identities."""

    train: Rows
    eval: Rows
    test: Rows


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
            parts = _folded(split, ids, rows, seed)
        case _:
            parts = _random(split, ids, rows, seed)
    if not len(parts.train):
        raise DataError(
            f"none of the {len(rows)} rows is left to train on",
            hint="fewer rows for evaluation and test, or data_split_method = 'NO_SPLIT'",
        )
    return parts


def _random(split: Split, ids: Words, rows: Rows, seed: int) -> Parts:
    first = round(len(rows) * split.eval_fraction)
    second = first + round(len(rows) * split.test_fraction)
    rank = _ranks(ids, rows, seed, "split")
    return Parts(rows[rank >= second], rows[rank < first], rows[(rank >= first) & (rank < second)])


def _ranks(ids: Words, rows: Rows, seed: int, purpose: str) -> Rows:
    """0, 1, … of each of `rows` by h(id, seed, purpose)."""
    rank = np.empty(len(rows), np.int64)
    rank[np.argsort(keyed(ids[rows], seed, purpose), kind="stable")] = np.arange(len(rows))
    return rank


def _folded(split: Split, ids: Words, rows: Rows, seed: int) -> Parts:
    """Folds of equal size, up to one row; the rows of the split's fold evaluate."""
    if len(rows) < split.folds:
        raise DataError(
            f"{split.folds} folds need at least as many rows with a label, there are {len(rows)}",
            hint="lower num_folds",
        )
    held = _ranks(ids, rows, seed, "fold") * split.folds // len(rows) == split.fold - 1
    return Parts(rows[~held], rows[held], rows[:0])


def _sequential(split: Split, rows: Rows, column: pa.Array) -> Parts:
    """Sorted ascending by the column: the last fraction tests, the one before it evaluates."""
    values = column.take(pa.array(rows))
    known = ~values.is_null(nan_is_null=True).to_numpy(zero_copy_only=False)
    ordered = rows[known][_ascending(values.filter(pa.array(known)), split.column)]
    test = len(ordered) - round(len(rows) * split.test_fraction)
    first = test - round(len(rows) * split.eval_fraction)
    part = np.zeros(len(column), np.int8)
    part[ordered[max(first, 0) : max(test, 0)]] = 1
    part[ordered[max(test, 0) :]] = 2
    return Parts(*(rows[part[rows] == p] for p in range(3)))


def _ascending(values: pa.Array, name: str) -> Rows:
    """Stable, so that equal values keep the order of their identities."""
    if pa.types.is_string(values.type) or pa.types.is_large_string(values.type):
        return np.argsort(np.array(values.cast(pa.binary()).to_pylist(), object), kind="stable")
    return np.argsort(numbers(values, "value", name), kind="stable")


def _custom(name: str, rows: Rows, column: pa.Array) -> Parts:
    values = column.take(pa.array(rows))
    if pa.types.is_boolean(values.type):
        evaluated = pc.fill_null(values, fill_value=True).to_numpy(zero_copy_only=False)
        return Parts(rows[~evaluated], rows[evaluated], rows[:0])
    texts = values.cast(pa.large_string()).to_pylist()
    found = np.array([_PART_NUMBER.get((t or "").upper(), -1) for t in texts])
    if (found < 0).any():
        bad = values[int(np.flatnonzero(found < 0)[0])].as_py()
        shown = "NULL" if bad is None else repr(bad)
        raise DataError(
            f"split column `{name}` holds {shown}, it must hold TRAIN, EVAL or TEST",
            at=f"column {name}",
        )
    return Parts(*(rows[found == p] for p in range(3)))


_PART_NUMBER = {"TRAIN": 0, "EVAL": 1, "TEST": 2}


def shards(ids: Words, train: Rows, count: int, seed: int) -> list[Rows]:
    """Training rows by shard, each in the order of identities; `count` 0: by number of rows."""
    count = count or min(MAX_SHARDS, max(1, len(train) // ROWS_PER_SHARD))
    shard = keyed(ids[train], seed, "shard") % np.uint64(count)
    return [train[shard == s] for s in range(count)]


def epoch_order(ids: Words, rows: Rows, seed: int, epoch: int) -> Rows:
    """`rows` (sorted by identity) in the order of `epoch`: the same for every trial."""
    return rows[np.argsort(keyed(ids[rows], seed, epoch), kind="stable")]
