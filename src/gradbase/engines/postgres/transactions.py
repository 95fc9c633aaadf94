"""Statements with their values as the server's own parameters, alone or together."""

from __future__ import annotations

from typing import Any

import psycopg
import pyarrow as pa

from gradbase.engines.base import Parameters
from gradbase.engines.postgres.connections import Connection
from gradbase.engines.postgres.errors import translated
from gradbase.engines.postgres.parameters import by_name, pieces, plain
from gradbase.engines.postgres.views import fill
from gradbase.engines.rows import Row
from gradbase.errors import BindError


class PostgresTransaction:
    """Statements that happen together or not at all."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._cursor: Any = None

    def execute(self, sql: str, parameters: Parameters = None) -> PostgresTransaction:
        """Run a statement; its rows wait for `fetchall`."""
        with translated():
            self._cursor = execute(self._connection, sql, parameters)
        return self

    def fetchall(self) -> list[Row]:
        """Rows of the last statement, once."""
        cursor, self._cursor = self._cursor, None
        return [] if cursor is None or cursor.description is None else cursor.fetchall()

    def insert(self, table: str, rows: pa.Table) -> None:
        """Add rows to a table; `table` is quoted already, columns go by name."""
        with translated():
            fill(self._connection, table, rows.schema, rows.to_batches())


def execute(connection: Connection, sql: str, parameters: Parameters) -> Any:
    """Run one statement; returns the cursor. Text without parameters goes as it is."""
    values = by_name(parameters)
    cursor = psycopg.RawCursor(connection)
    if not values:
        return cursor.execute(sql.encode())
    numbers: dict[str, int] = {}
    text = ""
    for before, name in pieces(sql):
        text += before
        if name:
            text += f"${numbers.setdefault(name, len(numbers) + 1)}"
    missing = [name for name in numbers if name not in values]
    if missing:
        raise BindError(f"parameter ${missing[0]} has no value; {len(values)} were given")
    return cursor.execute(text.encode(), [plain(values[name]) for name in numbers])
