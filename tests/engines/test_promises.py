"""What engines promise of the rows of a table, and of which tables they promise nothing."""

from __future__ import annotations

from contextlib import closing

import pytest

from gradbase.engines import connect
from gradbase.ir.facts import Promises
from gradbase.testing.servers import postgres_url

ENGINES = {"duckdb": lambda: connect(":memory:"), "postgres": lambda: connect(postgres_url())}
TABLES = (
    "CREATE TABLE d (k INTEGER PRIMARY KEY, name TEXT UNIQUE, z DOUBLE PRECISION NOT NULL, w INTEGER)",
    "CREATE TABLE f (id INTEGER, k INTEGER NOT NULL REFERENCES d (k), name TEXT)",
    'CREATE TABLE "Odd name" ("a b" INTEGER, c INTEGER, UNIQUE ("a b", c))',
    "CREATE VIEW v AS SELECT * FROM d",
    "INSERT INTO d VALUES (1, 'one', 0.5, NULL), (2, NULL, 2, 3)",
)


@pytest.fixture(params=list(ENGINES), scope="module")
def engine(request):
    made = ENGINES[request.param]()
    for text in TABLES:
        made.run(text)
    yield made
    made.close()


def test_keys_and_columns_without_null(engine):
    found = engine.statistics.promises("d", ("k", "name", "z", "w"))
    assert found.unique == {frozenset({"k"}), frozenset({"name"})}
    assert found.filled == {"k", "z"}


def test_foreign_keys_say_which_table(engine):
    (reference,) = engine.statistics.promises("f").references
    assert (reference.columns, reference.referenced) == (("k",), ("k",))
    assert reference.identity == engine.statistics.promises("d").identity


def test_names_as_they_are_quoted(engine):
    found = engine.statistics.promises('"Odd name"')
    assert found.unique == {frozenset({"a b", "c"})}
    schema = {"duckdb": "main"}.get(engine.name, "public")
    assert engine.statistics.promises(f'{schema}."Odd name"') == found


@pytest.mark.parametrize(
    "name", ["v", "nothing", "(SELECT 1)", "d; DROP TABLE d", "read_csv('x.csv')", ""]
)
def test_nothing_is_promised_of_what_is_no_table(engine, name):
    assert engine.statistics.promises(name) is None


def test_bounds_of_the_storage_are_promises_as_they_are_now():
    with closing(connect(":memory:")) as engine:
        engine.run("CREATE TABLE t AS SELECT i AS n, i / 2.0 AS x FROM range(9) r(i)")
        asked = engine.statistics.promises
        assert asked("t", ("n", "x")) == Promises(
            "memory.main.t", filled=frozenset({"n", "x"}), ranges={"n": (0.0, 8.0), "x": (0.0, 4.0)}
        )
        engine.run("INSERT INTO t VALUES (-17, 3.9)")
        assert asked("t", ("n", "x")).ranges == {"n": (-18.0, 8.0), "x": (0.0, 4.0)}
        engine.run("INSERT INTO t VALUES (9, 'nan')")
        assert asked("t", ("n", "x")).ranges.keys() == {"n"}
        engine.run("INSERT INTO t VALUES (NULL, '-inf')")
        assert asked("t", ("n", "x")).filled == {"x"}


@pytest.mark.parametrize(
    "text",
    [
        "CREATE TEMP TABLE t (k INTEGER)",
        "CREATE TEMP VIEW t AS SELECT 1 AS k",
        "CREATE SCHEMA s; CREATE TABLE s.t (k INTEGER)",
        "ALTER TABLE t ADD COLUMN c TEXT COLLATE NOCASE",
    ],
)
def test_of_a_name_that_may_mean_another_table_nothing_is_promised(text):
    with closing(connect(":memory:")) as engine:
        engine.run("CREATE TABLE t (k INTEGER PRIMARY KEY)")
        assert engine.statistics.promises("t") is not None
        for part in text.split(";"):
            engine.run(part)
        assert engine.statistics.promises("t") is None


UNCHECKED = {
    "deferrable": ("ALTER TABLE d2 ADD PRIMARY KEY (k) DEFERRABLE",),
    "not validated": (
        "ALTER TABLE d2 ADD CONSTRAINT r FOREIGN KEY (k) REFERENCES d (k) NOT VALID",
    ),
}


@pytest.mark.parametrize("kind", list(UNCHECKED))
def test_constraints_that_are_not_checked_now_are_no_promises(kind):
    with closing(ENGINES["postgres"]()) as engine:
        engine.run(TABLES[0])
        engine.run("CREATE TABLE d2 (k INTEGER)")
        for text in UNCHECKED[kind]:
            engine.run(text)
        found = engine.statistics.promises("d2")
        assert (found.unique, found.references) == (frozenset(), frozenset())


@pytest.mark.parametrize(
    "text",
    [
        "ALTER TABLE d ENABLE ROW LEVEL SECURITY",
        "CREATE TABLE more () INHERITS (d)",
    ],
)
def test_tables_whose_rows_are_not_what_constraints_see_promise_nothing(text):
    with closing(ENGINES["postgres"]()) as engine:
        engine.run(TABLES[0])
        engine.run(text)
        assert engine.statistics.promises("d") is None
