"""PEP 249, section by section, on a database with a model."""

from __future__ import annotations

import datetime as dt
import inspect
import threading
import time
from decimal import Decimal

import duckdb
import pytest

import gradbase as gb
import shop
from gradbase import dbapi, errors


@pytest.fixture
def connection(own_shop):
    """A connection to a copy of the shop."""
    with dbapi.connect(str(own_shop), progress=False) as made:
        yield made


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "new.duckdb")


def count(connection, table="t"):
    return connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]


# -- module interface --------------------------------------------------------------------------


def test_globals():
    assert (dbapi.apilevel, dbapi.threadsafety, dbapi.paramstyle) == ("2.0", 2, "qmark")
    assert set(dbapi.__all__) <= set(dir(dbapi))


TREE = {
    "Warning": Exception, "Error": Exception, "InterfaceError": dbapi.Error, "DatabaseError": dbapi.Error,
    "DataError": dbapi.DatabaseError, "OperationalError": dbapi.DatabaseError, "IntegrityError": dbapi.DatabaseError,
    "InternalError": dbapi.DatabaseError, "ProgrammingError": dbapi.DatabaseError, "NotSupportedError": dbapi.DatabaseError,
}  # fmt: skip


@pytest.mark.parametrize(("name", "base"), TREE.items())
def test_tree_of_exceptions(name, base):
    """As PEP 249 draws it; and on the connection, as its optional part has it."""
    found = getattr(dbapi, name)
    assert found.__bases__ == (base,)
    assert getattr(dbapi.Connection, name) is found


ERRORS = [
    ("SELEC 1", dbapi.ProgrammingError, "syntax"),
    ("SELECT * FROM nowhere", dbapi.ProgrammingError, "nowhere does not exist"),
    ("SELECT 'a'::INTEGER", dbapi.DataError, "Could not convert"),
    ("INSERT INTO one VALUES (1)", dbapi.IntegrityError, "[Dd]uplicate key"),
    ("SELECT PREDICT(chrun, *) FROM customers", dbapi.ProgrammingError, "did you mean `churn`"),
    ("CREATE MODEL m OPTIONS", dbapi.ProgrammingError, "OPTIONS"),
    ("SELECT * FROM ML.FORECAST(MODEL churn)", dbapi.NotSupportedError, "FORECAST"),
    (shop.create_model("m", "SELECT * FROM customers WHERE id < 0"), dbapi.DataError, "rows"),
    ("", dbapi.ProgrammingError, "no statement"),
    ("-- only this", dbapi.ProgrammingError, "no statement"),
]


@pytest.mark.parametrize(("sql", "error", "words"), ERRORS, ids=[e[0][:30] for e in ERRORS])
def test_errors_are_of_the_right_class(connection, sql, error, words):
    """With our words, and our exception as the cause."""
    connection.execute("CREATE TABLE one (i INTEGER PRIMARY KEY)")
    connection.execute("INSERT INTO one VALUES (1)")
    connection.commit()
    with pytest.raises(error, match=words) as caught:
        connection.execute(sql)
    assert caught.type is error
    assert isinstance(caught.value.__cause__, errors.GradbaseError | None)


@pytest.mark.parametrize("name", [n for n in errors.__all__ if n != "GradbaseError"])
def test_every_error_of_ours_has_its_place(name):
    found = dbapi.errors.of(getattr(errors, name)("words", hint="what to do"))
    assert isinstance(found, dbapi.DatabaseError)
    assert str(found) == "words\n  hint: what to do"


def test_errors_of_the_engine_keep_their_kind():
    for name in (
        "IntegrityError",
        "NotSupportedError",
        "OperationalError",
        "DataError",
        "ProgrammingError",
    ):
        ours = errors.EngineError("words")
        ours.__cause__ = type("Special", (getattr(duckdb, name),), {})("words")
        assert type(dbapi.errors.of(ours)) is getattr(dbapi, name)
    assert type(dbapi.errors.of(errors.EngineError("words"))) is dbapi.DatabaseError


def test_a_file_that_cannot_be_opened(tmp_path):
    with pytest.raises(dbapi.OperationalError):
        dbapi.connect(str(tmp_path / "missing" / "x.duckdb"))


# -- connections -------------------------------------------------------------------------------


def test_commit_makes_lasting_and_rollback_undoes(path):
    with dbapi.connect(path) as one:
        one.execute("CREATE TABLE t (i INTEGER)")
        one.commit()
        one.execute("INSERT INTO t VALUES (1)")
        assert one.in_transaction
        one.rollback()
        assert (count(one), one.in_transaction) == (0, False)
        one.execute("INSERT INTO t VALUES (1)")
        with dbapi.connect(path) as two:
            assert count(two) == 0
            one.commit()
            assert count(two) == 1


def test_commit_and_rollback_with_nothing_to_do(connection):
    connection.commit()
    connection.rollback()
    connection.execute("SELECT 1")
    assert not connection.in_transaction
    connection.rollback()


@pytest.mark.parametrize("fails", [False, True])
def test_leaving_the_block_commits_or_rolls_back_and_closes(path, fails):
    def work():
        with dbapi.connect(path) as made:
            made.execute("CREATE TABLE t AS SELECT 1 AS i")
            if fails:
                raise ZeroDivisionError
        return made

    if fails:
        with pytest.raises(ZeroDivisionError):
            work()
    else:
        with pytest.raises(dbapi.ProgrammingError, match="closed"):
            work().cursor()
    with dbapi.connect(path) as again:
        tables = again.execute("SELECT table_name FROM duckdb_tables()").fetchall()
    assert tables == ([] if fails else [("t",)])


def test_closing_rolls_back(path):
    made = dbapi.connect(path)
    made.execute("CREATE TABLE t AS SELECT 1 AS i")
    made.close()
    made.close()
    for use in (
        made.cursor,
        made.commit,
        made.rollback,
        lambda: made.execute("SELECT 1"),
        lambda: made.session,
    ):
        with pytest.raises(dbapi.Error, match="closed"):
            use()
    with (
        dbapi.connect(path) as again,
        pytest.raises(dbapi.ProgrammingError, match="t does not exist"),
    ):
        count(again)


def test_autocommit(path):
    with dbapi.connect(path, autocommit=True) as one, dbapi.connect(path) as two:
        one.execute("CREATE TABLE t AS SELECT 1 AS i")
        assert (count(two), one.in_transaction) == (1, False)
        one.execute("BEGIN")
        one.execute("INSERT INTO t VALUES (2)")
        assert count(two) == 1
        one.rollback()
        one.autocommit = False
        one.execute("INSERT INTO t VALUES (2)")
        one.autocommit = True
        assert count(two) == 2


@pytest.mark.parametrize(
    ("sql", "begins"),
    [
        ("SELECT 1", False), ("WITH x AS (SELECT 1) SELECT * FROM x", False), ("FROM customers", False),
        ("SET threads = 2", False), ("SET gradbase.exactness = 'bitwise'", False), ("SHOW MODELS", False),
        ("SELECT PREDICT(churn, *) FROM customers", False), ("DROP MODEL plans", False),
        ("EXPLAIN INSERT INTO t VALUES (1)", False), ("BEGIN", True),
        ("INSERT INTO t VALUES (1)", True), ("/* c */ update t SET i = 2", True), ("DELETE FROM t", True),
        ("WITH x AS (SELECT 1 AS i) INSERT INTO t SELECT i FROM x", True), ("DROP TABLE t", True),
        ("CREATE TABLE u AS SELECT PREDICT(churn, *) AS p FROM customers", True), ("ALTER TABLE t ADD j INT", True),
        ("CREATE TABLE u (i INT); SELECT 1", True), ("BEGIN; ROLLBACK", False),
    ],
)  # fmt: skip
def test_what_begins_a_transaction(connection, sql, begins):
    connection.execute("CREATE TABLE t (i INTEGER)")
    connection.commit()
    connection.execute(sql)
    assert connection.in_transaction is begins


def test_a_failed_transaction_can_be_left(connection):
    connection.execute("CREATE TABLE t (i INTEGER PRIMARY KEY)")
    connection.commit()
    connection.execute("INSERT INTO t VALUES (1)")
    with pytest.raises(dbapi.IntegrityError):
        connection.execute("INSERT INTO t VALUES (1)")
    with pytest.raises(dbapi.Error, match="ROLLBACK"):
        count(connection)
    connection.rollback()
    assert count(connection) == 0


def test_a_model_is_made_from_rows_that_are_not_committed_and_stays(connection):
    connection.execute("DELETE FROM customers WHERE id >= 200")
    connection.execute(shop.create_model("m", max_epochs=1))
    assert connection.execute("SELECT count(PREDICT(m, *)) FROM customers").fetchone() == (200,)
    connection.rollback()
    assert connection.execute("SELECT count(PREDICT(m, *)) FROM customers").fetchone() == (
        shop.ROWS,
    )


def test_an_open_session_stays_open():
    with gb.connect(progress=False) as db:
        with dbapi.connect(db) as made:
            made.execute("CREATE TABLE t AS SELECT 1 AS i")
            assert made.session is db
        assert db.sql("SELECT * FROM t").fetchall() == [(1,)]
        with pytest.raises(dbapi.InterfaceError, match="read_only"):
            dbapi.connect(db, read_only=True)


# -- cursors -----------------------------------------------------------------------------------


def test_description(connection):
    cursor = connection.cursor()
    assert (cursor.description, cursor.rowcount, cursor.arraysize) == (None, -1, 1)
    cursor.execute(
        "SELECT 1 AS n, 'x' AS s, 1.25::DECIMAL(9, 2) AS d, DATE '2020-01-01' AS day, 'a'::BLOB AS b, 1 AS n"
    )
    assert [c[0] for c in cursor.description] == ["n", "s", "d", "day", "b", "n"]
    assert {len(c) for c in cursor.description} == {7}
    assert cursor.description[2][4:6] == (9, 2)
    kinds = (dbapi.NUMBER, dbapi.STRING, dbapi.NUMBER, dbapi.DATETIME, dbapi.BINARY, dbapi.NUMBER)
    for column, kind in zip(cursor.description, kinds, strict=True):
        others = {dbapi.NUMBER, dbapi.STRING, dbapi.DATETIME, dbapi.BINARY, dbapi.ROWID} - {kind}
        assert column[1] == kind
        assert all(column[1] != other for other in others)


@pytest.mark.parametrize(
    ("sql", "rows", "described"),
    [
        ("SELECT * FROM range(7)", 7, True), ("SELECT 1 WHERE false", 0, True), ("INSERT INTO t SELECT * FROM range(3)", 3, False),
        ("UPDATE t SET i = 5", 2, False), ("DELETE FROM t WHERE i > 9", 0, False), ("CREATE TABLE u (i INT)", -1, False),
        ("CREATE TABLE u AS SELECT * FROM range(4)", 4, False), ("INSERT INTO t VALUES (7) RETURNING i", 1, True),
        ("INSERT INTO t SELECT id FROM customers WHERE id < 4 AND PREDICT_PROBA(churn, *) >= 0", 4, False),
        ("SHOW MODELS", 4, True), ("BEGIN", -1, False), ("SELECT 1; SELECT * FROM range(2)", 2, True),
    ],
)  # fmt: skip
def test_rowcount(connection, sql, rows, described):
    connection.execute("CREATE TABLE t AS SELECT * FROM range(2) r(i)")
    connection.commit()
    cursor = connection.execute(sql)
    assert cursor.rowcount == rows
    assert (cursor.description is not None) is described
    if not described:
        for fetch in (cursor.fetchone, cursor.fetchmany, cursor.fetchall):
            with pytest.raises(dbapi.Error, match="no rows to fetch"):
                fetch()


def test_fetching(connection):
    """One, some, the rest, none; iteration goes on where fetching stopped."""
    cursor = connection.execute("SELECT * FROM range(10000) ORDER BY 1")
    assert cursor.fetchone() == (0,)
    assert cursor.fetchmany() == [(1,)]
    assert cursor.fetchmany(3) == [(2,), (3,), (4,)]
    assert cursor.fetchmany(0) == []
    cursor.arraysize = 2
    assert cursor.fetchmany() == [(5,), (6,)]
    assert next(cursor) == (7,)
    assert next(iter(cursor)) == (8,)
    assert cursor.fetchall() == [(i,) for i in range(9, 10000)]
    assert (cursor.fetchone(), cursor.fetchmany(5), cursor.fetchall(), list(cursor)) == (
        None,
        [],
        [],
        [],
    )
    assert cursor.rowcount == 10000
    assert cursor.fetch_arrow_table().num_rows == 10000


def test_a_cursor_is_used_again(connection):
    cursor = connection.cursor()
    assert cursor.connection is connection
    assert cursor.execute("SELECT 1").fetchall() == [(1,)]
    cursor.execute("CREATE TABLE t (i INT)")
    assert cursor.description is None
    with pytest.raises(dbapi.ProgrammingError):
        cursor.execute("SELEC")
    with pytest.raises(dbapi.Error, match="no rows"):
        cursor.fetchall()


def test_cursors_stand_side_by_side(connection):
    one, two = connection.cursor(), connection.cursor()
    one.execute("SELECT * FROM range(3)")
    two.execute("SELECT * FROM range(5, 8)")
    assert [one.fetchone(), two.fetchone(), one.fetchone(), two.fetchone()] == [
        (0,),
        (5,),
        (1,),
        (6,),
    ]


def test_parameters(connection):
    """By place and by name, in statements of ours too; values stay values."""
    run = connection.execute
    assert run("SELECT ? + ?", (1, 2)).fetchall() == [(3,)]
    assert run("SELECT $a || $b", {"a": "x", "b": "'; DROP TABLE customers; --"}).fetchone() == (
        "x'; DROP TABLE customers; --",
    )
    rows = run("SELECT id, PREDICT(churn, *) FROM customers WHERE id < ?", [3]).fetchall()
    assert len(rows) == 3
    assert (
        rows
        == run("SELECT id, PREDICT(churn, *) FROM customers WHERE id < $n", {"n": 3}).fetchall()
    )
    with pytest.raises(dbapi.Error):
        run("SELECT ?", [])
    assert count(connection, "customers") == shop.ROWS


VALUES = [
    None, True, 7, 2**40, 0.5, "é'\"", b"\x00\xff", Decimal("1.25"), dt.date(2020, 2, 29),
    dt.datetime(2020, 2, 29, 12, 30, 1, 5), dt.time(12, 30),  # noqa: DTZ001
]  # fmt: skip


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_values_come_back_as_they_went(connection, value):
    assert connection.execute("SELECT ?", [value]).fetchone() == (value,)


def test_executemany(connection):
    cursor = connection.cursor()
    cursor.execute("CREATE TABLE t (i INTEGER, s VARCHAR)")
    cursor.executemany("INSERT INTO t VALUES (?, ?)", [(1, "a"), (2, "b"), (3, None)])
    assert cursor.rowcount == 3
    assert cursor.executemany("DELETE FROM t WHERE i = $i", [{"i": 1}, {"i": 9}]).rowcount == 1
    assert cursor.execute("SELECT * FROM t ORDER BY i").fetchall() == [(2, "b"), (3, None)]
    assert cursor.executemany("INSERT INTO t VALUES (?, ?)", []).rowcount == 0
    with pytest.raises(dbapi.ProgrammingError, match="without rows"):
        cursor.executemany("SELECT ?", [(1,), (2,)])


def test_closed_cursors(connection):
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    cursor.close()
    for use in (
        cursor.fetchone,
        cursor.fetchall,
        lambda: cursor.execute("SELECT 1"),
        lambda: next(cursor),
    ):
        with pytest.raises(dbapi.Error, match="cursor is closed"):
            use()
    assert count(connection, "customers") == shop.ROWS


def test_what_there_is_not(connection):
    cursor = connection.cursor()
    for missing in (lambda: cursor.callproc("f"), cursor.nextset):
        with pytest.raises(dbapi.NotSupportedError):
            missing()
    cursor.setinputsizes([1])
    cursor.setoutputsize(1, 2)
    assert cursor.lastrowid is None


# -- types -------------------------------------------------------------------------------------


def test_constructors():
    assert dbapi.Date(2020, 1, 2) == dt.date(2020, 1, 2)
    assert dbapi.Time(1, 2, 3) == dt.time(1, 2, 3)
    assert dbapi.Timestamp(2020, 1, 2, 3, 4, 5) == dt.datetime(2020, 1, 2, 3, 4, 5)  # noqa: DTZ001
    assert dbapi.Binary(b"ab") == b"ab"
    ticks = time.mktime((2020, 1, 2, 3, 4, 5, 0, 0, -1))
    assert dbapi.TimestampFromTicks(ticks) == dbapi.Timestamp(2020, 1, 2, 3, 4, 5)
    assert dbapi.DateFromTicks(ticks) == dbapi.Date(2020, 1, 2)
    assert dbapi.TimeFromTicks(ticks) == dbapi.Time(3, 4, 5)


# -- threads -----------------------------------------------------------------------------------


def test_threads_share_a_connection(connection):
    """Each with its cursor, as `threadsafety` 2 says."""
    connection.execute("CREATE TABLE log (k INTEGER)")
    connection.commit()
    answers, failed = [], []

    def work(k):
        try:
            cursor = connection.cursor()
            for _ in range(5):
                answers.append(
                    cursor.execute(
                        "SELECT count(PREDICT(churn, *)) FROM customers WHERE id < ?", [k + 1]
                    ).fetchone()[0]
                    == k + 1
                )
                cursor.execute("INSERT INTO log VALUES (?)", [k])
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert failed == []
    assert answers == [True] * 20
    connection.commit()
    assert count(connection, "log") == 20


def test_public_methods_are_those_of_the_standard():
    wanted = {"cursor", "commit", "rollback", "close"}
    assert wanted <= {n for n, _ in inspect.getmembers(dbapi.Connection, inspect.isfunction)}
    wanted = {
        "execute",
        "executemany",
        "fetchone",
        "fetchmany",
        "fetchall",
        "close",
        "setinputsizes",
        "setoutputsize",
    }
    assert wanted <= {n for n, _ in inspect.getmembers(dbapi.Cursor, inspect.isfunction)}
