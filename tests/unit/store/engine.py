"""The smallest engine that a store can live in."""

from __future__ import annotations

import contextlib
from pathlib import Path

import duckdb

from gradbase.errors import EngineError


class Handle:
    """An open transaction."""

    def __init__(self, cursor):
        self.cursor = cursor

    def execute(self, sql, params=()):
        with mapped():
            self.cursor.execute(sql, list(params))
        return self

    def fetchall(self):
        return self.cursor.fetchall()


@contextlib.contextmanager
def mapped():
    """DuckDB's errors as ours."""
    try:
        yield
    except duckdb.Error as error:
        raise EngineError(str(error)) from error


class SmallEngine:
    """DuckDB with one cursor a transaction."""

    name = "duckdb"

    def __init__(self, path=None, *, read_only=False):
        self.path = None if path is None else Path(path)
        self.read_only = read_only
        self.connection = duckdb.connect(str(path or ":memory:"), read_only=read_only)

    @contextlib.contextmanager
    def transaction(self):
        cursor = self.connection.cursor()
        cursor.execute("BEGIN")
        try:
            yield Handle(cursor)
        except BaseException:
            cursor.execute("ROLLBACK")
            raise
        else:
            with mapped():
                cursor.execute("COMMIT")
        finally:
            cursor.close()

    def fetch(self, sql, parameters=None):
        with mapped():
            cursor = self.connection.cursor()
            return cursor.sql(sql, params=parameters or None).to_arrow_table()

    def close(self):
        self.connection.close()
