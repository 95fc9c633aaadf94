"""One state of the database for several connections, and tables that only they know about."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
from collections.abc import Generator
from urllib.parse import quote

import psycopg
import pyarrow as pa
from psycopg.conninfo import conninfo_to_dict

from gradbase.engines.base import SideTable, quote_identifier
from gradbase.engines.postgres.connections import Connection, Connections
from gradbase.engines.postgres.views import fill, made
from gradbase.errors import UnsupportedError

SNAPSHOT = "gradbase.snapshot"
"""The setting by which an address says which state of the database is read there."""
_OWNED = 0x67_62
"""Key of the advisory locks of those who own side tables; the second key is the table's number."""
_IN_ADDRESS = re.compile(rf"{re.escape(SNAPSHOT)}=([0-9A-Fa-f-]+)")
_ABANDONED = """
SELECT tablename FROM pg_catalog.pg_tables
WHERE schemaname = 'gradbase' AND tablename ~ '^side_\\d+$'
"""


def snapshot_of(url: str) -> str:
    """The exported snapshot that an address names; empty where it names none."""
    found = _IN_ADDRESS.search(str(conninfo_to_dict(url).get("options") or ""))
    return found[1] if found else ""


def why_not(home: Connections, sql: str) -> str:
    """Why others cannot be asked for rows of a query; empty where they can."""
    if home.needs_main(sql):
        return "other connections do not see what it reads (a temporary table, an open transaction)"
    may = "SELECT bool_or(has_schema_privilege(oid, 'CREATE')) FROM pg_namespace WHERE nspname = %s"
    with home.other() as connection:
        ((allowed,),) = connection.execute(may, ["gradbase"]).fetchall()
    return "the role may make no table in schema gradbase" if allowed is False else ""


@contextlib.contextmanager
def exported(home: Connections) -> Generator[str]:
    """The name of what is committed now, kept until the block ends."""
    with home.other() as holder:
        holder.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        try:
            holder.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
            ((name,),) = holder.execute("SELECT pg_export_snapshot()").fetchall()
            yield str(name)
        finally:
            with contextlib.suppress(psycopg.OperationalError):  # the server may be gone
                holder.execute("ROLLBACK")


@contextlib.contextmanager
def in_snapshot(connection: Connection, snapshot: str, *, writes: bool) -> Generator[None]:
    """A transaction of `connection` that reads an exported state."""
    begin = f"BEGIN ISOLATION LEVEL REPEATABLE READ{' READ WRITE' if writes else ''}"
    connection.execute(begin.encode())
    try:
        connection.execute(f"SET TRANSACTION SNAPSHOT '{snapshot}'".encode())
        yield
    finally:
        if not connection.closed and not connection.copying:
            with contextlib.suppress(psycopg.OperationalError):
                connection.execute("ROLLBACK")


@contextlib.contextmanager
def side_table(home: Connections, rows: pa.Table, snapshot: str) -> Generator[SideTable]:
    """Rows where other connections see them, until the block ends; see `SideTables`."""
    if home.in_transaction:
        raise UnsupportedError(
            "other connections do not see what the open transaction changed",
            hint="COMMIT first",
        )
    with home.other() as owner:
        number = secrets.randbelow(1 << 31)
        owner.execute("SELECT pg_advisory_lock(%s, %s)", [_OWNED, number])
        try:
            with owner.transaction():
                _sweep(owner)
                name = _write(owner, number, rows)
            try:
                yield SideTable(name, address_of(home, snapshot))
            finally:
                _drop(owner, name)
        finally:
            with contextlib.suppress(psycopg.OperationalError):
                owner.execute("SELECT pg_advisory_unlock(%s, %s)", [_OWNED, number])


def _write(owner: Connection, number: int, rows: pa.Table) -> str:
    """A frozen table: its rows are seen in snapshots that are older than itself."""
    owner.execute("CREATE SCHEMA IF NOT EXISTS gradbase")
    name = f"gradbase.{quote_identifier(f'side_{number}')}"
    owner.execute(f"CREATE UNLOGGED TABLE {name} ({made(rows.schema)})".encode())
    fill(owner, name, rows.schema, rows.to_batches(), frozen=True)
    owner.execute(f"ANALYZE {name}".encode())
    return name


def _sweep(owner: Connection) -> None:
    """Drop tables whose owner is gone: a lock that is free has none."""
    for (name,) in owner.execute(_ABANDONED).fetchall():
        number = int(str(name).removeprefix("side_"))
        query = "SELECT pg_try_advisory_xact_lock(%s, %s)"
        if owner.execute(query, [_OWNED, number]).fetchall() == [(True,)]:
            owner.execute(f"DROP TABLE IF EXISTS gradbase.{quote_identifier(str(name))}".encode())


def _drop(owner: Connection, name: str) -> None:
    """Who still reads it may finish; where that takes long, the next one sweeps it up."""
    with contextlib.suppress(psycopg.OperationalError), owner.transaction():
        owner.execute("SET LOCAL lock_timeout = '5s'")
        owner.execute(f"DROP TABLE IF EXISTS {name}".encode())


def address_of(home: Connections, snapshot: str) -> str:
    """A URL of the same database, with the session's settings and the state that is read there."""
    given = str(conninfo_to_dict(home.url).get("options") or os.environ.get("PGOPTIONS") or "")
    settings = [*home.settings, *([(SNAPSHOT, snapshot)] if snapshot else [])]
    ours = (f"-c {name}={_escaped(value)}" for name, value in settings)
    options = quote(" ".join([given, *ours]).strip(), safe="")
    return f"{home.url}{'&' if '?' in home.url else '?'}options={options}" if options else home.url


def _escaped(value: str) -> str:
    return re.sub(r"([\\\s])", r"\\\1", value)
