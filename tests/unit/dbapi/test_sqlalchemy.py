"""The dialect: SQLAlchemy's core and mapper, pandas, on tables and models."""

from __future__ import annotations

import datetime as dt
import importlib
import threading
import tomllib
from decimal import Decimal
from pathlib import Path

import pandas as pd
import pytest
import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

import shop
from gradbase.dbapi.sqlalchemy import sql_type

ROOT = Path(__file__).parents[3]


@pytest.fixture
def engine(own_shop):
    made = sa.create_engine(f"gradbase:///{own_shop}")
    yield made
    made.dispose()


@pytest.fixture
def memory():
    made = sa.create_engine("gradbase://")
    yield made
    made.dispose()


def test_the_entry_point_names_the_dialect():
    points = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]
    module, name = points["sqlalchemy.dialects"]["gradbase"].split(":")
    assert getattr(importlib.import_module(module), name).name == "gradbase"


def test_pandas_reads_tables_and_predictions(engine):
    """Without a warning, as pandas gives for connections that it does not know."""
    found = pd.read_sql("SELECT id, age, since FROM customers ORDER BY id", engine)
    assert found.shape == (shop.ROWS, 3)
    query = "SELECT id, PREDICT(churn, *) AS label, PREDICT_PROBA(churn, *) AS p FROM customers WHERE id < 5 ORDER BY id"
    found = pd.read_sql(query, engine)
    assert list(found.columns) == ["id", "label", "p"]
    assert set(found["label"]) <= {"no", "yes"}
    assert ((found["p"] > 0.5) == (found["label"] == "yes")).all()
    with engine.connect() as connection:
        some = pd.read_sql(
            sa.text(query.replace("5", ":n")), connection, params={"n": 3}, index_col="id"
        )
        assert list(some.index) == [0, 1, 2]
        evaluated = pd.read_sql(
            "SELECT * FROM ML.EVALUATE(MODEL churn, TABLE customers)", connection
        )
        assert 0 <= evaluated["roc_auc"][0] <= 1
        chunks = pd.read_sql(
            "SELECT PREDICT(churn, *) AS label FROM customers", connection, chunksize=100
        )
        assert [len(c) for c in chunks] == [100, 100, 40]


def test_pandas_writes_and_reads_a_table(memory):
    frame = pd.DataFrame(
        {
            "id": [1, 2],
            "s": ["a", None],
            "x": [0.5, 1.5],
            "b": [True, False],
            "d": pd.to_datetime(["2020-01-01", "2021-06-01"]),
        }
    )
    assert frame.to_sql("t", memory, index=False) == 2
    back = pd.read_sql_table("t", memory)
    assert back["id"].tolist() == [1, 2]
    assert back["d"].tolist() == frame["d"].tolist()
    assert back["s"].isna().tolist() == [False, True]
    assert frame.to_sql("t", memory, index=False, if_exists="append") == 2
    assert pd.read_sql("SELECT count(*) AS n FROM t", memory)["n"].tolist() == [4]


def test_training_through_sqlalchemy(engine):
    with engine.begin() as connection:
        row = connection.execute(sa.text(shop.create_model("m", max_epochs=1))).one()
        assert row.model == "m"
        assert connection.execute(sa.text("SHOW MODELS")).rowcount == 5
        connection.execute(sa.text("DROP MODEL m"))


def test_core(memory):
    """Insert, select, update, delete; NULL, decimals, dates, limits."""
    meta = sa.MetaData()
    table = sa.Table(
        "items", meta, sa.Column("id", sa.Integer, primary_key=True, autoincrement=False), sa.Column("name", sa.String(20)),
        sa.Column("price", sa.Numeric(9, 2)), sa.Column("seen", sa.DateTime), sa.Column("good", sa.Boolean),
    )  # fmt: skip
    meta.create_all(memory)
    meta.create_all(memory)
    seen = dt.datetime(2020, 1, 1, 10)  # noqa: DTZ001
    rows = [
        {"id": i, "name": f"n{i}", "price": Decimal("1.25") * i, "seen": seen, "good": i % 2 == 0}
        for i in range(5)
    ]
    with memory.begin() as connection:
        connection.execute(table.insert(), rows)
        query = sa.select(table).where(table.c.good).order_by(table.c.id.desc()).limit(2).offset(1)
        assert connection.execute(query).all() == [
            (2, "n2", Decimal("2.50"), seen, True),
            (0, "n0", Decimal("0.00"), seen, True),
        ]
        assert (
            connection.execute(table.update().where(table.c.id > 2).values(name=None)).rowcount == 2
        )
        assert connection.scalar(sa.select(sa.func.count(table.c.name))) == 3
        assert connection.execute(table.delete().where(table.c.name.is_(None))).rowcount == 2
    meta.drop_all(memory)
    assert sa.inspect(memory).get_table_names() == []


def test_transactions(engine):
    def work(fails):
        with engine.begin() as connection:
            connection.execute(sa.text("DELETE FROM customers WHERE id >= 100"))
            if fails:
                raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        work(fails=True)
    count = sa.text("SELECT count(*) FROM customers")
    with engine.connect() as one, engine.connect() as two:
        assert one.scalar(count) == shop.ROWS
        one.execute(sa.text("DELETE FROM customers"))
        assert (one.scalar(count), two.scalar(count)) == (0, shop.ROWS)
    work(fails=False)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        assert connection.get_isolation_level() == "AUTOCOMMIT"
        connection.execute(sa.text("DELETE FROM customers WHERE id >= 50"))
    with engine.connect() as connection:
        assert connection.get_isolation_level() == "SNAPSHOT"
        assert connection.scalar(count) == 50


def test_errors_are_sqlalchemy_s(engine):
    with engine.connect() as connection:
        with pytest.raises(sa.exc.ProgrammingError, match="did you mean `churn`"):
            connection.execute(sa.text("SELECT PREDICT(chrun, *) FROM customers"))
        connection.execute(sa.text("CREATE TABLE one (i INTEGER PRIMARY KEY)"))
        connection.execute(sa.text("INSERT INTO one VALUES (1)"))
        with pytest.raises(sa.exc.IntegrityError):
            connection.execute(sa.text("INSERT INTO one VALUES (1)"))


def test_tables_are_described(memory):
    with memory.begin() as connection:
        connection.execute(sa.text("CREATE SCHEMA s"))
        connection.execute(
            sa.text("CREATE TABLE parent (a INTEGER, b VARCHAR, PRIMARY KEY (a, b))")
        )
        connection.execute(
            sa.text(
                "CREATE TABLE s.child (id BIGINT NOT NULL DEFAULT 3, f DECIMAL(9, 2), e ENUM('x'), l INTEGER[])"
            )
        )
        connection.execute(
            sa.text(
                "CREATE TABLE other (a INTEGER, b VARCHAR, FOREIGN KEY (a, b) REFERENCES parent (a, b))"
            )
        )
        connection.execute(sa.text("CREATE VIEW v AS SELECT a FROM parent"))
    found = sa.inspect(memory)
    assert found.default_schema_name == "main"
    assert {"main", "s"} <= set(found.get_schema_names())
    assert found.get_table_names() == ["other", "parent"]
    assert found.get_view_names() == ["v"]
    assert "parent" in found.get_view_definition("v")
    assert found.get_pk_constraint("parent")["constrained_columns"] == ["a", "b"]
    assert found.get_pk_constraint("other")["constrained_columns"] == []
    (key,) = found.get_foreign_keys("other")
    assert (key["constrained_columns"], key["referred_table"], key["referred_columns"]) == (
        ["a", "b"],
        "parent",
        ["a", "b"],
    )
    columns = {c["name"]: c for c in found.get_columns("child", schema="s")}
    assert (columns["id"]["nullable"], columns["id"]["default"]) == (False, "3")
    assert (columns["f"]["type"].precision, columns["f"]["type"].scale) == (9, 2)
    assert found.has_table("child", schema="s")
    assert not found.has_table("child")
    with pytest.raises(sa.exc.NoSuchTableError):
        found.get_columns("nowhere")
    with pytest.raises(sa.exc.NoSuchTableError):
        found.get_view_definition("nowhere")
    meta = sa.MetaData()
    meta.reflect(memory, views=True)
    assert set(meta.tables) == {"parent", "other", "v"}


@pytest.mark.parametrize(
    ("of", "expected"),
    [
        ("BOOLEAN", sa.Boolean), ("UTINYINT", sa.SmallInteger), ("HUGEINT", sa.BigInteger), ("DOUBLE", sa.Double),
        ("VARCHAR", sa.String), ("ENUM('a', 'b')", sa.String), ("BLOB", sa.LargeBinary), ("TIMESTAMP_NS", sa.DateTime),
        ("UUID", sa.Uuid), ("JSON", sa.JSON), ("INTERVAL", sa.Interval), ("INTEGER[]", sa.types.NullType),
    ],
)  # fmt: skip
def test_types(of, expected):
    assert type(sql_type(of, None, None)) is expected


class Base(DeclarativeBase):
    pass


class Person(Base):
    __tablename__ = "people"
    id: Mapped[int] = mapped_column(sa.Sequence("people_ids"), primary_key=True)
    name: Mapped[str]


def test_mapper(memory):
    Base.metadata.create_all(memory)
    with Session(memory) as session:
        session.add_all([Person(name="x"), Person(name="y")])
        session.commit()
        assert [(p.id, p.name) for p in session.scalars(sa.select(Person).order_by(Person.id))] == [
            (1, "x"),
            (2, "y"),
        ]
        assert sa.inspect(memory).has_sequence("people_ids")


def test_a_database_in_memory_is_one_for_all_threads(memory):
    with memory.begin() as connection:
        connection.execute(sa.text("CREATE TABLE t AS SELECT 1 AS i"))
    found = []

    def work():
        with memory.connect() as connection:
            found.append(connection.scalar(sa.text("SELECT i FROM t")))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [1]


def test_the_address(own_shop):
    made = sa.create_engine(
        f"gradbase:///{own_shop}?read_only=true&threads=1&memory_limit_bytes=500000000&progress=false"
    )
    with made.connect() as connection:
        session = connection.connection.dbapi_connection.session
        assert (session.settings.threads, session.settings.memory_limit_bytes) == (1, 500_000_000)
        with pytest.raises(sa.exc.DBAPIError, match="read-only"):
            connection.execute(sa.text("DELETE FROM customers"))
    made.dispose()
    for wrong in ("gradbase://host/x", "gradbase:///x?colour=red"):
        with pytest.raises(sa.exc.ArgumentError, match="means nothing here"):
            sa.create_engine(wrong).connect()
