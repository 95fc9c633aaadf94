"""Few rows in the engine's order, without handing them back to it (which takes milliseconds)."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import pyarrow as pa

from gradbase.ir.relational import Sort
from gradbase.ir.types import FLOATS, INTEGERS
from gradbase.runtime.columns import kernels
from gradbase.runtime.expressions import Compute
from gradbase.runtime.streams import Stream

MOST_ROWS = 16_384
"""More rows are the engine's to sort: it has threads and may spill."""
_KINDS = frozenset((*INTEGERS, *FLOATS, "bool", "date", "timestamp"))
"""Not texts: their order may be set in the engine."""


def has_plain_keys(node: Sort) -> bool:
    """Whether the order of all keys is the same here as in the engine."""
    return all(key.type.kind in _KINDS for key in node.keys)


def few_in_order(
    source: Stream, keys: Sequence[Compute], orders: Sequence[str]
) -> tuple[bool, Stream]:
    """(True, the rows in order) where they are few, else (False, the rows as they come)."""
    begun: list[pa.RecordBatch] = []
    count = 0
    for batch in source.batches:
        begun.append(batch)
        count += batch.num_rows
        if count > MOST_ROWS:
            return False, Stream(source.schema, itertools.chain(begun, source.batches))
    if not count:
        return True, Stream(source.schema, iter(()))
    whole = pa.concat_batches(begun)
    values = [pa.chunked_array([key(whole)]) for key in keys]
    table = in_order(pa.Table.from_batches([whole]), values, orders)
    return True, Stream(source.schema, iter(table.to_batches()))


def in_order(rows: pa.Table, keys: Sequence[pa.ChunkedArray], orders: Sequence[str]) -> pa.Table:
    """`rows` by `keys`; an order is as in `Sort`, NaN is larger than every number.

    Examples
    --------
    >>> table = pa.table({"x": [2.0, None, float("nan"), 1.0]})
    >>> in_order(table, [table["x"]], ["desc nulls last"])["x"].to_pylist()
    [nan, 2.0, 1.0, None]
    """
    columns: list[pa.ChunkedArray] = []
    directions: list[str] = []
    for key, order in zip(keys, orders, strict=True):
        direction = "descending" if order.startswith("desc") else "ascending"
        columns.append(kernels.is_null(key).cast(pa.int8()))
        directions.append("ascending" if order.endswith("last") else "descending")
        if pa.types.is_floating(key.type):
            columns.append(kernels.is_nan(key).cast(pa.int8()))
            directions.append(direction)
        columns.append(key.cast(pa.int8()) if pa.types.is_boolean(key.type) else key)
        directions.append(direction)
    names = [f"k{i}" for i in range(len(columns))]
    found = kernels.sort_indices(
        pa.table(columns, names=names), sort_keys=list(zip(names, directions, strict=True))
    )
    return rows.take(found)
