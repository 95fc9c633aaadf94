"""Statements on DuckDB: laziness, parameters, errors, transactions, threads."""

from __future__ import annotations

import threading

import pyarrow as pa
import pytest

from gradbase.engines import Function, connect
from gradbase.errors import BindError, CancelledError, EngineError, ResourceError, StoreError
from gradbase.ir.types import BOOL, FLOAT64, INT64, TEXT, parse_type

SLOW = "SELECT count(*) FROM range(10000000) a, range(10000000) b WHERE (a.range * b.range) % 7 = 3"


def values(engine, sql, parameters=None):
    return engine.fetch(sql, parameters).to_pydict()


def test_queries_are_lazy_and_the_rest_runs_at_once(engine):
    """A query reads the table as it is when its rows are asked for."""
    engine.run("CREATE TABLE t AS SELECT 1 AS i")
    later = engine.run("SELECT i FROM t ORDER BY i")
    assert engine.run("INSERT INTO t VALUES (2)").fetchall() == [(1,)]
    assert later.fetchall() == [(1,), (2,)]


def test_result_in_every_form(engine):
    """Arrow, pandas, Polars, tuples, batches."""
    result = engine.run("SELECT range AS i, 'x' AS s FROM range(3)")
    assert result.columns == ["i", "s"]
    assert result.arrow().num_rows == 3
    assert result.df()["i"].tolist() == [0, 1, 2]
    assert result.pl()["s"].to_list() == ["x"] * 3
    with engine.run("SELECT * FROM range(10)").stream(4) as reader:
        assert [b.num_rows for b in reader] == [4, 4, 2]


def test_wide_integers_come_back_as_integers(engine):
    """The sum of integers is HUGEINT, a decimal in Arrow, an int in Python."""
    assert engine.run("SELECT sum(range) FROM range(4)").fetchall() == [(6,)]
    assert type(engine.run("SELECT sum(range) FROM range(4)").fetchall()[0][0]) is int


def test_every_kind_of_parameters(engine):
    """By position, number and name; names that the text lacks are not bound."""
    assert engine.run("SELECT ? + ?", [1, 2]).fetchall() == [(3,)]
    assert engine.run("SELECT $1 + $2", [1, 2]).fetchall() == [(3,)]
    assert engine.run("SELECT $a + 1", {"a": 1, "unused": 9}).fetchall() == [(2,)]
    assert engine.run("SELECT '$a'", {"a": 1}).fetchall() == [("$a",)]
    with pytest.raises(BindError, match=r"parameter \$limit has no value; given are \$limits"):
        engine.run("SELECT $limit", {"limits": 1}).arrow()


def test_types_run_nothing(engine):
    """Not even a sequence moves; unknown parameters count as NULL; names may repeat."""
    engine.run("CREATE SEQUENCE s")
    assert engine.types("SELECT nextval('s') AS n") == [("n", INT64)]
    assert engine.run("SELECT nextval('s')").fetchall() == [(1,)]
    assert engine.types("SELECT 1.5::DOUBLE AS a, 'x' AS a WHERE 1 < $p") == [
        ("a", FLOAT64),
        ("a", TEXT),
    ]
    with pytest.raises(BindError, match="found twice: a"):
        engine.schema("SELECT 1 AS a, 2 AS a")


@pytest.mark.parametrize(
    ("sql", "kind"),
    [
        ("true", "bool"),
        ("1::UTINYINT", "uint8"),
        ("1::HUGEINT", "int128"),
        ("1::FLOAT", "float32"),
        ("1.25::DECIMAL(9,2)", "decimal(9,2)"),
        ("'a'", "text"),
        ("'{}'::JSON", "json"),
        ("'a'::mood", "enum"),
        ("'x'::BLOB", "blob"),
        ("DATE '2020-01-01'", "date"),
        ("TIMESTAMP '2020-01-01'", "timestamp"),
        ("'2020-01-01'::TIMESTAMP_NS", "timestamp"),
        ("TIMESTAMPTZ '2020-01-01 00:00:00+00'", "timestamptz"),
        ("TIME '10:00'", "time"),
        ("INTERVAL 1 DAY", "interval"),
        ("uuid()", "uuid"),
        ("NULL", "null"),
        ("[1.0, 2.0]::FLOAT[2]", "float32[2]"),
        ("['a']", "list<text>"),
        ("{'a b': 1, 'c': ['x']}", 'struct<"a b": int32, c: list<text>>'),
        ("MAP {1: 2}", 'other<"MAP(INTEGER, INTEGER)">'),
        ("'1'::BIT", "other<BIT>"),
    ],
)
def test_types_have_our_names(engine, sql, kind):
    """Every type of DuckDB has a word of ours or keeps its own as `other`."""
    engine.run("CREATE TYPE mood AS ENUM ('a', 'b')")
    assert engine.types(f"SELECT {sql} AS c") == [("c", parse_type(kind))]


@pytest.mark.parametrize(
    ("sql", "error", "words"),
    [
        ("SELEC 1", EngineError, "syntax error"),
        ("SELECT * FROM nowhere", EngineError, "nowhere does not exist"),
        ("SELECT nothing FROM range(2)", EngineError, "nothing"),
        ("SELECT 'a'::INTEGER", EngineError, "Could not convert"),
        ("SELECT error('read-only mode!')", EngineError, "read-only mode"),
        ("INSERT INTO one VALUES (1)", EngineError, "unique|duplicate|Duplicate"),
    ],
)
def test_errors_keep_duckdbs_words_and_cause(engine, sql, error, words):
    """DuckDB's message reaches the user as it is."""
    engine.run("CREATE TABLE one (i INTEGER PRIMARY KEY); INSERT INTO one VALUES (1)")
    with pytest.raises(error, match=words) as caught:
        engine.run(sql).arrow()
    assert type(caught.value.__cause__).__module__ == "_duckdb"


def test_error_in_the_middle_of_a_stream(engine):
    """A row that fails late still raises our error."""
    sql = "SELECT (CASE WHEN range > 50000 THEN 'x' ELSE '1' END)::INTEGER AS i FROM range(100000)"
    with engine.stream(sql) as reader, pytest.raises(EngineError, match="Could not convert"):
        reader.read_all()


def test_out_of_memory_has_duckdbs_numbers(tmp_path):
    """Asked for and allowed are in the message."""
    engine = connect(tmp_path / "a.duckdb")
    engine.limit(threads=1, memory_bytes=20 << 20)
    engine.run("SET max_temp_directory_size = '1MB'")
    with pytest.raises((ResourceError, StoreError), match=r"MiB|KiB"):
        engine.run("CREATE TEMP TABLE big AS SELECT range AS a, random() AS b FROM range(9000000)")
    engine.close()


def test_closed_engine_says_so(engine):
    """Closing twice is allowed, using it afterwards is not."""
    engine.close()
    engine.close()
    with pytest.raises(StoreError, match="closed"):
        engine.run("SELECT 1")


def test_python_variables_are_no_tables(engine):
    """A data frame is read only after `register`."""
    frame = pa.table({"a": [1, 2]})
    with pytest.raises(EngineError, match="frame does not exist"):
        engine.run("SELECT * FROM frame").arrow()
    engine.register("frame", frame)
    assert values(engine, "SELECT sum(a)::INTEGER AS s FROM frame") == {"s": [3]}
    engine.run("CREATE TABLE kept AS SELECT * FROM frame")
    engine.unregister("frame")
    with pytest.raises(EngineError, match="frame does not exist"):
        engine.run("SELECT * FROM frame").arrow()


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_frames_of_both_libraries_can_be_registered(engine, library):
    """A stream reads them too, twice."""
    frame = pytest.importorskip(library).DataFrame({"a": [1, 2, 3]})
    engine.register('odd "name"', frame)
    for _ in range(2):
        with engine.stream('SELECT a FROM "odd ""name"""') as reader:
            assert reader.read_all().num_rows == 3


# -- what only the main connection sees ------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "read"),
    [
        ("CREATE TEMP TABLE tt AS SELECT 5 AS x", "SELECT x FROM tt"),
        ("CREATE TEMP VIEW tt AS SELECT 5 AS x", "SELECT x FROM TT"),
        ("CREATE TEMP MACRO five() AS 5", "SELECT five() AS x"),
        (
            "CREATE TEMP TABLE tt AS SELECT 5 AS x; CREATE VIEW v AS SELECT * FROM tt",
            "SELECT x FROM v",
        ),
        (
            "CREATE TABLE tt AS SELECT 1 AS x; CREATE TEMP TABLE tt AS SELECT 5 AS x",
            "SELECT x FROM tt",
        ),
        ("ATTACH ':memory:' AS o; CREATE TABLE o.k AS SELECT 5 AS x; USE o", "SELECT x FROM k"),
        ("SET VARIABLE v = 5", "SELECT getvariable('v') AS x"),
        ("CREATE TEMP TABLE tt AS SELECT 5 AS x", "SELECT x FROM query_table($name)"),
        ("BEGIN; CREATE TABLE tt AS SELECT 5 AS x", "SELECT x FROM tt"),
    ],
)
def test_session_state_is_seen_by_every_way_of_reading(engine, make, read):
    """Temporary objects, settings, variables and open transactions."""
    for statement in make.split(";"):
        engine.run(statement)
    parameters = {"name": "tt"}
    assert engine.types(read, parameters)[0][0] == "x"
    assert engine.run(read, parameters).fetchall() == [(5,)]
    assert values(engine, read, parameters) == {"x": [5]}
    assert engine.exact_moments(read, ["x"], parameters)["x"].mean == 5.0
    with engine.stream(read, parameters) as reader:
        engine.run("SELECT 1").fetchall()
        assert reader.read_all().num_rows == 1


def test_transaction_of_the_user(engine):
    """Uncommitted rows are seen inside; after ROLLBACK they are gone for everyone."""
    engine.run("CREATE TABLE t (i INTEGER)")
    engine.run("BEGIN")
    engine.run("INSERT INTO t VALUES (1)")
    assert values(engine, "SELECT count(*)::INTEGER AS n FROM t") == {"n": [1]}
    with pytest.raises(EngineError):
        engine.run("SELECT 'a'::INTEGER FROM t").arrow()
    with pytest.raises(EngineError, match="ROLLBACK"):
        engine.run("SELECT count(*) FROM t").arrow()
    engine.run("ROLLBACK")
    assert values(engine, "SELECT count(*)::INTEGER AS n FROM t") == {"n": [0]}


def test_settings_reach_streams(engine):
    """SET on the session holds for every statement, also on a connection of its own."""
    engine.run("SET TimeZone = 'Asia/Tokyo'")
    assert values(engine, "SELECT current_setting('TimeZone') AS z") == {"z": ["Asia/Tokyo"]}
    engine.run("RESET TimeZone")
    assert values(engine, "SELECT current_setting('TimeZone') AS z") != {"z": ["Asia/Tokyo"]}


# -- transactions of ours --------------------------------------------------------------------------


def test_transaction_commits_as_a_whole(engine):
    """Its rows are seen inside at once, by others when the block has ended."""
    with engine.transaction() as handle:
        handle.execute("CREATE TABLE t (i INTEGER)")
        handle.execute("INSERT INTO t VALUES (?), (?)", [1, 2])
        assert handle.execute("SELECT i FROM t ORDER BY i").fetchall() == [(1,), (2,)]
        assert engine.fetch("SELECT * FROM duckdb_tables()").num_rows == 0
    assert values(engine, "SELECT count(*)::INTEGER AS n FROM t") == {"n": [2]}


def test_transaction_that_raises_leaves_nothing(engine):
    """Also where the exception is not DuckDB's."""
    engine.run("CREATE TABLE t AS SELECT 1 AS i")

    def change():
        with engine.transaction() as handle:
            handle.execute("DELETE FROM t")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        change()
    assert values(engine, "SELECT i FROM t") == {"i": [1]}


def test_conflicting_transactions(engine):
    """Two writers of one row: one of them fails, with DuckDB's words."""
    engine.run("CREATE TABLE t AS SELECT 1 AS i")
    with engine.transaction() as first, engine.transaction() as second:
        first.execute("UPDATE t SET i = 2")
        with pytest.raises(EngineError, match=r"[Cc]onflict"):
            second.execute("UPDATE t SET i = 3")


# -- threads and cancelling ------------------------------------------------------------------------


def stream_all(engine, sql):
    with engine.stream(sql) as reader:
        return reader.read_all()


WAYS = {
    "stream": stream_all,
    "fetch": lambda engine, sql: engine.fetch(sql),
    "main": lambda engine, sql: engine.fetch(f"{sql} AND (SELECT count(*) FROM tt) = 1"),
    "run": lambda engine, sql: engine.run(f"CREATE TABLE x AS {sql}"),
}


@pytest.mark.parametrize("way", WAYS)
def test_interrupt_ends_every_kind_of_statement(engine, way):
    """The reader gets CancelledError, and the engine goes on."""
    engine.run("CREATE TEMP TABLE tt AS SELECT 1")
    timer = threading.Timer(0.3, engine.interrupt)
    timer.start()
    with pytest.raises(CancelledError):
        WAYS[way](engine, SLOW)
    timer.join()
    assert engine.run("SELECT 1").fetchall() == [(1,)]


def test_interrupt_between_two_batches(engine):
    """A stream that waits for its reader is cancelled too."""
    sql = "SELECT a.range AS i FROM range(3000) a, range(3000) b WHERE (a.range * b.range) % 7 < 6"
    with engine.stream(sql) as reader:
        reader.read_next_batch()
        engine.interrupt()
        with pytest.raises(CancelledError):
            reader.read_all()


def test_many_threads_at_once(engine):
    """Reads, writes, streams with views and functions from eight threads lose nothing."""
    engine.run("CREATE TABLE t AS SELECT range AS i FROM range(20000)")
    engine.run("CREATE TABLE log (i INTEGER)")
    engine.run("CREATE TEMP TABLE tt AS SELECT range AS i FROM range(10)")
    wrong: list[object] = []

    def work(k):
        try:
            for _ in range(5):
                double = Function(
                    f"double_{k}",
                    [INT64],
                    INT64,
                    lambda a: pa.array([2 * v for v in a[0].to_pylist()]),
                )
                view = pa.table({"k": [k]})
                sql = f"SELECT double_{k}(i) + k AS n FROM t, mine WHERE i < 100"
                with engine.stream(sql, views={"mine": view}, functions=[double]) as reader:
                    assert sum(reader.read_all()["n"].to_pylist()) == 9900 + 100 * k
                engine.run("INSERT INTO log VALUES (?)", [k])
                assert engine.run("SELECT count(*) FROM tt").fetchall() == [(10,)]
        except Exception as error:
            wrong.append(error)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert wrong == []
    assert engine.run("SELECT count(*) FROM log").fetchall() == [(40,)]


def test_statistics_of_tables(engine):
    """Rows of tables, views and queries; columns from storage; None for what is not there."""
    engine.run("CREATE TABLE t AS SELECT range AS i, range % 5 AS k FROM range(1000)")
    engine.run("CREATE VIEW v AS SELECT * FROM t")
    table = engine.statistics.table("t")
    assert table.rows == 1000
    assert abs(table.columns["k"].distinct - 5) <= 1
    assert (table.columns["i"].minimum, table.columns["i"].maximum) == (0, 999)
    assert engine.statistics.table('"main"."v"').rows == 1000
    assert engine.statistics.table("nowhere") is None
    assert engine.statistics.query_rows("SELECT count(*) FROM t") == 1
    engine.run("INSERT INTO t VALUES (7000, 1)")
    assert engine.statistics.table("t").columns["i"].maximum == 7000


def test_statistics_of_parquet_files(engine, tmp_path):
    """The file's own metadata tell the rows."""
    engine.run(f"COPY (SELECT range AS i FROM range(500)) TO '{tmp_path}/t.parquet'")
    assert engine.statistics.table(f"'{tmp_path}/t.parquet'").rows == 500
    assert engine.schema(f"SELECT * FROM '{tmp_path}/t.parquet'").type_of("i") == INT64


def test_bool_type_is_ours(engine):
    """A comparison is a bool."""
    assert engine.types("SELECT 1 < 2 AS b") == [("b", BOOL)]
