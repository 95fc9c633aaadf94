"""Filters and projections done on the batches themselves."""

from __future__ import annotations

from collections.abc import Generator

import pyarrow as pa

from gradbase.ir.relational import Project
from gradbase.ir.scalar import Column, Scalar
from gradbase.runtime.arrow_types import arrow_type
from gradbase.runtime.expressions import Compute
from gradbase.runtime.streams import Stream


def filtered(source: Stream, predicate: Compute) -> Stream:
    """The rows for which `predicate` is true."""
    batches = (b.filter(predicate(b)) for b in source.batches)
    return Stream(source.schema, batches, recut=True)


def projected(source: Stream, node: Project, computes: list[Compute]) -> Stream:
    """One column per expression of `node`."""
    pairs = zip(node.names, node.exprs, strict=True)
    schema = pa.schema([_field(n, e, source.schema) for n, e in pairs])

    def batches() -> Generator[pa.RecordBatch]:
        for batch in source.batches:
            columns = [compute(batch) for compute in computes]
            yield pa.RecordBatch.from_arrays(columns, schema=schema)

    return Stream(schema, batches(), recut=source.recut)


def _field(name: str, expression: Scalar, schema: pa.Schema) -> pa.Field:
    if isinstance(expression, Column):
        return schema.field(expression.name).with_name(name)
    return pa.field(name, arrow_type(expression.type))
