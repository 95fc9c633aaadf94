"""`Preprocess`: columns computed in the program, learnt from all rows where they must be."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterator

import pyarrow as pa

from gradbase.ir.analytic import analytics
from gradbase.ir.derived import Derived
from gradbase.ir.learning import Model, Preprocess
from gradbase.runtime.arrow_types import arrow_type
from gradbase.runtime.context import RunContext
from gradbase.runtime.encode import Blobs as StoredBlobs
from gradbase.runtime.preprocess.learn import Blobs, learned
from gradbase.runtime.preprocess.rows import Computed, StoredExamples
from gradbase.runtime.streams import Stream, watched
from gradbase.runtime.train.rows import RowStore
from gradbase.runtime.train.spill import spill_folder


def preprocess_stream(node: Preprocess, source: Stream, context: RunContext) -> Stream:
    """`source` with one more column per expression.

    Rows pass by as they come; where something is learnt from them they are kept first, in half of
    the memory that is free and beyond that in a file.

    Raises
    ------
    DataError
        A number to be learnt from is ±Inf.
    """
    added = [pa.field(n, arrow_type(e.type)) for n, e in zip(node.names, node.exprs, strict=True)]
    schema = pa.schema([*source.schema, *added])
    columns = tuple(Derived(n, e) for n, e in zip(node.names, node.exprs, strict=True))
    waits = any(analytics(e) for e in node.exprs)
    rows = (_learnt if waits else _computed)(columns, source.batches, context, schema)
    return Stream(schema, rows, source.recut)


def _computed(
    columns: tuple[Derived, ...],
    batches: Iterator[pa.RecordBatch],
    context: RunContext,
    schema: pa.Schema,
    blobs: StoredBlobs | None = None,
) -> Generator[pa.RecordBatch]:
    compute = Computed([c.expr for c in columns], context, blobs or context.blobs)
    for batch in watched(batches, context):
        made = [a.cast(f.type) for a, f in zip(compute(batch), _last(schema, columns), strict=True)]
        yield pa.RecordBatch.from_arrays([*batch.columns, *made], schema=schema)


def _last(schema: pa.Schema, columns: tuple[Derived, ...]) -> list[pa.Field]:
    return [schema.field(i) for i in range(len(schema) - len(columns), len(schema))]


def _learnt(
    columns: tuple[Derived, ...],
    batches: Iterator[pa.RecordBatch],
    context: RunContext,
    schema: pa.Schema,
) -> Generator[pa.RecordBatch]:
    with contextlib.ExitStack() as stack:
        store = RowStore(context.broker.free()[1] // 2, lambda: spill_folder(context))
        stack.callback(store.close)
        for batch in watched(batches, context):
            store.append(batch, store.rows, None)
        store.finish()
        made = Blobs(context.blobs)
        found = learned(columns, StoredExamples(store, None, context, made), made)
        kept = (block.rows for block in store.blocks())
        yield from _computed(found, kept, context, schema, made)


class Reads:
    """The columns that a model's network reads, of batches of its features.

    Parameters
    ----------
    model : Model
    context : RunContext
    """

    def __init__(self, model: Model, context: RunContext) -> None:
        self._names = [f.name for f in model.features]
        self._compute: Computed | None = None
        if model.columns:
            self._compute = Computed([c.expr for c in model.columns], context, context.blobs)
            self._columns = [c.name for c in model.columns]

    def __call__(self, features: pa.RecordBatch) -> pa.RecordBatch:
        """A batch of `Model.reads`; `features` hold the model's features in order."""
        if self._compute is None:
            return features
        named = pa.RecordBatch.from_arrays(features.columns, self._names)
        return pa.RecordBatch.from_arrays(self._compute(named), self._columns)
