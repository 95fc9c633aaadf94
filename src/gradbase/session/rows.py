"""Rows given in any form, as a query for as long as a block lasts."""

from __future__ import annotations

import itertools
from collections import deque
from typing import TYPE_CHECKING, Any

from gradbase.engines import quote_identifier

if TYPE_CHECKING:
    from gradbase.session.session import Session

_frames = itertools.count()
_names: deque[str] = deque()
"""Names of views that nobody uses now."""


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
        return f"SELECT * FROM {quote_identifier(self.view)}"

    def __exit__(self, *exception: object) -> None:
        if self.view:
            self.session.unregister(self.view)
            _names.append(self.view)  # the same name again finds the plan that was kept


def _view_name() -> str:
    try:
        return _names.pop()
    except IndexError:
        return f"__gradbase_rows_{next(_frames)}"
