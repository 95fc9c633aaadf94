"""Rows of a COPY from the socket and through libpq: the same rows, the same errors."""

from __future__ import annotations

import contextlib

import pyarrow as pa
import pytest

from gradbase.engines import connect
from gradbase.engines.postgres import wire
from gradbase.errors import CancelledError, EngineError, StoreError
from gradbase.testing.servers import postgres_url


@pytest.fixture(scope="module")
def url():
    return postgres_url()


@pytest.fixture(params=["socket", "libpq"])
def engine(request, url, monkeypatch):
    if request.param == "libpq":
        monkeypatch.setattr("gradbase.engines.postgres.connections._plain", lambda _: False)
    engine = connect(url)
    yield engine
    engine.close()


def streamed(engine, sql, then, **options):
    """Read all of a query; `then` sees each batch."""
    with engine.stream(sql, **options) as reader:
        for batch in reader:
            then(batch)


MIXED = (
    "SELECT i, CASE WHEN i % 3 > 0 THEN i / 2.0::double precision END AS x, "
    "repeat('é', i % 50) AS t, CASE WHEN i % 5 = 0 THEN NULL ELSE 'k' || i END AS k, "
    "(i * 1.25)::numeric(12, 3) AS d, i::numeric / 7 AS q, i % 2 = 0 AS b, "
    "ARRAY[i, NULL] AS a FROM generate_series(1, 20000) i"
)


def test_rows_of_any_size(engine):
    """Values of every kind, many pieces a batch, and many batches."""
    with engine.stream(MIXED, batch_rows=3000) as reader:
        batches = list(reader)
    assert [b.num_rows for b in batches] == [3000] * 6 + [2000]
    found = pa.Table.from_batches(batches).to_pylist()
    for i in (1, 2, 3, 50, 9999, 20000):
        row = found[i - 1]
        assert row["x"] == (i / 2 if i % 3 else None)
        assert (row["t"], row["k"]) == ("é" * (i % 50), None if i % 5 == 0 else f"k{i}")
        assert (float(row["d"]), row["q"], row["b"]) == (i * 1.25, i / 7, i % 2 == 0)
        assert row["a"] == [i, None]


def test_rows_alike_and_then_not(engine):
    """Rows of one size are understood many at a time; what follows them is not mistaken for one."""
    sql = (
        "SELECT i, CASE WHEN i <> 9000 THEN 1.5::float8 END AS x, "
        "CASE WHEN i > 15000 THEN 'four' ELSE 'five5' END AS t FROM generate_series(1, 20000) i"
    )
    found = engine.fetch(sql)
    assert found["i"].to_pylist() == list(range(1, 20001))
    assert found["x"].to_pylist() == [None if i == 9000 else 1.5 for i in range(1, 20001)]
    assert found["t"].to_pylist() == ["four" if i > 15000 else "five5" for i in range(1, 20001)]


NUMBERS = {
    "integer": "n", "bigint": "-n", "oid": "n", "real": "n / 2.0", "float8": "n / 4.0",
    "smallint": "n % 30000", "date": "date '2000-01-01' + n % 9",
}  # fmt: skip


def test_columns_of_one_type_side_by_side(engine):
    """With a NULL never, once or often in any of them, and in batches of any size."""
    items = [
        f"CASE WHEN n % {(9999, 6000, 3)[(k + place) % 3]} > 0 THEN {value} END::{kind}"
        for place, (kind, value) in enumerate(NUMBERS.items())
        for k in range(3)
    ]
    columns = ", ".join(f"{item} AS c{i}" for i, item in enumerate(items))
    sql = f"SELECT {columns} FROM generate_series(1, 6100) n"
    whole = engine.fetch(sql)
    assert list(zip(*whole.to_pydict().values(), strict=True)) == engine.rows(sql, None, None)
    with engine.stream(sql, batch_rows=6050) as reader:
        batches = list(reader)
    assert [b.num_rows for b in batches] == [6050, 50]
    assert pa.Table.from_batches(batches).equals(whole)


def test_more_rows_than_room_is_made_for(engine, monkeypatch):
    """The rest has memory of its own."""
    monkeypatch.setattr("gradbase.engines.postgres.batches._ROOM", 1000)
    sql = "SELECT n AS a, -n AS b FROM generate_series(1, 70000) n"
    whole = engine.fetch(sql)
    assert whole["a"].to_pylist() == list(range(1, 70_001))
    assert whole["b"].to_pylist() == list(range(-1, -70_001, -1))


def test_rows_larger_than_the_room_for_them(engine):
    """It grows."""
    sql = "SELECT i, repeat('x', 3000000 * i) AS t FROM generate_series(0, 2) i"
    assert [len(t) for t in engine.fetch(sql)["t"].to_pylist()] == [0, 3_000_000, 6_000_000]


def test_nothing(engine):
    """No rows, and rows without columns, of which Arrow has no number."""
    assert engine.fetch("SELECT 1 AS a WHERE false").num_rows == 0
    assert engine.fetch("SELECT FROM generate_series(1, 3)").num_columns == 0


def test_errors_in_the_middle(engine):
    """The server's words, behind as many rows as came; the connection goes on."""
    sql = "SELECT 1 / (i - 15000) AS v FROM generate_series(1, 20000) i"
    sizes = []
    with pytest.raises(EngineError, match="division by zero"):
        streamed(engine, sql, lambda batch: sizes.append(batch.num_rows), batch_rows=1000)
    assert set(sizes) == {1000}
    assert engine.fetch("SELECT 1 AS a")["a"].to_pylist() == [1]


def test_words_of_the_server_in_between(engine):
    """Notices are no rows; the details, hints and place of an error are kept."""
    engine.run(
        "CREATE OR REPLACE FUNCTION told(i integer) RETURNS integer LANGUAGE plpgsql AS $$ BEGIN "
        "IF i % 100 = 0 THEN RAISE NOTICE 'at %', i; END IF; "
        "IF i = 777 THEN RAISE 'odd' USING detail = 'it is 777', hint = 'take another', "
        "errcode = 'GB777'; END IF; RETURN i; END $$"
    )
    assert engine.fetch("SELECT told(i) AS v FROM generate_series(1, 500) i").num_rows == 500
    with pytest.raises(EngineError, match=r"odd\n[\s\S]*it is 777[\s\S]*told") as raised:
        engine.fetch("SELECT told(i) AS v FROM generate_series(1, 1000) i")
    assert raised.value.hint == "take another"


def test_leaving_early_and_going_on(engine):
    """The query is stopped, its connection taken again."""
    endless = "SELECT generate_series(1, 10000000000) AS i"
    for _ in range(3):
        with engine.stream(endless, batch_rows=10) as reader:
            assert next(iter(reader)).num_rows == 10
    active = "SELECT count(*) AS n FROM pg_stat_activity WHERE query LIKE '%10000000000%' "
    active += "AND state = 'active' AND pid <> pg_backend_pid()"
    assert engine.fetch(active)["n"].to_pylist() == [0]


def test_cancelling(engine):
    """The reader is told."""
    sql = "SELECT generate_series(1, 10000000000) AS i"
    with pytest.raises(CancelledError):
        streamed(engine, sql, lambda _: engine.interrupt())
    assert engine.fetch("SELECT 1 AS a").num_rows == 1


def test_a_server_that_goes_away(engine, url):
    """What was read is lost with the rest; the next statement connects anew."""
    sql = "SELECT generate_series(1, 10000000000) AS i, pg_backend_pid() AS pid"

    def kill(batch):
        with contextlib.closing(connect(url)) as other:
            other.fetch(f"SELECT pg_terminate_backend({batch['pid'][0].as_py()}) AS done")

    with pytest.raises(StoreError, match="connection to the server is lost"):
        streamed(engine, sql, kill)
    assert engine.fetch("SELECT 1 AS a").num_rows == 1


def test_texts_are_utf8_whatever_the_session_says(engine):
    """`client_encoding` is about other clients."""
    engine.run("SET client_encoding = 'LATIN1'")
    assert engine.fetch("SELECT 'größe' AS t")["t"].to_pylist() == ["größe"]
    assert engine.run("SELECT 'größe' AS t").fetchall() == [("größe",)]


def test_the_socket_is_read_where_it_is_plain(engine, request):
    """Which of the two ways is taken."""
    expected = {"socket": wire.DirectCopy, "libpq": wire.DriverCopy}
    with engine._connections.other() as connection:
        copy = wire.copy_of(connection)
        assert type(copy) is expected[request.node.callspec.params["engine"]]
        copy.close()
