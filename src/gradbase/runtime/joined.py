"""`PredictJoined`: what a network says of a dimension's row is looked up, not computed again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from gradbase.ir.factored import PredictJoined, RowNumber, table_name
from gradbase.ir.learning import Model
from gradbase.ir.tensor import Param
from gradbase.runtime.arrow_types import arrow_type
from gradbase.runtime.columns import kernels, row_numbers
from gradbase.runtime.context import RunContext
from gradbase.runtime.encode import Blobs
from gradbase.runtime.program import Program

Array = npt.NDArray[Any]
Run = Callable[[pa.RecordBatch, int], list[pa.Array]]


def numbered(name: str, table: pa.Table) -> pa.Table:
    """`table` with the number of each row as column `name`."""
    return table.append_column(name, pa.array(np.arange(table.num_rows, dtype=np.int64)))


class Joined:
    """The program of a `PredictJoined` over what its tables hold.

    Parameters
    ----------
    node : PredictJoined
    tables : sequence of pa.Table
        The rows of ``node.tables``.
    context : RunContext
    """

    def __init__(
        self, node: PredictJoined, tables: Sequence[pa.Table], context: RunContext
    ) -> None:
        self._absent = tuple(_may_be_absent(node, row) for row in node.rows)
        found: list[tuple[Array, Array | None]] = []
        for place, (table, name) in enumerate(zip(tables, node.vectors, strict=True)):
            column = table.column(name)
            if self._absent[place]:
                first = _of_nulls(node.parts[place], context)
                column = pa.chunked_array([first.cast(column.type), *column.chunks], column.type)
            found.append(_matrix(column))
        self._nulls = [nulls for _, nulls in found]
        held = _Held(context.blobs, {table_name(i): matrix for i, (matrix, _) in enumerate(found)})
        bitwise = context.settings.exactness == "bitwise"
        self.program = Program(node.model, node.methods, held, bitwise=bitwise)
        self._first = len(node.features)

    def computed(self, run: Run, batch: pa.RecordBatch, first_row: int = 0) -> list[pa.Array]:
        """What `run` makes of a batch, NULL where a looked-up vector is."""
        nulls, made = self._null_rows(batch), run(batch, first_row)
        if nulls is None:
            return made
        kept = pa.array(~nulls)
        return [kernels.if_else(kept, c, pa.scalar(None, c.type)) for c in made]

    def _null_rows(self, features: pa.RecordBatch) -> Array | None:
        lost: Array | None = None
        for place, (nulls, absent) in enumerate(zip(self._nulls, self._absent, strict=True)):
            if nulls is not None:
                here = nulls[row_numbers(features.column(self._first + place), absent=absent)]
                lost = here if lost is None else lost | here
        return lost


def _may_be_absent(node: PredictJoined, row: str) -> bool:
    """Whether some of the numbers `row` are NULL."""
    inputs = (t for m in node.methods for t in node.model.output(m).inputs)
    return any(t.column == row and t.encoding == RowNumber(absent=True) for t in inputs)


def _of_nulls(part: Model, context: RunContext) -> pa.Array:
    """What `part` says of a row of NULLs."""
    columns = [pa.nulls(1, arrow_type(f.of)) for f in part.features]
    row = pa.RecordBatch.from_arrays(columns, [f.name for f in part.features])
    methods = [o.method for o in part.outputs]
    program = Program(part, methods, context.blobs)
    (found,) = program.runner([c.type for c in columns])(row)
    return found


def _matrix(column: pa.ChunkedArray) -> tuple[Array, Array | None]:
    """[rows, width] and where a vector is NULL."""
    whole = column.combine_chunks()
    if isinstance(whole, pa.ChunkedArray):
        whole = pa.concat_arrays(whole.chunks) if whole.num_chunks else pa.array([], column.type)
    if not pa.types.is_fixed_size_list(whole.type):
        values = whole.fill_null(0).to_numpy(zero_copy_only=False)[:, None]
        return values, _null_places(whole)
    width = whole.type.list_size
    made = np.zeros((len(whole), width), whole.type.value_type.to_pandas_dtype())
    nulls = _null_places(whole)
    made[slice(None) if nulls is None else ~nulls] = (
        whole.flatten().to_numpy(zero_copy_only=False).reshape(-1, width)
    )
    return made, nulls


def _null_places(array: pa.Array) -> Array | None:
    return array.is_null().to_numpy(zero_copy_only=False) if array.null_count else None


class _Held:
    """Stored constants, and the tables of this statement under names of their own."""

    def __init__(self, blobs: Blobs | None, tables: dict[str, Array]) -> None:
        self._blobs, self._tables = blobs, tables

    def array(self, param: Param) -> Array:
        found = self._tables.get(param.hash)
        if found is not None:
            return found
        assert self._blobs is not None
        return self._blobs.array(param)
