"""Rows given in any form, as a query for as long as a block lasts."""

from __future__ import annotations

import itertools
import weakref
from collections import deque
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from gradbase.errors import DataError

if TYPE_CHECKING:
    from gradbase.session.handles import Table
    from gradbase.session.session import Session

_frames = itertools.count()
_names: deque[str] = deque()
"""Names of views that nobody uses now."""

_dropped: weakref.WeakKeyDictionary[Session, deque[str]] = weakref.WeakKeyDictionary()
"""Views whose `Table` is gone, to be forgotten by the next who makes one."""


class Rows:
    """A `Table`, the name of one, a query, an Arrow table, a pandas or Polars DataFrame as SQL."""

    def __init__(self, session: Session, rows: Any) -> None:
        self.session, self.rows, self.view = session, rows, ""

    def __enter__(self) -> str:
        from gradbase.session.handles import Table

        rows = self.rows
        if isinstance(rows, str):
            rows = Table.named(self.session, rows)
        if isinstance(rows, Table):
            return rows.query
        self.view = _view_name()
        self.session.register(self.view, rows)
        return f"SELECT * FROM {self.session.engine.dialect.identifier(self.view)}"

    def __exit__(self, *exception: object) -> None:
        if self.view:
            self.session.unregister(self.view)
            _names.append(self.view)  # the same name again finds the plan that was kept


def checked(rows: Any) -> Any:
    """Rows in a form that engines read: a data frame, or anything that gives Arrow's C stream.

    Raises
    ------
    DataError
    """
    if type(rows).__module__.partition(".")[0] in ("pandas", "polars", "pyarrow"):
        return rows
    if hasattr(rows, "__arrow_c_stream__"):
        return pa.table(rows)
    raise DataError(
        f"rows are given as {type(rows).__name__}; expected an Arrow table, a pandas or Polars "
        "DataFrame, the name of a table or a query",
        hint="pyarrow.table({'column': [1, 2]}) makes a table",
    )


def table_of(session: Session, rows: Any) -> Table:
    """Rows as a `Table`, whose view of the session is forgotten some time after it."""
    from gradbase.session.handles import Table

    for name in list(_dropped.get(session, ())):
        session.unregister(name)
        _dropped[session].remove(name)
    name = _view_name()
    session.register(name, rows)
    found = Table(session, f"SELECT * FROM {session.engine.dialect.identifier(name)}")
    # Only noted: the collector may run while this thread holds what forgetting a view needs.
    weakref.finalize(found, _dropped.setdefault(session, deque()).append, name)
    return found


def _view_name() -> str:
    try:
        return _names.pop()
    except IndexError:
        return f"__gradbase_rows_{next(_frames)}"
