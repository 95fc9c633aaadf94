"""The server's and the driver's exceptions as ours."""

from __future__ import annotations

import contextlib
from collections.abc import Generator

import psycopg

from gradbase.errors import (
    CancelledError,
    ConnectionLostError,
    EngineError,
    GradbaseError,
    ResourceError,
    StoreError,
)

_HINTS = {
    "42501": "ask the owner for the right (GRANT …), or connect with another role",
    "25006": "connect without read_only=True",
    "57014": "raise statement_timeout (SET statement_timeout = …), or read fewer rows",
    "42P01": "check the name and the search_path",
}
"""SQLSTATE -> way out, where the server names none."""

_FULL = ("53100", "53200", "54000")
_BUSY = ("53300", "53400")
_GONE = ("57P01", "57P02", "57P03", "57P05", "08000", "08001", "08003", "08004", "08006")


def translate(error: psycopg.Error) -> GradbaseError:
    """Our exception for one of psycopg's; the text is the server's own."""
    state = error.sqlstate or ""
    text = message_of(error)
    if state == "57014" and "timeout" not in text:
        return CancelledError("the statement was cancelled")
    if state in _GONE or (not state and isinstance(error, psycopg.OperationalError)):
        return ConnectionLostError(
            f"the connection to the server is lost or cannot be made: {text}",
            hint="run the statement again when the server is back: the session connects anew; "
            "RESUME SEARCH goes on with a training",
        )
    if state == "53100":
        return StoreError(text, hint="make room on the server's disk; nothing has changed")
    if state in _BUSY:
        return ResourceError(text, hint="close other sessions, or raise max_connections")
    if state in _FULL:
        return ResourceError(text, hint="the server's memory is too small for the statement")
    if state == "25006":
        return StoreError(f"{text} (the database is read-only)", hint=_HINTS[state])
    return EngineError(text, hint=error.diag.message_hint or _HINTS.get(state))


def message_of(error: psycopg.Error) -> str:
    """Severity, message, detail and the place, as psql shows them."""
    diagnosed = error.diag
    if not diagnosed.message_primary:
        return str(error).strip() or type(error).__name__
    return str(error).strip()


@contextlib.contextmanager
def translated() -> Generator[None]:
    """Raise psycopg's exceptions inside the block as ours, the original being the cause."""
    try:
        yield
    except psycopg.Error as error:
        raise translate(error) from error
