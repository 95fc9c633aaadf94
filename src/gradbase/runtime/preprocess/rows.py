"""Rows that were kept: scalars computed over them, learnt from, and turned into other rows."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from gradbase.ir.conversion import Numeric
from gradbase.ir.derived import Derived
from gradbase.ir.relational import Project, Scan
from gradbase.ir.scalar import Column, Scalar, scalars
from gradbase.ir.types import INT64, Field, Schema
from gradbase.runtime.columns import numbers
from gradbase.runtime.context import RunContext
from gradbase.runtime.encode import Blobs, encode
from gradbase.runtime.expressions import Compute, compile_scalar
from gradbase.runtime.train.rows import Block, RowStore, Trains
from gradbase.runtime.train.statistics import Floats, Values

T = TypeVar("T")
Bools = npt.NDArray[np.bool_]

_names = itertools.count(1)
_ROW = "__gb_row"


class Computed:
    """Scalars over batches: in the program where it can, else by the engine.

    Parameters
    ----------
    scalars : sequence of Scalar
        Over the batches' columns.
    context : RunContext
    blobs : Blobs
        Where long vocabularies are.
    """

    def __init__(self, scalars: Sequence[Scalar], context: RunContext, blobs: Blobs) -> None:
        self._context = context
        self._here: dict[int, Compute] = {}
        self._there: dict[int, Scalar] = {}
        for i, scalar in enumerate(scalars):
            compute = compile_scalar(scalar, context.parameters, blobs)
            if compute is not None:
                self._here[i] = compute
            else:
                self._there[i] = scalar

    def __call__(self, batch: pa.RecordBatch) -> list[pa.Array]:
        """One array per scalar."""
        found = {i: compute(batch) for i, compute in self._here.items()}
        if self._there:
            arrays = self._by_engine(batch)
            found.update(zip(self._there, arrays, strict=True))
        return [found[i] for i in range(len(found))]

    def _by_engine(self, batch: pa.RecordBatch) -> list[pa.Array]:
        """An engine reads the batch as a view; rows are put back into their order."""
        view = f"__gradbase_rows_{os.getpid()}_{next(_names)}"
        rows = pa.table({**dict(zip(batch.schema.names, batch.columns, strict=True)),
                         _ROW: np.arange(batch.num_rows)})  # fmt: skip
        used = {c.name: c.of for s in self._there.values() for c in scalars(s, Column)}
        order = Column(_ROW, INT64)
        schema = Schema((*(Field(n, t) for n, t in used.items()), Field(_ROW, order.of)))
        names = (*(f"c{i}" for i in self._there), _ROW)
        plan = Project(Scan(view, "", schema), names, (*self._there.values(), order))
        engine: Any = self._context.engine
        found: pa.Table = engine.fetch(
            engine.compile(plan), self._context.parameters or None, views={view: rows}
        )
        found = found.sort_by(_ROW).combine_chunks()
        return [found.column(n).combine_chunks() for n in names[:-1]]


class StoredExamples:
    """The rows of a store that are learnt from (see `learn.Examples`).

    Parameters
    ----------
    store : RowStore
    trains : bool[rows] or None
        Which rows; None: all.
    context : RunContext
    blobs : Blobs
        Where long vocabularies are.
    """

    def __init__(
        self, store: RowStore, trains: Trains | None, context: RunContext, blobs: Blobs
    ) -> None:
        self._store, self._trains, self._context, self._blobs = store, trains, context, blobs

    def numbers(self, scalar: Scalar, name: str) -> Values:
        """Values float64[rows, 1] of a scalar, NaN where missing.

        Raises
        ------
        DataError
            One is ±Inf; names its row and the scalar's column, `name` where it is computed.
        """
        shown = scalar.name if isinstance(scalar, Column) else name

        def chunks() -> Iterator[Floats]:
            for block, column, trains in self._columns(scalar):
                values = numbers(column, "value", shown).astype(np.float64)
                if column.null_count:
                    values[column.is_null().to_numpy(zero_copy_only=False)] = np.nan
                if np.isinf(values[trains]).any():
                    _refuse(block, column, shown)
                yield values[trains, None]

        return self._held(chunks)

    def arrays(self, scalar: Scalar) -> Callable[[], Iterator[pa.Array]]:
        """Values of a scalar, again and again."""

        def chunks() -> Iterator[pa.Array]:
            for _, column, trains in self._columns(scalar):
                yield column.filter(pa.array(trains))

        return self._held(chunks)

    def _held(self, chunks: Callable[[], Iterator[T]]) -> Callable[[], Iterator[T]]:
        """The same chunks, computed once where memory allows it."""
        if self._store.spilled:
            return chunks
        held: list[T] = []

        def again() -> Iterator[T]:
            if not held:
                held.extend(chunks())
            return iter(held)

        return again

    def _columns(self, scalar: Scalar) -> Iterator[tuple[Block, pa.Array, Bools]]:
        compute = Computed([scalar], self._context, self._blobs)
        for block in self._store.blocks():
            self._context.check_cancelled()
            rows = block.rows.num_rows
            trains = np.ones(rows, np.bool_)
            if self._trains is not None:
                trains = self._trains[block.start : block.start + rows]
            yield block, compute(block.rows)[0], trains


def _refuse(block: Block, column: pa.Array, name: str) -> None:
    """Raise the error of an infinite number in `column`."""
    of_column = block.replaced(pa.RecordBatch.from_arrays([column], [name]))
    refuse = Numeric(0.0, 1.0, indicator=False)
    of_column.located(name, lambda c, first: encode(c, refuse, name=name, first_row=first))


def derive(
    store: RowStore, columns: Sequence[Derived], made: RowStore, context: RunContext, blobs: Blobs
) -> None:
    """Fill `made` with `columns` of the rows of `store`, in their order and places."""
    compute = Computed([c.expr for c in columns], context, blobs)
    names = [c.name for c in columns]
    for block in store.blocks():
        context.check_cancelled()
        made.add(block.replaced(pa.RecordBatch.from_arrays(compute(block.rows), names)))
    made.finish()
