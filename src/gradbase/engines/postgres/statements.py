"""What can be seen of a statement's text without the server: does it read, may it wait?"""

from __future__ import annotations

import re

from gradbase.errors import UnsupportedError

_SPACE = re.compile(r"(?:\s+|--[^\n]*(?:\n|$)|/\*.*?\*/|\()*", re.DOTALL)
_WORD = re.compile(r"[A-Za-z]+")
_READING = ("select", "with", "values", "table")
_SKIPPED = re.compile(
    r"--[^\n]*|/\*.*?\*/|[eE]?'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|\$(\w*)\$.*?\$\1\$", re.DOTALL
)
_ACTING = re.compile(
    r"\b(insert|update|delete|merge|into|nextval|setval|currval|lastval|set_config|setseed|"
    r"pg_(try_)?advisory\w*|pg_notify|pg_backend_pid|pg_cancel_backend|pg_terminate_backend|"
    r"txid_current|pg_current_xact_id|lo_\w+|dblink\w*|for\s+(no\s+key\s+)?(update|key|share))\b",
    re.IGNORECASE,
)
_CLIENT = re.compile(r"copy\b.*\b(from\s+stdin|to\s+stdout)\b", re.IGNORECASE | re.DOTALL)


def first_word(sql: str) -> str:
    """The first word of a statement, in lower case; comments and parentheses do not count."""
    space = _SPACE.match(sql)
    word = _WORD.match(sql, space.end() if space else 0)
    return word[0].lower() if word else ""


def only_reads(sql: str) -> bool:
    """Whether it is a query that may wait and run anywhere: it changes nothing of the session."""
    if first_word(sql) not in _READING:
        return False
    return _ACTING.search(_SKIPPED.sub(" ", sql)) is None


def check_runnable(sql: str) -> None:
    """UnsupportedError for ``COPY`` from or to the client: there is no file to read from here."""
    if _CLIENT.match(sql.lstrip()):
        raise UnsupportedError(
            "COPY from STDIN or to STDOUT needs a client of its own",
            hint="db.register(name, rows) and INSERT INTO … SELECT; .arrow() of a query",
        )
