"""Predictions by plain SQL: the model's text stands where the prediction stood."""

from __future__ import annotations

from gradbase.engines.base import Engine
from gradbase.ir.learning import Predict
from gradbase.ir.node import Node, find, transform
from gradbase.ir.relational import Relation, SqlFragment
from gradbase.ir.scalar import Column
from gradbase.runtime.encode import Blobs
from gradbase.runtime.export.sql_text import SqlModel

SQL = "sql"
_ROWS = "\0"
"""Stands for the rows in the text, where no text of ours has it."""


def in_sql(plan: Relation, engine: Engine, blobs: Blobs) -> Relation:
    """`plan` with every prediction whose representation is ``sql`` as a part of the SQL."""
    if not any(n.representation == SQL for n in find(plan, Predict)):
        return plan
    made = transform(plan, lambda n: _fragment(n, engine, blobs))
    assert isinstance(made, Relation)
    return made


def _fragment(n: Node, engine: Engine, blobs: Blobs) -> SqlFragment | None:
    if not isinstance(n, Predict) or n.representation != SQL:
        return None
    columns = n.child.schema
    text = SqlModel(n.model, blobs, "gb_sql_").adding(
        _ROWS,
        columns.names,
        [Column(f, columns.type_of(f)) for f in n.features],
        dict(zip(n.names, n.methods, strict=True)),
        engine.dialect,
    )
    before, _, after = text.partition(_ROWS)
    return SqlFragment((before, after), (n.child,), n.schema, gaps=(0,))
