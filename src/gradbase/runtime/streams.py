"""Batches on their way from one operator to the next."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa

if TYPE_CHECKING:
    from gradbase.runtime.context import RunContext


@dataclass
class Stream:
    """A schema and batches of it, read once.

    `recut` says that batches may have any size, for instance after a filter.
    """

    schema: pa.Schema
    batches: Iterator[pa.RecordBatch]
    recut: bool = False


def read_table(stream: Stream) -> pa.Table:
    """All batches as one table."""
    return pa.Table.from_batches(list(stream.batches), schema=stream.schema)


def watched(batches: Iterable[pa.RecordBatch], context: RunContext) -> Generator[pa.RecordBatch]:
    """The batches that have rows, until the statement is cancelled."""
    for batch in batches:
        context.check_cancelled()
        if batch.num_rows:
            yield batch


def grouped(batches: Iterable[pa.RecordBatch], rows: int) -> Generator[pa.RecordBatch]:
    """Small batches joined until they have at least half of `rows` rows; order is kept."""
    held: list[pa.RecordBatch] = []
    count = 0
    for batch in batches:
        held.append(batch)
        count += batch.num_rows
        if count >= rows / 2:
            yield _joined(held)
            held, count = [], 0
    if held:
        yield _joined(held)


def cut(batches: Iterable[pa.RecordBatch], rows: int) -> Generator[pa.RecordBatch]:
    """Batches of more than `rows` rows in about equal parts; smaller ones stay as they are."""
    for batch in batches:
        parts = -(-batch.num_rows // rows)
        each = -(-batch.num_rows // max(parts, 1))
        for start in range(0, batch.num_rows, max(each, 1)):
            yield batch.slice(start, each)


def rebatched(source: Stream, rows: int, batch_rows: int) -> Stream:
    """`source` with small batches joined to `rows` rows; `batch_rows` (0: unknown) is the most."""
    most = min(rows, batch_rows or rows)
    return Stream(source.schema, grouped(source.batches, most) if source.recut else source.batches)


def recut(batches: Iterable[pa.RecordBatch], rows: int) -> Generator[pa.RecordBatch]:
    """Batches of exactly `rows` rows, the last one with what is left; order is kept."""
    held: list[pa.RecordBatch] = []
    count = 0
    for batch in batches:
        rest = batch
        while count + rest.num_rows >= rows:
            first = rest.slice(0, rows - count)
            rest = rest.slice(first.num_rows)
            yield _joined([*held, first])
            held, count = [], 0
        if rest.num_rows:
            held.append(rest)
            count += rest.num_rows
    if held:
        yield _joined(held)


def _joined(batches: list[pa.RecordBatch]) -> pa.RecordBatch:
    return batches[0] if len(batches) == 1 else pa.concat_batches(batches)


def limited(
    batches: Iterable[pa.RecordBatch], count: int, offset: int
) -> Generator[pa.RecordBatch]:
    """Rows `offset` to `offset + count`; reads no batch more than it needs."""
    if count == 0:
        return
    skip, left = offset, count
    for batch in batches:
        rows = batch.slice(skip, left)
        skip = max(0, skip - batch.num_rows)
        left -= rows.num_rows
        if rows.num_rows:
            yield rows
        if left == 0:
            return
