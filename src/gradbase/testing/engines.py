"""What every engine must do, written once.

An engine's test file has a class with a `conf`::

    class TestDuckDB(EngineContract):
        conf = TestConf("duckdb", connect=lambda folder: connect(folder / "contract.duckdb"))

Where an engine falls short, `TestConf.gaps` names the test, one of three marks and the exception;
the test then must fail with it, so that a gap that closes is noticed.
"""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa
import pytest

from gradbase.engines import Engine, Function, connect, quote_identifier
from gradbase.errors import CancelledError, EngineError, GradbaseError
from gradbase.ir.relational import Aggregate, Filter, Join, Limit, Project, Relation, Scan, Sort
from gradbase.ir.scalar import Column, Compare, Literal, SqlScalar
from gradbase.ir.types import FLOAT64, INT64, TEXT, Schema

MARKS = ("notimpl", "notyet", "never")


@dataclass(frozen=True)
class Gap:
    """A test that an engine does not pass.

    Parameters
    ----------
    mark : str
        ``notimpl`` (we could), ``notyet`` (the engine cannot yet), ``never``.
    error : type
        What the test raises.
    reason : str
    """

    mark: str
    error: type[BaseException]
    reason: str

    def __post_init__(self) -> None:
        assert self.mark in MARKS, self.mark


@dataclass(frozen=True)
class TestConf:
    """How to test an engine.

    Parameters
    ----------
    name : str
    connect : callable
        Opens it; given an empty folder that may hold its files.
    slow : str
        A query that takes minutes, and notices an interrupt.
    gaps : mapping of str to Gap
        Test (its name without ``test_``) -> why it fails.
    """

    __test__: ClassVar[bool] = False

    name: str
    connect: Callable[[Path], Engine]
    slow: str = (
        "WITH RECURSIVE r(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM r WHERE i < 100000000) "
        "SELECT count(*) AS n FROM r"
    )
    gaps: Mapping[str, Gap] = field(default_factory=dict)
    tables: Sequence[str] = ()
    """Statements that make the two tables, where those of `EngineContract.engine` do not."""
    column: str = "CREATE TABLE {table} ({column} BIGINT); INSERT INTO {table} VALUES (7)"
    """Statements that make a table of one column with the number 7."""


class EngineContract:
    """Subclass with a `conf` in a test file; every test gets a fresh engine with two tables."""

    conf: ClassVar[TestConf]

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        for name, gap in cls.conf.gaps.items():
            _mark(cls, f"test_{name}", gap)

    @pytest.fixture
    def engine(self, tmp_path: Path) -> Generator[Engine]:
        """Tables ``points`` (id, x, seg; 1,000 rows, some NULL) and ``names`` (seg, name)."""
        engine = self.conf.connect(tmp_path)
        for statement in self.conf.tables or _TABLES:
            engine.run(statement)
        yield engine
        engine.close()

    # -- looking -----------------------------------------------------------------------------------

    def test_types_without_running(self, engine: Engine) -> None:
        """Names in order, our types; nothing is executed."""
        found = engine.types("SELECT id, x, 'a' || seg AS s FROM points")
        assert found == [("id", INT64), ("x", FLOAT64), ("s", TEXT)]
        assert engine.schema("SELECT seg FROM names").names == ("seg",)

    def test_statistics(self, engine: Engine) -> None:
        """Rows within a factor of two, None for what is not there."""
        table = engine.statistics.table("points")
        assert table is not None
        assert 500 <= table.rows <= 2000
        assert engine.statistics.table("nowhere") is None

    def test_capabilities(self, engine: Engine) -> None:
        """The engine names itself and at least one way to predict."""
        assert engine.capabilities.engine == engine.name == self.conf.name
        assert "dl" in engine.capabilities.representations

    # -- reading -----------------------------------------------------------------------------------

    def test_fetch_with_parameters(self, engine: Engine) -> None:
        """Values are bound, never pasted."""
        found = engine.fetch("SELECT count(*) AS n FROM points WHERE id < $p1", {"p1": 10})
        assert _cells(found) == [[10]]
        nasty = "'; DROP TABLE points; --"
        found = engine.fetch("SELECT count(*) AS n FROM names WHERE name = $p1", {"p1": nasty})
        assert _cells(found) == [[0]]
        assert _cells(engine.fetch("SELECT count(*) AS n FROM points")) == [[1000]]

    def test_stream_equals_fetch(self, engine: Engine) -> None:
        """Same rows, in batches no larger than asked for."""
        sql = "SELECT id, x FROM points ORDER BY id"
        with engine.stream(sql, batch_rows=64) as reader:
            batches = list(reader)
        assert max(b.num_rows for b in batches) <= 64
        assert pa.Table.from_batches(batches).equals(engine.fetch(sql).combine_chunks())

    def test_streams_coexist(self, engine: Engine) -> None:
        """Two open streams and a statement between them."""
        with (
            engine.stream("SELECT id FROM points") as one,
            engine.stream("SELECT * FROM names") as two,
        ):
            assert one.read_next_batch().num_rows > 0
            assert _cells(engine.fetch("SELECT 1 AS n")) == [[1]]
            assert two.read_all().num_rows == 4

    def test_stream_left_early(self, engine: Engine) -> None:
        """The connection is free again."""
        for _ in range(3):
            with engine.stream("SELECT a.id FROM points a, points b", batch_rows=100) as reader:
                reader.read_next_batch()
        assert _cells(engine.fetch("SELECT 1 AS n")) == [[1]]

    def test_views_of_one_statement(self, engine: Engine) -> None:
        """A table and a lazy stream join the engine's own rows, and are gone afterwards."""
        table = pa.table({"id": [1, 2, 3]})
        sql = "SELECT count(*) AS n FROM points JOIN v USING (id)"
        assert _cells(engine.fetch(sql, views={"v": table})) == [[3]]
        with (
            engine.stream("SELECT id FROM points WHERE id < 5") as source,
            engine.stream(sql, views={"v": source}) as reader,
        ):
            assert _cells(reader.read_all()) == [[5]]
        with pytest.raises(EngineError):
            engine.fetch(sql)

    def test_functions_of_one_statement(self, engine: Engine) -> None:
        """An Arrow function gets NULLs, and is gone afterwards."""
        missing = Function("f", [FLOAT64], INT64, lambda a: a[0].is_null().cast(pa.int64()))
        found = engine.fetch("SELECT sum(f(x)) AS n FROM points", functions=[missing])
        assert int(found["n"][0].as_py()) == 100
        with pytest.raises(EngineError):
            engine.fetch("SELECT f(x) FROM points")

    # -- compiling ---------------------------------------------------------------------------------

    def test_compiled_relations(self, engine: Engine) -> None:
        """Filter, join, aggregate, sort and limit give the rows of the plain query."""
        found = engine.fetch(engine.compile(_plan()))
        plain = (
            "SELECT name, count(*) AS n FROM points JOIN names USING (seg) WHERE id < 50 "
            "GROUP BY name ORDER BY n DESC, name LIMIT 2"
        )
        assert _cells(found) == _cells(engine.fetch(plain))

    def test_names_of_any_shape(self, engine: Engine) -> None:
        """Quotes, semicolons, Unicode, reserved words and long names, as column and table."""
        for name in _NAMES:
            table = quote_identifier(f"t {name}")
            quoted = engine.dialect.identifier
            for statement in self.conf.column.split("; "):
                engine.run(statement.format(table=quoted(f"t {name}"), column=quoted(name)))
            column = Column(name, INT64)
            plan = Filter(
                Scan(table, "", Schema.of(**{name: INT64})), Compare("=", column, _int(7))
            )
            assert engine.fetch(engine.compile(plan)).to_pydict() == {name: [7]}
            assert engine.exact_moments(f"SELECT * FROM {table}", [name])[name].mean == 7.0

    # -- writing -----------------------------------------------------------------------------------

    def test_transaction_commits(self, engine: Engine) -> None:
        """Seen by others when the block has ended."""
        with engine.transaction() as handle:
            handle.execute("DELETE FROM names")
            assert _cells(engine.fetch("SELECT count(*) AS n FROM names")) == [[4]]
        assert _cells(engine.fetch("SELECT count(*) AS n FROM names")) == [[0]]

    def test_transaction_rolls_back(self, engine: Engine) -> None:
        """An exception leaves nothing."""
        with pytest.raises(ZeroDivisionError):
            _delete_then_fail(engine)
        assert _cells(engine.fetch("SELECT count(*) AS n FROM names")) == [[4]]

    def test_temporary_tables_and_open_transactions(self, engine: Engine) -> None:
        """What the user made on this session is read by every way of reading."""
        engine.run("CREATE TEMP TABLE mine AS SELECT 5 AS n")
        engine.run("BEGIN")
        engine.run("DELETE FROM names")
        sql = "SELECT n, (SELECT count(*) FROM names) AS left_over FROM mine"
        assert _cells(engine.fetch(sql)) == [[5], [0]]
        with engine.stream(sql) as reader:
            assert _cells(reader.read_all()) == [[5], [0]]
        engine.run("ROLLBACK")
        assert _cells(engine.fetch(sql)) == [[5], [4]]

    def test_side_tables(self, engine: Engine) -> None:
        """Another connection joins them; without them the engine says why."""
        if not engine.capabilities.side_tables:
            assert engine.capabilities.unsupported["targeted"]
            return
        asked: Any = engine
        rows = pa.table({"key": [3, 5, 7], "place": [0, 1, 2], "shard": [0, 1, 1]})
        with asked.side_table(rows) as side:
            sql = (
                f"SELECT p.id, s.place FROM (SELECT id FROM points) p JOIN {side.name} s "
                "ON p.id = s.key WHERE s.shard = $p1 ORDER BY s.place"
            )
            with contextlib.closing(connect(side.address, read_only=True)) as other:
                assert _cells(other.fetch(sql, {"p1": 1})) == [[5, 7], [1, 2]]
        with pytest.raises(GradbaseError):
            engine.fetch(f"SELECT * FROM {side.name}")

    # -- order-free statistics ---------------------------------------------------------------------

    def test_moments_do_not_depend_on_order(self, engine: Engine) -> None:
        """Bit for bit, and right."""
        up = engine.exact_moments("SELECT x FROM points ORDER BY id", ["x"])
        down = engine.exact_moments("SELECT x FROM points ORDER BY id DESC", ["x"])
        assert up == down
        assert (up["x"].count, up["x"].nulls) == (900, 100)
        assert up["x"].mean == pytest.approx(449_500 / 1800)

    def test_vocabulary_ties_by_bytes(self, engine: Engine) -> None:
        """Count descending, then UTF-8 bytes."""
        found = engine.vocabulary("SELECT name FROM names", ["name"], 3)
        assert found == {"name": [("Z", 1), ("a", 1), ("b", 1)]}
        assert engine.distinct_counts("SELECT name, seg FROM names", ["name"]) == {"name": 4}

    # -- errors ------------------------------------------------------------------------------------

    @pytest.mark.parametrize(
        "sql", ["SELEC 1", "SELECT * FROM nowhere", "SELECT nothing FROM names"]
    )
    def test_errors_keep_their_cause(self, engine: Engine, sql: str) -> None:
        """EngineError with the engine's own exception behind it; the session goes on."""
        with pytest.raises(EngineError) as caught:
            engine.fetch(sql)
        assert caught.value.__cause__ is not None
        assert _cells(engine.fetch("SELECT 1 AS n")) == [[1]]

    def test_interrupt(self, engine: Engine) -> None:
        """CancelledError in the thread that waits."""
        timer = threading.Timer(0.3, engine.interrupt)
        timer.start()
        with pytest.raises(CancelledError):
            engine.fetch(self.conf.slow)
        timer.join()

    def test_closed(self, engine: Engine) -> None:
        """Closing twice is allowed; using it afterwards is one of our errors."""
        engine.close()
        engine.close()
        with pytest.raises(GradbaseError):
            engine.fetch("SELECT 1 AS n")


_POINTS = """
WITH RECURSIVE r(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM r WHERE i < 999)
INSERT INTO points SELECT i, CASE WHEN i % 10 <> 5 THEN i * 0.5 END, i % 4 FROM r
"""

_TABLES = (
    "CREATE TABLE points (id BIGINT, x DOUBLE PRECISION, seg BIGINT)",
    _POINTS,
    "CREATE TABLE names (seg BIGINT, name VARCHAR(10))",
    "INSERT INTO names VALUES (0, 'b'), (1, 'a'), (2, 'Z'), (3, 'é')",
)

_NAMES = ('quo"te', "semi;colon", "select", "Größe 日本", "n" * 60, "a'b", "100%", "--")


def _int(value: int) -> Literal:
    return Literal(value, INT64)


def _plan() -> Relation:
    points = Scan("points", "p.", Schema.of(**{"p.id": INT64, "p.seg": INT64}))
    names = Scan("names", "n.", Schema.of(**{"n.seg": INT64, "n.name": TEXT}))
    few = Filter(points, Compare("<", Column("p.id", INT64), _int(50)))
    on = Compare("=", Column("p.seg", INT64), Column("n.seg", INT64))
    name, n = Column("n.name", TEXT), Column("n", INT64)
    count = SqlScalar(("count(*)",), (), INT64)
    groups = Aggregate(Join(few, names, "inner", on), ("n.name",), (name,), ("n",), (count,))
    top = Limit(Sort(groups, (n, name), ("desc nulls last", "asc nulls last")), 2)
    return Project(top, ("name", "n"), (name, n))


def _cells(table: pa.Table) -> list[list[Any]]:
    return [column.to_pylist() for column in table.columns]


def _delete_then_fail(engine: Engine) -> None:
    with engine.transaction() as handle:
        handle.execute("DELETE FROM names")
        raise ZeroDivisionError


def _mark(cls: type, name: str, gap: Gap) -> None:
    """Give the subclass a test of its own that must fail with the gap's error."""
    inherited = getattr(cls, name)

    @functools.wraps(inherited)
    def test(*args: Any, **kwargs: Any) -> None:
        inherited(*args, **kwargs)

    test = getattr(pytest.mark, gap.mark)(test)
    setattr(cls, name, pytest.mark.xfail(raises=gap.error, reason=gap.reason, strict=True)(test))
