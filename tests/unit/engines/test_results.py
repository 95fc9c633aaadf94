"""Rows of DuckDB's own statements: the same values whichever way they are asked for."""

from __future__ import annotations

import datetime as dt
import threading
from decimal import Decimal

import pyarrow as pa
import pytest

from gradbase.engines import connect
from gradbase.engines.duckdb import queries
from gradbase.engines.duckdb.queries import Parser
from gradbase.engines.rows import rows_of
from gradbase.errors import CancelledError, EngineError

SLOW = "SELECT count(*) FROM range(10000000) a, range(10000000) b WHERE (a.range * b.range) % 7 = 3"
VALUES = (
    ("true", True),
    ("(-3)::TINYINT", -3),
    ("200::UTINYINT", 200),
    ("18446744073709551615::UBIGINT", 2**64 - 1),
    ("1::HUGEINT", 1),
    ("170141183460469231731687303715884105727::HUGEINT", 2**127 - 1),
    ("0.1::FLOAT", 0.10000000149011612),
    ("'-inf'::DOUBLE", float("-inf")),
    ("'é'", "é"),
    ("'{}'::JSON", "{}"),
    ("'a'::ENUM('a', 'b')", "a"),
    ("'\\xff'::BLOB", b"\xff"),
    ("1.25::DECIMAL(9, 2)", Decimal("1.25")),
    ("DATE '2020-02-29'", dt.date(2020, 2, 29)),
    ("TIMESTAMP '2020-01-01 10:00:00.000001'", dt.datetime(2020, 1, 1, 10, 0, 0, 1)),  # noqa: DTZ001
    ("TIME '10:00'", dt.time(10)),
    ("INTERVAL '1 month 2 days 3 seconds'", dt.timedelta(days=32, seconds=3)),
    ("'infinity'::DATE", dt.date.max),
    ("DATE '290000-01-01'", "290000-01-01"),
    ("DATE '0044-03-15 (BC)'", "0044-03-15 (BC)"),
    ("'-infinity'::TIMESTAMP", dt.datetime.min),  # noqa: DTZ901
    ("TIMESTAMP '20000-01-01 10:00:00.5'", "20000-01-01 10:00:00.5"),
    ("MAP {'k': 1::HUGEINT}", {"k": 1}),
    ("[1::HUGEINT, NULL]", [1, None]),
    ("{'a': 1::HUGEINT, 'b': INTERVAL 1 DAY}", {"a": 1, "b": dt.timedelta(days=1)}),
    ("[1.0, 2.0]::FLOAT[2]", [1.0, 2.0]),
    ("'5c884578-727f-4ad7-94f9-571e920ee9b2'::UUID", "5c884578-727f-4ad7-94f9-571e920ee9b2"),
    ("NULL", None),
)


@pytest.mark.parametrize(("sql", "expected"), VALUES)
def test_values_do_not_depend_on_the_way(engine, sql, expected):
    """Tuples first, Arrow first, and Arrow after tuples."""
    query = f"SELECT {sql} AS v UNION ALL SELECT NULL"
    rows_first, arrow_first = engine.run(query), engine.run(query)
    rows, table = rows_first.fetchall(), arrow_first.arrow()

    assert sorted(map(repr, rows)) == sorted(map(repr, arrow_first.fetchall()))
    later = rows_first.arrow()
    assert later.column_names == table.column_names == rows_first.columns == ["v"]
    assert sorted(map(repr, rows_of(later))) == sorted(map(repr, rows))
    assert later.schema == table.schema or expected == 2**127 - 1  # has no place in 38 digits
    if expected is not None:
        assert (expected,) in rows


def test_texts_of_one_form_keep_what_is_their_own(engine):
    """Names and types may follow from a number or a string."""
    for sql, name, value in (
        ("1", "1", 1),
        ("2", "2", 2),
        ("'x'", "'x'", "x"),
        ("3.50", "3.50", Decimal("3.50")),
    ):
        result = engine.run(f"SELECT {sql}")
        assert result.columns == [name]
        assert result.fetchall() == [(value,)]
        assert result.arrow().to_pydict() == {name: [value]}
        assert engine.types(f"SELECT {sql}")[0][0] == name


def test_empty_results_keep_their_columns(engine):
    for query in ("SELECT 1 AS a, 'x' AS b LIMIT 0", "SELECT [1] AS a, 'x' AS b LIMIT 0"):
        result = engine.run(query)
        assert result.fetchall() == []
        assert result.arrow().schema == engine.fetch(query).schema
        assert result.columns == ["a", "b"]


def test_columns_are_told_without_running(engine):
    engine.run("CREATE SEQUENCE s")
    result = engine.run("SELECT i, i AS i FROM range(3) t(i) WHERE i < error('not run')")
    assert result.columns == ["i", "i"]
    with pytest.raises(EngineError, match="not run"):
        result.fetchall()


@pytest.mark.parametrize(
    ("sql", "rows"),
    [
        ("CREATE TABLE u (i INTEGER)", []),
        ("CREATE TABLE u AS SELECT 1 AS i", [(1,)]),
        ("INSERT INTO t VALUES (3), (4)", [(2,)]),
        ("INSERT INTO t VALUES (3), (4) RETURNING i + 1", [(4,), (5,)]),
        ("UPDATE t SET i = 9 WHERE i > 100", [(0,)]),
        ("UPDATE t SET i = 9 WHERE i > 100 RETURNING i AS changed", []),
        ("DELETE FROM t", [(2,)]),
        ("SET threads = 1", []),
        ("BEGIN", []),
        ("WITH w AS (INSERT INTO t VALUES (7) RETURNING i) SELECT * FROM w", [(7,)]),
        ("SELECT nextval('s') AS n", [(1,)]),
        ("CALL pragma_version()", None),
        ("EXPLAIN SELECT 1", None),
    ],
)
def test_what_changes_something_runs_now_and_once(engine, sql, rows):
    """Whether anybody asks for rows or not."""
    engine.run("CREATE SEQUENCE s; CREATE TABLE t AS SELECT range AS i FROM range(1, 3)")
    result = engine.run(sql)
    assert rows is None or result.fetchall() == result.fetchall() == rows
    assert rows is None or rows_of(result.arrow()) == rows
    if "changed" in sql:
        assert result.columns == ["changed"]
    if "WITH" in sql:
        assert engine.run("SELECT count(*) FROM t").fetchall() == [(3,)]
    if "nextval" in sql:
        assert engine.run("SELECT nextval('s')").fetchall() == [(2,)]


def test_what_is_wrong_is_said_before_rows_are_asked_for(engine):
    """Also where the text was fine a moment ago."""
    engine.run("CREATE TABLE t AS SELECT 1 AS i")
    for number in range(3):
        assert engine.run(f"SELECT i FROM t WHERE i > {number}").columns == ["i"]
    engine.run("DROP TABLE t")
    with pytest.raises(EngineError, match="t does not exist"):
        engine.run("SELECT i FROM t WHERE i > 5")


def test_texts_of_one_form_are_parsed_once():
    parsed = []

    class Statement:
        type = type("Kind", (), {"name": "SELECT"})
        named_parameters: frozenset[str] = frozenset()

    def statements(sql):
        parsed.append(sql)
        return [Statement()]

    parser = Parser(statements)
    for sql in ("SELECT 1, 'a'", "SELECT 2, 'it''s'", "SELECT 1, 'a'", "SELECT 3.5, ''"):
        assert parser.parse(sql).kinds == ("SELECT",)
    assert parsed == ["SELECT 1, 'a'"]
    apart = ("SELECT a1", "SELECT a2", 'SELECT "1"', 'SELECT "2"', "SELECT $$1$$", "SELECT $1")
    for sql in (*apart, "SELECT 1 -- '", "SELECT E'\\'1'", "SELECT 1 /* ' */"):
        parser.parse(sql)
        assert parsed[-1] == sql
    parser.forget()
    parser.parse("SELECT 1, 'a'")
    assert parsed[-1] == "SELECT 1, 'a'"


def test_a_word_inside_a_string_does_not_decide_for_others(engine):
    """`RETURNING` as text, then as a clause; both of one form."""
    engine.run("CREATE TABLE t (s VARCHAR)")
    assert engine.run("INSERT INTO t VALUES ('returning')").fetchall() == [(1,)]
    assert engine.run("INSERT INTO t VALUES ('x')").fetchall() == [(1,)]
    assert engine.run("INSERT INTO t VALUES ('y') RETURNING s").fetchall() == [("y",)]


def test_a_type_that_follows_from_a_parameter(engine):
    query = "SELECT $1 AS v"
    for value in (1, 2**40, "x", 1.5, [1, 2], dt.date(2020, 1, 1), None, Decimal("1.25")):
        result = engine.run(query, [value])
        assert result.fetchall() == [(value,)]
        assert result.arrow().num_rows == 1


def test_a_client_without_methods_of_its_own_below_relations(engine, monkeypatch):
    """Public methods do the same."""

    class Public:
        """A connection that shows what is documented."""

        def __init__(self, connection):
            self._connection = connection

        def __getattr__(self, name):
            if name in ("_submit", "_bind"):
                raise AttributeError(name)
            return getattr(self._connection, name)

    connection = Public(engine._connections.main)
    parsed = engine._connections.parse("SELECT $a + 1 AS n")
    values = {"a": 1}
    assert queries.table(connection, "SELECT $a + 1 AS n", values).to_pydict() == {"n": [2]}
    reader = queries.reader(connection, "SELECT * FROM range(10) t(i)", None, 4)
    assert [b.num_rows for b in reader] == [4, 4, 2]
    bound = queries.bind(connection, parsed, "SELECT $a + 1 AS n", values)
    assert (bound.names, [str(t) for t in bound.types], bound.writes) == (["n"], ["INTEGER"], False)
    engine.run("CREATE SEQUENCE s")
    parsed = engine._connections.parse("SELECT nextval('s') AS n")
    assert queries.bind(connection, parsed, "SELECT nextval('s') AS n", None).writes
    assert engine.run("SELECT nextval('s')").fetchall() == [(1,)]


# -- connections that serve again --------------------------------------------------------------


def test_settings_hold_for_connections_that_served_before(engine):
    query = "SELECT current_setting('TimeZone') AS z"
    engine.run(query).fetchall()
    for zone in ("Asia/Tokyo", "Europe/Berlin"):
        engine.run(f"SET TimeZone = '{zone}'")
        assert engine.run(query).fetchall() == [(zone,)]


def test_a_frame_does_not_outlive_its_registration(engine):
    query = "SELECT sum(a)::INTEGER FROM frame"
    for _ in range(2):
        engine.register("frame", pa.table({"a": [1, 2]}))
        assert engine.run(query).fetchall() == [(3,)]
        engine.unregister("frame")
        with pytest.raises(EngineError, match="frame does not exist"):
            engine.run(query).fetchall()


def test_a_failed_query_leaves_nothing_behind(engine):
    for _ in range(20):
        with pytest.raises(EngineError, match="stop"):
            engine.run("SELECT error('stop')").fetchall()
    assert engine._connections._idle == []
    assert engine.run("SELECT 1").fetchall() == [(1,)]
    assert len(engine._connections._idle) == 1


def test_a_transaction_is_noticed_at_its_begin_and_end(engine):
    engine.run("CREATE TABLE t AS SELECT 1 AS i")
    for _ in range(2):
        engine.run("BEGIN")
        engine.run("INSERT INTO t VALUES (2)")
        assert engine.run("SELECT count(*) FROM t").fetchall() == [(2,)]
        engine.run("ROLLBACK")
        assert engine.run("SELECT count(*) FROM t").fetchall() == [(1,)]
    with pytest.raises(EngineError):
        engine.run("ROLLBACK")
    assert engine.run("SELECT count(*) FROM t").fetchall() == [(1,)]


# -- cancelling --------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["arrow", "fetchall", "stream"])
def test_cancelling_one_result_leaves_others_alone(engine, way):
    """The other query, started before, gets its answer."""
    other, found = engine.run("SELECT count(*) FROM range(60000000) t(i) WHERE i % 7 < 8"), []
    thread = threading.Thread(target=lambda: found.append(other.fetchall()))
    slow = engine.run(SLOW)
    timer = threading.Timer(0.2, slow.cancel)
    thread.start()
    timer.start()
    with pytest.raises(CancelledError):
        read(slow, way)
    thread.join()
    timer.join()
    assert found == [[(60000000,)]]


def read(result, way):
    if way == "stream":
        with result.stream() as reader:
            reader.read_all()
    else:
        getattr(result, way)()


def test_cancelling_what_does_not_run_does_nothing(engine):
    result = engine.run("SELECT 1")
    result.cancel()
    assert result.fetchall() == [(1,)]
    result.cancel()
    assert engine.run("SELECT 2").fetchall() == [(2,)]
    engine.run("CREATE TEMP TABLE mine AS SELECT 1").cancel()


def test_cancelling_on_the_connection_that_all_share(engine):
    """A query on a temporary table waits for its turn; cancelling it then stops nobody."""
    engine.run("CREATE TEMP TABLE mine AS SELECT 1 AS one")
    first = engine.run("SELECT count(*) FROM range(60000000) t(i), mine WHERE i % 7 < 8")
    second, found = engine.run("SELECT one FROM mine"), []
    threads = [
        threading.Thread(target=lambda r=r: found.append(r.fetchall())) for r in (first, second)
    ]
    for thread in threads:
        thread.start()
    second.cancel()
    for thread in threads:
        thread.join()
    assert sorted(found) == [[(1,)], [(60000000,)]]


def test_closing_while_connections_wait(tmp_path):
    engine = connect(tmp_path / "a.duckdb")
    engine.run("SELECT 1").fetchall()
    engine.close()
    assert engine._connections._idle == []
    again = connect(tmp_path / "a.duckdb")
    again.close()
