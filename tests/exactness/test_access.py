"""However workers get at their rows, trials come to the same bits."""

from __future__ import annotations

import contextlib

import pytest
import torch
from inline_workers import inline  # noqa: F401 (a fixture)

import gradbase as gb
from gradbase.engines.postgres import PostgresEngine
from gradbase.errors import EngineError
from gradbase.runtime.train import targeted
from gradbase.selection.executors import remote_executor, supplying
from gradbase.testing.servers import postgres_url

ROWS = """
SELECT i AS id, sin(i) AS a, cos(i * i) AS b, 1 + i % 2 AS w,
CASE WHEN i % 3 = 0 THEN 'x' ELSE 'z' END AS c,
CASE WHEN sin(i) + cos(3 * i) > 0 THEN 1 ELSE 0 END AS y FROM
"""


pytestmark = pytest.mark.usefixtures("inline")


def trained(db, **options):
    given = {"split": "random", "row_key": ["id"], "instance_weight_col": "w"} | options
    study = db.table("t").fit(
        gb.mlp(hidden=gb.choice([8], [6, 4]), dropout=0.2), target="y", name="m", replace=True,
        lr=gb.loguniform(1e-3, 0.1), batch_size=16, epochs=2, trials=3, early_stop=False, seed=3,
        shards=3, **{name: value for name, value in given.items() if value is not None},
    )  # fmt: skip
    history = study.history.drop(columns="seconds").sort_values(["trial", "epoch"])
    return history.to_json(), study.report()


def opened(engine):
    db = gb.connect(postgres_url() if engine == "postgresql" else ":memory:", progress=False)
    rows = "generate_series(0, 120) AS r(i)" if engine == "postgresql" else "range(121) r(i)"
    db.sql(f"CREATE TABLE t AS {ROWS} {rows}")
    db.sql("SET gradbase.disabled_rules = 'fuse_fits'")
    return db


CASES = [
    ("duckdb", "direct", {}, "direct"),
    ("duckdb", "export", {"shard_order": "staggered"}, "export"),
    ("duckdb", "export", {"split": "no_split"}, "export"),
    ("duckdb", "targeted", {}, "export"),  # no other process can open the file
    ("postgresql", "targeted", {}, "targeted"),
    pytest.param(
        "postgresql",
        "targeted",
        {"shard_order": "staggered", "split": "no_split"},
        "targeted",
        marks=pytest.mark.slow,
    ),
    pytest.param("postgresql", "targeted", {"row_key": None}, "export", marks=pytest.mark.slow),
    ("postgresql", "targeted", {"row_key": ["w"]}, "export"),  # not unique
]


@pytest.mark.parametrize(("engine", "access", "options", "found"), CASES)
def test_any_access_gives_the_same_trials(engine, access, options, found):
    with opened(engine) as db:
        expected, _ = trained(db, **options)
        history, report = trained(
            db, executor="processes", workers=2, shard_access=access, **options
        )
        assert history == expected
        assert report.access == found
        assert f"access to rows: {found}" in str(report)
        if found == "targeted":
            left = "SELECT tablename FROM pg_tables WHERE tablename LIKE 'side%'"
            assert not db.sql(left).fetchall()


def test_rows_that_are_others_than_those_read_are_an_error(monkeypatch):
    """Should a database not keep the state that the search began with."""
    make = targeted.make_part

    def thawed(engine):
        return contextlib.nullcontext(engine)

    monkeypatch.setattr(PostgresEngine, "frozen", thawed)

    def changed(*args):
        db.sql("UPDATE t SET a = a + 1 WHERE id = 7")
        make(*args)

    monkeypatch.setattr(supplying, "make_part", changed)
    with opened("postgresql") as db, pytest.raises(EngineError, match="rows of the training query"):
        trained(db, executor="processes", workers=1, shard_access="targeted")


def test_a_worker_that_does_not_see_the_folder_is_sent_the_rows(monkeypatch):
    """As one on another machine."""
    monkeypatch.setattr(
        supplying.Supplied, "opened", _elsewhere(supplying.Supplied.opened), raising=True
    )
    with opened("duckdb") as db:
        expected, _ = trained(db)
        assert trained(db, executor="processes", workers=2, shard_access="direct")[0] == expected


def _elsewhere(opened_by):
    def opened(self, message, cache_bytes):
        return opened_by(self, {**message, "access": "export"}, cache_bytes)

    return opened


def test_names_of_files_stay_in_the_workers_folder():
    taken = supplying.Supplied()
    taken.take({"data": "rows"}, {"file:../../escaped": torch.zeros(3, dtype=torch.uint8)})
    assert [p.name for p in taken._folder("rows").iterdir()] == ["escaped"]


def test_rows_that_others_change_meanwhile(monkeypatch):
    """Workers read the state that the search began with."""
    plain = remote_executor.side_rows
    with opened("postgresql") as db:
        expected = trained(db, executor="in_process")[0]

        def changed(data, keyed):
            db.engine.run("UPDATE t SET a = a + 1")
            db.engine.run("DELETE FROM t WHERE id % 5 = 0")
            return plain(data, keyed)

        monkeypatch.setattr(remote_executor, "side_rows", changed)
        found, report = trained(db, executor="processes", workers=1, shard_access="targeted")
        assert found == expected
        assert report.access == "targeted"
        assert db.sql("SELECT count(*) FROM t").fetchall() == [(96,)]


def test_temporary_tables_go_as_files():
    """No other connection sees them."""
    with opened("postgresql") as db:
        expected = trained(db, executor="in_process")[0]
        db.sql("ALTER TABLE t RENAME TO kept").fetchall()
        db.sql("CREATE TEMPORARY TABLE t AS SELECT * FROM kept").fetchall()
        found, report = trained(db, executor="processes", workers=1, shard_access="targeted")
        assert (found, report.access) == (expected, "export")
