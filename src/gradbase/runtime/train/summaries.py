"""What ML.FEATURE_INFO tells of a column: its training rows, before anything is made of them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pyarrow as pa

from gradbase.ir.types import SqlType
from gradbase.runtime.columns import numbers
from gradbase.runtime.encode import one_level
from gradbase.runtime.train.ranks import FEW, ascending, numbers_of, of_rank
from gradbase.runtime.train.rows import Blocks
from gradbase.runtime.train.statistics import Floats, Moments, Values, count_texts, moments
from gradbase.store.records import FeatureRecord


def summary(name: str, of: SqlType, blocks: Blocks, known: Moments | None = None) -> FeatureRecord:
    """Statistics of column `name` over the rows that train; the same for any order of rows.

    The standard deviation is that of a sample. The median is the smallest value that half of the
    values do not exceed. Dates count as seconds since 1970; a vector's numbers are those of all its
    elements, and it is missing as a whole.

    Parameters
    ----------
    known : Moments, optional
        Of a column of numbers or dates, where they have been computed.
    """

    def columns() -> Iterator[pa.Array]:
        for block, train in blocks():
            yield block.rows.column(name).filter(pa.array(train))

    plain = FeatureRecord(name, str(of))

    def present() -> Iterator[Floats]:
        nested = of.is_vector or of.is_nested
        for column in columns():
            yield _present(one_level(column, name, 0).flatten() if nested else column, name)

    if of.is_numeric or of.is_temporal:
        rows = sum(int(train.sum()) for _, train in blocks())
        count = sum(len(chunk) for chunk in present())
        return replace(_with_numbers(plain, present, count, known), null_count=rows - count)
    if of.is_text or of.kind == "bool":
        counted = count_texts(columns())
        missing = counted.pop(None, 0)
        return replace(plain, category_count=len(counted), null_count=missing)
    missing = sum(c.null_count for c in columns())
    if not (of.is_vector or of.is_nested):
        return replace(plain, null_count=missing)
    count = sum(len(chunk) for chunk in present())
    found = _with_numbers(plain, present, count, None)
    return replace(found, null_count=missing, dimension=of.length)


def _present(column: pa.Array, name: str) -> Floats:
    """Values that are neither NULL nor NaN (nor infinite, which is an error elsewhere)."""
    values = numbers(column, "value", name).astype(np.float64, copy=False)
    if column.null_count:
        values = values[column.is_valid().to_numpy(zero_copy_only=False)]
    return values[np.isfinite(values)]


def _with_numbers(
    record: FeatureRecord, values: Values, count: int, known: Moments | None
) -> FeatureRecord:
    if not count:
        return record
    found = known or moments(lambda: (chunk[:, None] for chunk in values()))[0]
    return replace(
        record,
        minimum=found.low + 0.0,  # -0 + 0 is 0
        maximum=found.high + 0.0,
        mean=found.mean,
        median=_at(values, count, (count - 1) // 2) + 0.0,
        stddev=found.deviation * math.sqrt(count / (count - 1)) if count > 1 else 0.0,
    )


def _at(values: Values, count: int, rank: int) -> float:
    """The value at place `rank` of all in ascending order."""
    if count <= FEW:
        return float(np.partition(np.concatenate(list(values())), rank)[rank])
    return float(numbers_of(of_rank(lambda: (ascending(v)[:, None] for v in values()), rank))[0])
