"""Whether the server could run Python: what a plan says of the representation ``udf``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

_ASK = """
SELECT EXISTS (SELECT 1 FROM pg_catalog.pg_available_extensions WHERE name = 'plpython3u'),
 EXISTS (SELECT 1 FROM pg_catalog.pg_language WHERE lanname = 'plpython3u'),
 coalesce((SELECT has_language_privilege(oid, 'USAGE') AND (lanpltrusted OR
  (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user))
  FROM pg_catalog.pg_language WHERE lanname = 'plpython3u'), false), current_user::text
"""


def why_no_functions(rows: Callable[[str], list[Any]]) -> str:
    """Why predictions do not run in the server; `rows` asks it."""
    ((available, there, allowed, role),) = rows(_ASK)
    if not available and not there:
        return "the server has no plpython3u, in which functions of Python would run"
    if not there:
        return (
            "plpython3u is not in this database (a superuser's CREATE EXTENSION plpython3u), and "
            "rows are not predicted there yet"
        )
    if not allowed:
        return (
            f"role {role} may make no functions in plpython3u, an untrusted language, and rows are "
            "not predicted there yet"
        )
    return "rows are not predicted in plpython3u yet: they come here by binary COPY"
