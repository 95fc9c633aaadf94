"""What SQL of the engine sees of results that are computed here."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pyarrow as pa

from gradbase.engines.base import View
from gradbase.ir.node import Node
from gradbase.ir.relational import Aggregate, Project, Relation


def read_of(relation: Relation, above: Iterable[Node]) -> list[str]:
    """Columns of `relation` that SQL reads, as far as what reads it names them; else all."""
    every, read = list(relation.schema.names), set[str]()
    for node in above:
        match node:
            case Aggregate() | Project() if node.child is relation:
                exprs = (
                    (*node.keys, *node.aggregates) if isinstance(node, Aggregate) else node.exprs
                )
                read = read.union(*(e.columns for e in exprs))
            case Relation() if node is relation or any(c is relation for c in node.children):
                return every
            case _:
                pass
    return [name for name in every if name in read] or every[:1]


def narrowed(view: View, names: list[str]) -> View:
    """A view of these columns only: an engine may have to copy it."""
    if len(names) == len(view.schema):
        return view
    rows: Any = view
    if isinstance(view, pa.Table):
        return rows.select(names)
    places = [view.schema.get_field_index(name) for name in names]
    schema = pa.schema([view.schema.field(place) for place in places])
    batches = (
        pa.RecordBatch.from_arrays([b.column(p) for p in places], schema=schema) for b in rows
    )
    return pa.RecordBatchReader.from_batches(schema, batches)
