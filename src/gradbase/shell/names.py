"""Names that a statement may use: tables, columns, models and their versions."""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass, field

from gradbase.engines import quote_identifier
from gradbase.errors import GradbaseError
from gradbase.session import Session

_COLUMNS = """
SELECT table_schema, table_name, column_name FROM information_schema.columns
WHERE table_catalog = current_database()
AND table_schema NOT IN ('information_schema', 'pg_catalog')
ORDER BY table_schema, table_name, ordinal_position
"""
_PLAIN = re.compile(r"[a-z_][a-z0-9_]*", re.IGNORECASE)


@dataclass
class Known:
    """Names as they were when they were asked for.

    `tables` has the columns of each, by the table's name as it would be written.
    """

    tables: dict[str, list[str]] = field(default_factory=dict[str, list[str]])
    models: list[str] = field(default_factory=list[str])

    def columns(self, table: str) -> list[str]:
        """Columns of a table; [] where there is none of that name."""
        folded = table.casefold()
        for name, columns in self.tables.items():
            if name.casefold() in (folded, f"main.{folded}") or folded == f"main.{name}".casefold():
                return columns
        return []


class Names:
    """Asks the session, once until something may have changed.

    Parameters
    ----------
    session : Session
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._known: Known | None = None

    def forget(self) -> None:
        """A statement has run: ask again."""
        self._known = None

    @property
    def known(self) -> Known:
        """What there is."""
        found = self._known
        if found is None:
            found = self._known = self._ask()
        return found

    def versions(self, model: str) -> list[str]:
        """Numbers and aliases of the versions of a model."""
        with contextlib.suppress(GradbaseError):
            rows = self._session.store.list_versions(model).to_pylist()
            numbers = [str(row["version"]) for row in rows]
            return numbers + [a for row in rows for a in (row["aliases"] or "").split(", ") if a]
        return []

    def _ask(self) -> Known:
        known = Known()
        # A transaction that failed answers nothing; a damaged catalog is for `fsck` to tell.
        with contextlib.suppress(GradbaseError):
            for schema, table, column in self._session.sql(_COLUMNS).fetchall():
                name = written(table) if schema == "main" else f"{written(schema)}.{written(table)}"
                known.tables.setdefault(name, []).append(written(column))
        with contextlib.suppress(GradbaseError):
            known.models = list(map(written, self._session.store.names()))
        return known


def written(name: str) -> str:
    """A name as SQL has it, quoted where it must be.

    Examples
    --------
    >>> print(written("age"), written("Größe"), written("2nd"))
    age "Größe" "2nd"
    """
    return name if _PLAIN.fullmatch(name) else quote_identifier(name)
