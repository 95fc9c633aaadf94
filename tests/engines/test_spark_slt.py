"""A file of SQL tests on Spark: its tables come from DuckDB, its statements run on Spark."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pytest
import sqlglot

import gradbase as gb
from gradbase.frontend.words import is_ours
from gradbase.testing.servers import spark
from gradbase.testing.slt import Config, Target, run_file

SLT = Path(__file__).parents[1] / "slt"


class Done:
    """A statement without rows."""

    columns: tuple = ()

    def fetchall(self):
        return []


class OnSpark:
    """A session on Spark whose tables DuckDB makes: those statements are written in its language."""

    def __init__(self, db):
        self.db, self.tables = db, duckdb.connect()

    def sql(self, text):
        if is_ours(text):
            return self.db.sql(text)
        if text.lstrip()[:6].upper() in ("SELECT", "VALUES"):
            return self.db.sql(sqlglot.transpile(text, read="duckdb", write="spark")[0])
        self.tables.execute(text)
        for (name,) in self.tables.execute("SELECT table_name FROM duckdb_tables()").fetchall():
            self.db.register(name, self.tables.table(name).to_arrow_table())
        return Done()

    @property
    def last_plan(self):
        return self.db.last_plan

    def close(self):
        self.tables.close()
        self.db.close()


@pytest.mark.slow
@pytest.mark.xdist_group("spark")
@pytest.mark.parametrize("name", ["predict_joins"])
def test_file(name, tmp_path):
    """Each record does what it says."""
    session = spark().newSession()

    def connect(_):
        return OnSpark(gb.connect(session, store=tmp_path / "store", progress=False))

    target = Target("spark", "", "duckdb")
    assert run_file(SLT / f"{name}.slt", connect, Config(ensure=False), tmp_path, target) > 0
