"""Streams of one statement feeding another, and functions inside the engine."""

from __future__ import annotations

import threading
import time

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from gradbase.engines import Function
from gradbase.errors import DataError, EngineError
from gradbase.ir.types import FLOAT64, INT64, TEXT, array_of, parse_type

ROWS = 1_000_000


@pytest.fixture
def table(engine):
    engine.run(f"CREATE TABLE t AS SELECT range AS i, range * 0.5::DOUBLE AS x FROM range({ROWS})")
    return "t"


class Producer:
    """Passes batches on, counts them and knows whether it was closed."""

    def __init__(self, source, fail_at=-1, wait_s=0.0):
        self.given, self.closed = 0, False
        self.schema = source.schema
        self.source, self.fail_at, self.wait_s = source, fail_at, wait_s

    def __iter__(self):
        for batch in self.source:
            if self.given == self.fail_at:
                raise DataError("row 7 is infinite")
            self.given += 1
            time.sleep(self.wait_s)
            yield batch

    def close(self):
        self.closed = True


def test_batches_have_the_size_asked_for(engine, table):
    """At most `batch_rows` each, all rows in order."""
    with engine.stream("SELECT i FROM t", batch_rows=5000) as reader:
        batches = list(reader)
    assert max(b.num_rows for b in batches) == 5000
    firsts = [b["i"][0].as_py() for b in batches]
    assert firsts == sorted(firsts)
    assert sum(b.num_rows for b in batches) == ROWS


def test_streams_and_statements_coexist(engine, table):
    """While one stream is open others run, and writes go through."""
    with engine.stream("SELECT i FROM t") as one, engine.stream("SELECT x FROM t") as two:
        first = one.read_next_batch()
        engine.run("INSERT INTO t VALUES (-1, -1)")
        assert two.read_next_batch().num_rows == first.num_rows
        rest = sum(b.num_rows for b in one)
    assert rest + first.num_rows == ROWS  # a snapshot
    assert engine.fetch("SELECT count(*)::INTEGER AS n FROM t")["n"].to_pylist() == [ROWS + 1]


def test_stream_is_a_lazy_view_of_another_statement(engine, table):
    """Producer and consumer both run in DuckDB at once, without a deadlock."""
    with engine.stream("SELECT i, x FROM t") as source:
        producer = Producer(source)
        sql = "SELECT count(*) AS n, sum(v.x)::DOUBLE AS s FROM v JOIN t USING (i) WHERE t.x >= 0"
        with engine.stream(sql, views={"v": producer}) as reader:
            (row,) = reader.read_all().to_pylist()
    assert row == {"n": ROWS, "s": sum(range(ROWS)) * 0.5}
    assert producer.closed
    with pytest.raises(EngineError, match="v does not exist"):
        engine.fetch("SELECT * FROM v")


def test_three_streams_in_a_row(engine, table):
    """A chain of lazy views moves batch by batch."""
    with (
        engine.stream("SELECT i FROM t") as one,
        engine.stream("SELECT i + 1 AS i FROM v", views={"v": Producer(one)}) as two,
        engine.stream("SELECT sum(i)::BIGINT AS s FROM v", views={"v": Producer(two)}) as three,
    ):
        assert three.read_all().to_pylist() == [{"s": sum(range(1, ROWS + 1))}]


def test_leaving_early_closes_the_producer(engine, table):
    """Neither the consumer nor the producer runs on; both connections are free again."""
    with engine.stream("SELECT i, x FROM t", batch_rows=1000) as source:
        producer = Producer(source, wait_s=0.001)
        with engine.stream("SELECT i FROM v", batch_rows=1000, views={"v": producer}) as reader:
            assert reader.read_next_batch().num_rows == 1000
        assert producer.closed
        assert producer.given < ROWS // 2000
    assert engine.run("SELECT count(*) FROM t").fetchall() == [(ROWS,)]


def test_limit_stops_the_producer(engine, table):
    """LIMIT reads only as many batches as it needs."""
    with engine.stream("SELECT i FROM t", batch_rows=1000) as source:
        producer = Producer(source)
        assert engine.fetch("SELECT i FROM v LIMIT 5", views={"v": producer}).num_rows == 5
    assert producer.closed
    assert producer.given < ROWS // 1000


def test_exception_in_the_producer_arrives_as_it_was(engine, table):
    """Not as DuckDB's text about a stream."""
    with engine.stream("SELECT i FROM t") as source:
        producer = Producer(source, fail_at=3)
        with (
            pytest.raises(DataError, match="row 7 is infinite"),
            engine.stream("SELECT sum(i) FROM v", views={"v": producer}) as reader,
        ):
            reader.read_all()
    assert producer.closed


def test_view_beside_a_temporary_table(engine, table):
    """On the main connection: the producer may need that connection, from any thread."""
    engine.run("CREATE TEMP TABLE tt AS SELECT 3 AS i")
    with engine.stream("SELECT i FROM t") as source:

        def batches():
            for batch in source:
                engine.fetch("SELECT * FROM tt")
                yield batch

        lazy = pa.RecordBatchReader.from_batches(source.schema, batches())
        sql = "SELECT v.i FROM v JOIN tt USING (i)"
        with engine.stream(sql, views={"v": lazy}) as reader:
            assert reader.read_all()["i"].to_pylist() == [3]


@pytest.mark.parametrize("begin", [False, True])
def test_stream_written_into_a_table(engine, table, begin):
    """CREATE TABLE AS over a lazy view, also inside the user's transaction."""
    if begin:
        engine.run("BEGIN")
    with engine.stream("SELECT i FROM t") as source:
        producer = Producer(source)
        engine.run("CREATE TABLE copy AS SELECT i + 1 AS i FROM v", views={"v": producer})
    assert producer.closed
    assert engine.run("SELECT count(*), min(i) FROM copy").fetchall() == [(ROWS, 1)]
    if begin:
        engine.run("ROLLBACK")
        assert engine.fetch("SELECT * FROM duckdb_tables()").num_rows == 1


def test_view_hides_nothing_for_others(engine):
    """Two threads use the same name for different rows."""
    found = {}

    def work(k):
        rows = pa.table({"a": [k] * 1000})
        for _ in range(10):
            total = engine.fetch("SELECT sum(a)::INTEGER AS s FROM v", views={"v": rows})
            found.setdefault(k, set()).add(total["s"][0].as_py())

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert found == {k: {1000 * k} for k in range(4)}


# -- functions -------------------------------------------------------------------------------------


def function(count, call, kind=FLOAT64, returns=FLOAT64, **options):
    return Function("f", [kind] * count, returns, call, **options)


@pytest.mark.parametrize("count", [1, 3, 28, 400])
def test_function_of_any_number_of_parameters(engine, count):
    """Arrays of equal length, one per argument."""

    def total(arrays):
        assert len(arrays) == count
        out = arrays[0]
        for a in arrays[1:]:
            assert isinstance(a, pa.Array)
            out = pc.add(out, a)
        return out

    columns = ", ".join(f"{k}::DOUBLE AS c{k}" for k in range(count))
    names = ", ".join(f"c{k}" for k in range(count))
    sql = f"SELECT f({names}) AS s FROM (SELECT {columns} FROM range(3000))"
    found = engine.fetch(sql, functions=[function(count, total)])
    assert set(found["s"].to_pylist()) == {sum(range(count))}


def test_function_sees_nulls_and_returns_them(engine):
    """NULL arguments reach the function; its nulls come out as NULL."""
    seen = []

    def swap(arrays):
        seen.extend(arrays[0].to_pylist())
        return pa.array([None if v else 1.0 for v in arrays[0].to_pylist()], pa.float64())

    sql = "SELECT f(x) AS y FROM (VALUES (1.0::DOUBLE), (NULL)) v(x)"
    assert engine.fetch(sql, functions=[function(1, swap)])["y"].to_pylist() == [None, 1.0]
    assert seen == [1.0, None]


def test_function_of_vectors_texts_and_structs(engine):
    """Vectors in, a list of structs out: what multi-class models give."""
    probabilities = parse_type("list<struct<label: text, prob: float64>>")

    def call(arrays):
        width = arrays[0].type.list_size
        rows = [[{"label": t, "prob": float(width)}] for t in arrays[1].to_pylist()]
        return pa.array(rows)

    made = Function("f", [array_of(FLOAT64, 2), TEXT], probabilities, call)
    found = engine.fetch("SELECT f([1, 2]::DOUBLE[2], 'a') AS p", functions=[made])
    assert found["p"].to_pylist() == [[{"label": "a", "prob": 2.0}]]


def test_exception_in_a_function_arrives_as_it_was(engine):
    """The user's own type and words; the function is gone afterwards."""

    def fail(arrays):
        raise DataError("column `x` is infinite in row 3")

    with pytest.raises(DataError, match="infinite in row 3"):
        engine.fetch("SELECT f(range::DOUBLE) FROM range(5)", functions=[function(1, fail)])
    with pytest.raises(EngineError, match="f does not exist"):
        engine.fetch("SELECT f(1.0)")


def test_volatile_function_is_called_once_per_row(engine):
    """A filter on its result does not call it again."""
    rows = {False: 0, True: 0}
    for volatile in rows:

        def call(arrays, volatile=volatile):
            rows[volatile] += len(arrays[0])
            return arrays[0]

        sql = "SELECT y FROM (SELECT f(range::DOUBLE) AS y FROM range(10000)) WHERE y >= 0"
        made = function(1, call, volatile=volatile)
        assert engine.fetch(sql, functions=[made]).num_rows == 10_000
    assert rows[True] == 10_000
    assert rows[False] >= rows[True]


def test_functions_in_a_stream_inside_a_transaction(engine):
    """The user's open transaction does not come into the way."""
    engine.run("BEGIN")
    engine.run("CREATE TABLE u AS SELECT 1 AS i")
    made = Function("f", [INT64], INT64, lambda a: pc.add(a[0], 1))
    with engine.stream("SELECT f(i) AS j FROM u", functions=[made]) as reader:
        assert reader.read_all()["j"].to_pylist() == [2]
    engine.run("COMMIT")
    assert engine.run("SELECT i FROM u").fetchall() == [(1,)]
