"""EXPORT MODEL … TO SQL: a view that predicts without gradbase."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa

from gradbase.engines import quote_identifier
from gradbase.errors import BindError, near
from gradbase.runtime.export.sql_text import SqlModel
from gradbase.session.altering import located

if TYPE_CHECKING:
    from gradbase.frontend.export_statement import ExportSql
    from gradbase.ir.learning import Model
    from gradbase.session.session import Session


def export_sql(session: Session, statement: ExportSql) -> pa.Table:
    """Make the view; returns its name and its query."""
    with located(statement.model):
        handle = session.model(statement.model.name, statement.model.version, statement.trial)
        rows = statement.rows or session.store.lineage(handle.name, handle.version).query
    if not rows:
        raise BindError(
            f"model `{handle.name}` was not trained on a query: there are no rows to predict for",
            at=statement.model.at,
            hint=f"EXPORT MODEL {handle.name} TO SQL FROM table",
        )
    text = sql_of(session, handle.model, rows, statement.dialect or session.engine.name)
    view = ""
    if not statement.dialect:
        view = statement.view or f"{handle.name}_predictions"
        session.engine.run(f"CREATE OR REPLACE VIEW {quote_identifier(view)} AS {text}").arrow()
    return pa.table({"view": [view], "bytes": [len(text)], "sql": [text]})


def sql_of(session: Session, model: Model, rows: str, dialect: str) -> str:
    """The query that adds a model's predictions to `rows`, a query, in a dialect of sqlglot's.

    Raises
    ------
    BindError
        `rows` lacks a column that the model reads.
    UnsupportedError
        A part of the model has no SQL, by name.
    """
    names = session.engine.schema(rows).names
    for feature in model.features:
        if feature.name not in names:
            raise BindError(
                f"model `{model.name}` reads column `{feature.name}`, the rows have "
                f"{', '.join(names)}",
                hint=near(feature.name, names),
            )
    return SqlModel(model, session.store.blobs).query(f"({rows}\n)", names, dialect)
