"""PEP 249: gradbase for tools that speak to databases through Python's common interface.

>>> from gradbase import dbapi
>>> with dbapi.connect() as connection:
...     connection.cursor().execute("SELECT ? + 1 AS n", [41]).fetchone()
(42,)
"""

from __future__ import annotations

from gradbase.dbapi.connection import Connection, connect
from gradbase.dbapi.cursor import Cursor
from gradbase.dbapi.errors import (
    DatabaseError,
    DataError,
    Error,
    IntegrityError,
    InterfaceError,
    InternalError,
    NotSupportedError,
    OperationalError,
    ProgrammingError,
    Warning,  # noqa: A004 (the name is PEP 249's)
)
from gradbase.dbapi.types import (
    BINARY,
    DATETIME,
    NUMBER,
    ROWID,
    STRING,
    Binary,
    Date,
    DateFromTicks,
    Time,
    TimeFromTicks,
    Timestamp,
    TimestampFromTicks,
)

apilevel = "2.0"
threadsafety = 2
"""Threads may share the module and connections; each needs cursors of its own."""
paramstyle = "qmark"
"""``?``; ``$1`` and, with a mapping, ``$name`` work as well."""

__all__ = [
    "BINARY",
    "DATETIME",
    "NUMBER",
    "ROWID",
    "STRING",
    "Binary",
    "Connection",
    "Cursor",
    "DataError",
    "DatabaseError",
    "Date",
    "DateFromTicks",
    "Error",
    "IntegrityError",
    "InterfaceError",
    "InternalError",
    "NotSupportedError",
    "OperationalError",
    "ProgrammingError",
    "Time",
    "TimeFromTicks",
    "Timestamp",
    "TimestampFromTicks",
    "Warning",
    "apilevel",
    "connect",
    "paramstyle",
    "threadsafety",
]
