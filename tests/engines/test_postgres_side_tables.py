"""Targeted queries: workers ask for marked rows of the state that the coordinator read."""

from __future__ import annotations

import contextlib

import psycopg
import pyarrow as pa
import pytest

from gradbase.engines import connect
from gradbase.errors import EngineError, UnsupportedError
from gradbase.testing.servers import postgres_url

KEYS = pa.table({"key": [1, 2, 3, 4], "place": [0, 1, 2, 3], "shard": [0, 0, 1, 1]})
SIDES = "SELECT tablename FROM pg_tables WHERE schemaname = 'gradbase' AND tablename LIKE 'side%'"


@pytest.fixture
def url():
    return postgres_url()


@pytest.fixture
def engine(url):
    with contextlib.closing(connect(url)) as engine:
        engine.run(
            "CREATE TABLE points AS SELECT i AS id, i * 10 AS x FROM generate_series(1, 4) i"
        )
        yield engine


def asked(side, shard, query="SELECT id, x FROM points"):
    """What a worker finds."""
    with contextlib.closing(connect(side.address, read_only=True)) as worker:
        sql = f"SELECT q.x FROM ({query}) q JOIN {side.name} s ON q.id = s.key WHERE s.shard = $n"
        return sorted(worker.fetch(sql, {"n": shard})["x"].to_pylist())


def test_workers_read_what_the_coordinator_read(engine):
    """Whatever is committed meanwhile: the side table itself is younger than the state."""
    with engine.frozen() as reader:
        engine.run("UPDATE points SET x = -1")
        engine.run("DELETE FROM points WHERE id = 2")
        assert engine.fetch("SELECT x FROM points")["x"].to_pylist() == [-1] * 3
        assert reader.fetch("SELECT x FROM points")["x"].to_pylist() == [10, 20, 30, 40]
        with reader.side_table(KEYS) as side:
            assert (asked(side, 0), asked(side, 1)) == ([10, 20], [30, 40])
    assert engine.fetch("SELECT x FROM points")["x"].to_pylist() == [-1] * 3


def test_without_a_frozen_state_they_read_what_is_committed(engine):
    """And a session's settings hold for them too."""
    engine.run("CREATE SCHEMA \"an 'other'\"")
    engine.run("CREATE TABLE \"an 'other'\".few AS SELECT 1 AS id, 7 AS x")
    engine.run("SET search_path = \"an 'other'\", public")
    with engine.side_table(KEYS) as side:
        assert asked(side, 0, "SELECT id, x FROM few") == [7]


def test_statistics_of_one_state(engine):
    """Moments, counts and rows agree though another session writes between them."""
    with engine.frozen() as reader:
        before = reader.exact_moments("SELECT x FROM points", ["x"])
        engine.run("INSERT INTO points VALUES (5, 1000)")
        assert reader.exact_moments("SELECT x FROM points", ["x"]) == before
        assert reader.distinct_counts("SELECT x FROM points", ["x"]) == {"x": 4}


def test_workers_change_nothing(engine):
    """Their address is read-only."""
    with (
        engine.side_table(KEYS) as side,
        contextlib.closing(connect(side.address, read_only=True)) as worker,
        pytest.raises(Exception, match="read-only"),
    ):
        worker.run("DELETE FROM points")


def test_tables_of_a_process_that_died_are_swept(engine, url):
    """By whoever makes the next one; those in use stay."""
    with engine.side_table(KEYS) as side:
        with psycopg.connect(url, autocommit=True) as other:
            other.execute("CREATE TABLE gradbase.side_12345 (key bigint)")
        with engine.side_table(KEYS):
            left = {f'gradbase."{n}"' for n in engine.fetch(SIDES)["tablename"].to_pylist()}
            assert len(left) == 2
            assert side.name in left
    assert engine.fetch(SIDES).num_rows == 0


def test_what_others_do_not_see(engine):
    """Temporary tables and open transactions."""
    assert engine.why_not_targeted("SELECT * FROM points") == ""
    engine.run("CREATE TEMPORARY TABLE mine AS SELECT 1 AS id")
    assert "a temporary table" in engine.why_not_targeted("SELECT * FROM mine")
    engine.run("BEGIN")
    with pytest.raises(UnsupportedError, match="open transaction"), engine.side_table(KEYS):
        pass
    engine.run("ROLLBACK")


def test_a_role_that_may_make_no_table(engine, url):
    """The server's own words."""
    name = "side_reader"
    engine.run(f"CREATE ROLE {name} LOGIN")
    engine.run(f"GRANT SELECT ON points TO {name}")
    engine.run("CREATE SCHEMA gradbase")
    with contextlib.closing(connect(url.replace("postgres:", f"{name}:", 1))) as reader:
        refused = pytest.raises(EngineError, match=r"permission denied[\s\S]*GRANT")
        with refused, reader.side_table(KEYS):
            pass
        assert "may make no table" in reader.why_not_targeted("SELECT * FROM points")
        assert reader.fetch("SELECT count(*) AS n FROM points")["n"].to_pylist() == [4]
