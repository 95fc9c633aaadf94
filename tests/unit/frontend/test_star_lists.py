"""Stars with EXCLUDE, REPLACE and RENAME, written out for an engine that has not these words."""

from __future__ import annotations

import pytest

from gradbase.engines.duckdb import DuckDBEngine
from gradbase.errors import BindError
from gradbase.frontend.rich import Asker
from gradbase.frontend.star_lists import without_star_lists
from gradbase.frontend.structure import Text


@pytest.fixture(scope="module")
def engine():
    engine = DuckDBEngine(None)
    engine.run('CREATE TABLE t AS SELECT 1 AS a, 2 AS b, 3 AS "c d"')
    engine.run("CREATE TABLE u AS SELECT 1 AS a, 5 AS e")
    yield engine
    engine.close()


def written(engine, sql, offered=()):
    return without_star_lists(Text.of(sql), Asker(engine, {}), frozenset(offered)).sql


CASES = {
    "exclude": ("SELECT * EXCLUDE (b) FROM t", 'SELECT "a", "c d" FROM t'),
    "spark's word": ("SELECT * EXCEPT (A) FROM t", 'SELECT "b", "c d" FROM t'),
    "without parentheses": ("SELECT * EXCLUDE b FROM t", 'SELECT "a", "c d" FROM t'),
    "replace": ("SELECT * REPLACE (a + 1 AS a) FROM t", 'SELECT a + 1 AS a, "b", "c d" FROM t'),
    "rename": ("SELECT * RENAME (b AS x) FROM t", 'SELECT "a", "b" AS x, "c d" FROM t'),
    "several": (
        'SELECT 0, * EXCLUDE ("c d") REPLACE (7 AS b), 1 FROM t',
        'SELECT 0, "a", 7 AS b, 1 FROM t',
    ),
    "qualified": (
        "SELECT u.e, t.* EXCLUDE (a) FROM t JOIN u USING (a)",
        'SELECT u.e, t."b", t."c d" FROM t JOIN u USING (a)',
    ),
    "nested": (
        "SELECT * EXCLUDE (z) FROM (SELECT * REPLACE (b * 2 AS b), 1 AS z FROM t) q",
        'SELECT "a", "b", "c d" FROM (SELECT "a", b * 2 AS b, "c d", 1 AS z FROM t) q',
    ),
    "with": (
        "WITH w AS (SELECT * EXCLUDE (a) FROM t) SELECT * EXCLUDE (b) FROM w",
        'WITH w AS (SELECT "b", "c d" FROM t) SELECT "c d" FROM w',
    ),
    "over predictions": (
        "SELECT * EXCLUDE (a) FROM (SELECT a, PREDICT(m, *) AS p FROM t) q",
        'SELECT "p" FROM (SELECT a, PREDICT(m, *) AS p FROM t) q',
    ),
    "a function and a product": ("SELECT a * replace('1', '1', '2') FROM t", None),
    "a set operation": ("SELECT * FROM t EXCEPT (SELECT * FROM t)", None),
    "a table nobody knows": ("SELECT * EXCLUDE (a) FROM nowhere", None),
}


@pytest.mark.parametrize(("sql", "expected"), CASES.values(), ids=CASES)
def test_written_out(engine, sql, expected):
    """None: stays as it is."""
    assert written(engine, sql) == (sql if expected is None else expected)


def test_words_the_engine_has_stay(engine):
    """Only a star with a word that is not offered is written out."""
    sql = "SELECT * EXCLUDE (a) FROM t"
    assert written(engine, sql, ("EXCLUDE",)) == sql


def test_wrong_names(engine):
    """Names are looked up; columns of one name cannot be told apart."""
    with pytest.raises(BindError, match="EXCLUDE names `bb`, which is no column") as caught:
        written(engine, "SELECT * EXCLUDE (bb) FROM t")
    assert "`b`" in caught.value.hint
    with pytest.raises(BindError, match="columns of the same name"):
        written(engine, "SELECT * EXCLUDE (b) FROM t, u")
