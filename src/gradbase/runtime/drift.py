"""ML.SCHEMA_DRIFT: rows at hand against the rows that a model was trained on."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from gradbase.ir.conversion import Category, ToTensor
from gradbase.ir.inspection import DriftColumn, SchemaDrift
from gradbase.ir.learning import Model
from gradbase.ir.node import find
from gradbase.ir.scalar import Column
from gradbase.ir.types import SqlType
from gradbase.ir.vocabulary import Coded
from gradbase.runtime.arrow_types import arrow_type
from gradbase.runtime.columns import numbers
from gradbase.runtime.context import RunContext
from gradbase.runtime.encode import Blobs, category_codes
from gradbase.runtime.preprocess.compute import lookup
from gradbase.runtime.streams import Stream, watched


class _Measured:
    """What one column of the rows holds, batch after batch."""

    def __init__(self, column: DriftColumn, vocabulary: Category | None) -> None:
        self.column, self.vocabulary = column, vocabulary
        self.rows = self.missing = self.unseen = 0
        self.total = 0.0
        self.numeric = column.found is not None and _has_mean(column.found)

    def add(self, values: pa.Array) -> None:
        self.rows += len(values)
        missing = values.null_count
        if self.numeric:
            numeric = numbers(values, "value", self.column.name).astype(np.float64)
            present = numeric[values.is_valid().to_numpy(zero_copy_only=False)]
            known = present[~np.isnan(present)]
            missing += len(present) - len(known)
            self.total += float(known.sum())
        elif self.vocabulary is not None:
            codes = category_codes(values.drop_null(), self.vocabulary)
            self.unseen += int((codes == 0).sum())
        self.missing += missing

    @property
    def null_share(self) -> float | None:
        return self.missing / self.rows if self.rows else None

    @property
    def unseen_share(self) -> float | None:
        """Of the rows that have a value."""
        present = self.rows - self.missing
        return self.unseen / present if self.vocabulary is not None and present else None

    @property
    def mean(self) -> float | None:
        present = self.rows - self.missing
        return self.total / present if self.numeric and present else None


def drift_batch(node: SchemaDrift, source: Stream, context: RunContext) -> list[pa.Array]:
    """The columns of ML.SCHEMA_DRIFT; one pass over the rows."""
    known = vocabularies(node.model, context.blobs)
    measured = {c.name: _measured(c, known) for c in node.columns if _is_read(c)}
    at = {name: source.schema.get_field_index(name) for name in measured}
    for batch in watched(source.batches, context):
        for name, column in measured.items():
            column.add(batch.column(at[name]))
    rows = [_row(c, measured.get(c.name)) for c in node.columns]
    types = [arrow_type(f.type) for f in node.schema]
    return [pa.array(values, t) for values, t in zip(zip(*rows, strict=True), types, strict=True)]


def _is_read(column: DriftColumn) -> bool:
    return bool(column.name) and column.trained is not None


def _measured(column: DriftColumn, known: dict[str, Category]) -> _Measured:
    is_text = column.found is not None and column.found.is_text
    return _Measured(column, known.get(column.column) if is_text else None)


def vocabularies(model: Model, blobs: Blobs | None) -> dict[str, Category]:
    """The categories that a model knows, by the feature that it reads them from.

    That is the network, or a function of TRANSFORM that looks the feature itself up.
    """
    exprs = [c.expr for c in model.columns]
    sources = {c.name: c.expr.name for c in model.columns if isinstance(c.expr, Column)}
    if not model.columns:
        sources = {f.name: f.name for f in model.features}
    tensors = (t for o in model.outputs for t in find(o, ToTensor))
    known = {
        sources[t.column]: t.encoding
        for t in tensors
        if isinstance(t.encoding, Category) and t.column in sources
    }
    for coded in dict.fromkeys(c for e in exprs for c in find(e, Coded)):
        if isinstance(coded.arg, Column) and coded.arg.type.is_text:
            known.setdefault(coded.arg.name, lookup(coded.vocabulary, blobs)[0])
    return known


def _has_mean(of: SqlType) -> bool:
    return of.is_numeric or of.is_temporal or of.kind == "bool"


def _row(column: DriftColumn, measured: _Measured | None) -> tuple[object, ...]:
    found = (None, None, None)
    if measured is not None:
        found = (measured.null_share, measured.unseen_share, measured.mean)
    null_share, unseen_share, mean = found
    types = (None if t is None else str(t) for t in (column.trained, column.found))
    return (
        column.column, column.status, *types, column.null_share, null_share, unseen_share,
        column.mean, mean,
    )  # fmt: skip
