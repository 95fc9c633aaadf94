"""Every type of PostgreSQL either works or is refused by name."""

from __future__ import annotations

import datetime as dt
import decimal
import math

import numpy as np
import pyarrow as pa
import pytest

import gradbase as gb
from gradbase.engines import connect
from gradbase.errors import DataError, GradbaseError, UnsupportedError
from gradbase.testing.servers import postgres_url

UTC = dt.UTC
D = decimal.Decimal


@pytest.fixture(scope="module")
def engine():
    engine = connect(postgres_url())
    engine.run("CREATE TYPE mood AS ENUM ('sad', 'ok')")
    engine.run("CREATE DOMAIN age AS integer CHECK (VALUE >= 0)")
    engine.run("CREATE TYPE pair AS (a integer, b text)")
    yield engine
    engine.close()


# expression, our type, the value in Arrow
VALUES = [
    ("true", "bool", True),
    ("7::smallint", "int16", 7),
    ("-7::integer", "int32", -7),
    ("9223372036854775807", "int64", 2**63 - 1),
    ("7::oid", "int64", 7),
    ("1.5::real", "float32", 1.5),
    ("0.1::double precision", "float64", 0.1),
    ("'-Infinity'::double precision", "float64", -math.inf),
    ("12345678901234567890.12345::numeric(30,5)", "decimal(30,5)", D("12345678901234567890.12345")),
    ("(-0.05)::numeric(4,2)", "decimal(4,2)", D("-0.05")),
    ("(-1000000)::numeric(9,0)", "decimal(9,0)", D("-1000000")),
    ("0.1::numeric", "float64", 0.1),
    ("1e200::numeric", "float64", 1e200),
    ("'it''s \\ größe 日本'", "text", "it's \\ größe 日本"),
    ("''::varchar(3)", "text", ""),
    ("'ab'::char(4)", "text", "ab  "),
    ("'n'::name", "text", "n"),
    ("'ok'::mood", "enum", "ok"),
    ("7::age", "int32", 7),
    ("decode('00ff10', 'hex')", "blob", b"\x00\xff\x10"),
    ("'2024-02-29'::date", "date", dt.date(2024, 2, 29)),
    ("'1960-01-01'::date", "date", dt.date(1960, 1, 1)),
    ("'12:34:56.789'::time", "time", dt.time(12, 34, 56, 789000)),
    ("'2024-02-29 01:02:03.000004'::timestamp", "timestamp", dt.datetime(2024, 2, 29, 1, 2, 3, 4)),  # noqa: DTZ001
    ("'2024-02-29 01:02:03+02'::timestamptz", "timestamptz",
     dt.datetime(2024, 2, 28, 23, 2, 3, tzinfo=UTC)),
    ("'1 month 2 days 3 seconds'::interval", "interval", pa.MonthDayNano([1, 2, 3 * 10**9])),
    ("'00112233-4455-6677-8899-aabbccddeeff'::uuid", "uuid",
     "00112233-4455-6677-8899-aabbccddeeff"),
    ("'{\"a\": 1}'::json", "json", '{"a": 1}'),
    ("'{\"a\": 1}'::jsonb", "json", '{"a": 1}'),
    ("ARRAY[1, NULL, 3]", "list<int32>", [1, None, 3]),
    ("ARRAY[1.5, 2.5]::real[]", "list<float32>", [1.5, 2.5]),
    ("ARRAY['a', NULL, 'b,\"c']", "list<text>", ["a", None, 'b,"c']),
    ("'{}'::integer[]", "list<int32>", []),
    ("ARRAY[1.5, 2]::numeric(4,1)[]", "list<decimal(4,1)>", [D("1.5"), D("2.0")]),
    ("ARRAY[true, false]", "list<bool>", [True, False]),
    ("'[1,2.5,-3]'::vector(3)", "float32[3]", [1.0, 2.5, -3.0]),
    ("'[1,2.5]'::vector", "list<float32>", [1.0, 2.5]),
    ("'[1,2.5]'::halfvec(2)", "float32[2]", [1.0, 2.5]),
    ("NULL", "text", None),
]  # fmt: skip


@pytest.mark.parametrize(("sql", "of", "value"), VALUES, ids=[v[0] for v in VALUES])
def test_types_come_as_they_are(engine, sql, of, value):
    """The value, a NULL and a value again, in one batch."""
    row = f"SELECT {sql} AS v"  # a join, for CASE forgets the precision of a number
    query = f"SELECT q.v FROM generate_series(1, 3) i LEFT JOIN ({row}) q ON i <> 2 ORDER BY i"
    ((_, found),) = engine.types(query)
    assert str(found) == of
    assert engine.fetch(query)["v"].to_pylist() == [value, None, value]


OTHERS = [
    ("'192.168.0.1'::inet", "inet", "192.168.0.1/32"),
    ("'08:00:2b:01:02:03'::macaddr", "macaddr", "08:00:2b:01:02:03"),
    ("'[1,5)'::int4range", "int4range", "[1,5)"),
    ("'(1,2)'::point", "point", "(1,2)"),
    ("B'101'", "bit", "101"),
    ("'12:00:00+02'::timetz", "timetz", "12:00:00+02"),
    ("1.5::money", "money", "$1.50"),
    ("ROW(1, 'x')::pair", "pair", "(1,x)"),
    ("'a & b'::tsquery", "tsquery", "'a' & 'b'"),
    ("'{1:2}/3'::sparsevec", "sparsevec", "{1:2}/3"),
]


@pytest.mark.parametrize(("sql", "name", "text"), OTHERS, ids=[o[1] for o in OTHERS])
def test_other_types_are_text_with_a_name(engine, sql, name, text):
    """They keep their name, and are read as the server writes them."""
    ((_, found),) = engine.types(f"SELECT {sql} AS v")
    assert (found.kind, found.text) == ("other", name)
    assert engine.fetch(f"SELECT {sql} AS v")["v"].to_pylist() == [text]


def test_infinite_dates(engine):
    """As DuckDB's: the last numbers there are."""
    query = "SELECT 'infinity'::date AS d, '-infinity'::timestamp AS t"
    found = engine.fetch(query)
    assert found["d"].cast(pa.int32()).to_pylist() == [2**31 - 1]
    assert found["t"].cast(pa.int64()).to_pylist() == [-(2**63 - 1)]


ROUND = [
    pa.array([True, None]),
    pa.array([1, None], pa.int8()),
    pa.array([2**63 - 1, None], pa.int64()),
    pa.array([2**63, None], pa.uint64()),
    pa.array([0.1, math.inf], pa.float32()),
    pa.array([0.1, -0.0, 5e-324, None]),
    pa.array(["", 'a"b', "x\ny", "\\.", "NULL", None, "日本"]),
    pa.array([b"\x00\xff", None]),
    pa.array([dt.date(1, 1, 1), None]),
    pa.array([dt.datetime(2024, 1, 2, 3, 4, 5, 6), None], pa.timestamp("us")),  # noqa: DTZ001
    pa.array([dt.datetime(2024, 1, 2, tzinfo=UTC), None], pa.timestamp("us", "UTC")),
    pa.array([dt.time(1, 2, 3), None], pa.time64("us")),
    pa.array([D("1.20"), None], pa.decimal128(9, 2)),
    pa.array([[1.5, None], [], None], pa.list_(pa.float64())),
    pa.array([["a,b", 'q"', None, "\\"], None]),
    pa.array([[1.0, 2.0], None], pa.list_(pa.float32(), 2)),
    pa.array(["a", None, "b"]).dictionary_encode(),
]


@pytest.mark.parametrize("column", ROUND, ids=[str(a.type) for a in ROUND])
def test_arrow_goes_there_and_back(engine, column):
    """Values, signs of zeros, NULLs and empty texts survive the way into a temporary table."""
    rows = pa.table({"k": list(range(len(column))), "v": column})
    found = engine.fetch("SELECT v FROM t ORDER BY k", views={"t": rows})["v"].to_pylist()
    assert list(map(repr, map(_plain, found))) == list(map(repr, map(_plain, column.to_pylist())))


def _plain(value):
    return D(value).normalize() if isinstance(value, (D, int)) else value


def test_structs_are_json(engine):
    """PostgreSQL has no type for them that would outlive the statement."""
    rows = pa.table({"v": [[{"label": "a", "prob": 0.5}], None]})
    sql = "SELECT v->0->>'label' AS l FROM t"
    assert engine.fetch(sql, views={"t": rows})["l"].to_pylist() == ["a", None]


def test_no_rows(engine):
    """Nothing comes, with the types all the same."""
    found = engine.fetch("SELECT 1 AS n, 'a' AS s WHERE false")
    assert found.num_rows == 0
    assert found.schema.types == [pa.int32(), pa.string()]


def test_nul_is_refused(engine):
    """The server's texts hold every character but one."""
    with pytest.raises(DataError, match="NUL"):
        engine.fetch("SELECT * FROM t", views={"t": pa.table({"v": ["a\0b"]})})


def test_many_rows_of_mixed_columns(engine):
    """Batches of rows whose fields have no common place."""
    query = (
        "SELECT i, CASE WHEN i % 3 > 0 THEN i * 0.5 END AS x, repeat('ä', i % 5) AS s, "
        "(i % 7)::numeric(6,2) AS n FROM generate_series(1, 20000) i"
    )
    with engine.stream(query, batch_rows=3000) as reader:
        found = reader.read_all()
    assert found["i"].to_pylist() == list(range(1, 20001))
    assert found["x"].null_count == 6666
    assert found["s"].to_pylist()[:6] == ["ä", "ää", "äää", "ääää", "", "ä"]
    assert sum(found["n"].to_pylist()) == sum(i % 7 for i in range(1, 20001))
    assert np.nansum(found["x"].to_numpy()) == sum(i * 0.5 for i in range(1, 20001) if i % 3)


def test_copy_to_the_client_is_refused(engine):
    """There is no file to read from here."""
    with pytest.raises(UnsupportedError, match="STDIN"):
        engine.run("COPY t FROM STDIN")


EVERY = (
    "SELECT format_type(oid, NULL) FROM pg_type WHERE typtype IN ('b', 'd', 'e', 'r', 'm', 'c') "
    "AND typisdefined AND typrelid IN (SELECT 0 UNION SELECT 'pair'::regclass::oid) "
    "AND format_type(oid, NULL) NOT IN ('pg_node_tree') ORDER BY 1"
)
SAMPLES = (
    "1", "1.5", "t", "a", "2024-02-29", "12:00", "{}", "{1}", "[1,2]", "(1,2)", "1,2,3,4", "ok", "{1:2}/3",
    "<a>b</a>", "192.168.0.1", "08:00:2b:01:02:03", "08:00:2b:01:02:03:04:05", "1 day", "0/0", "(1,x)",
    "00112233-4455-6677-8899-aabbccddeeff", "(0,0),(1,1)", "<(1,2),3>", "{1,2,3}", "[2024-01-01,)", "10:20:",
    "public", "pg_catalog.int4", "pg_type", "+(integer,integer)", "sum(integer)", "english", "=r/postgres", "YES", "-", "",
)  # fmt: skip


def test_every_type_of_the_server_comes(engine):
    """Each in a column of its own, as its value or as its text; NULLs too."""
    names = [name for (name,) in engine.rows(EVERY, None, None)]
    assert len(names) > 150
    found = {name: next((s for s in SAMPLES if _is_valid(engine, s, name)), None) for name in names}
    lacking = {name for name, sample in found.items() if sample is None}
    assert lacking <= WITHOUT_TEXT
    columns = [(i, n, s) for i, (n, s) in enumerate(found.items()) if s is not None]
    casts = ", ".join(f"'{s}'::{n} AS c{i}" for i, n, s in columns)
    query = f"SELECT v.* FROM generate_series(1, 3) i LEFT JOIN (SELECT {casts}) v ON i <> 2"
    types = dict(engine.types(query))
    rows = engine.fetch(query + " ORDER BY i")
    for i, name, sample in columns:
        first, none, last = rows[f"c{i}"].to_pylist()
        assert none is None, name
        assert repr(first) == repr(last), name
        if types[f"c{i}"].kind == "other":
            text = engine.rows(f"SELECT ('{sample}'::{name})::text", None, None)
            assert [(first,)] == text, name


WITHOUT_TEXT = {
    "pg_ndistinct", "pg_dependencies", "pg_mcv_list", "pg_brin_bloom_summary", "gtsvector",
    "pg_brin_minmax_multi_summary", "xml",
}  # fmt: skip
"""Types of the server's own that nobody can write a value of; `xml` is not in this build."""


def _is_valid(engine, sample, name):
    query = f"SELECT pg_input_is_valid('{sample}', $name)"
    try:
        return engine.rows(query, {"name": name}, None) == [(True,)]
    except GradbaseError:  # some types fail hard
        return False


def test_what_cannot_be_a_feature_is_refused_by_name():
    """One column of each kind: it is trained on, or the error names it and its type."""
    columns = {"id": "i", "label": "i % 2 = 0", "number": "i / 3.0::float8"}
    works = {
        "flag": "i % 3 = 0", "small": "i::smallint", "exact": "i::numeric(9, 2)", "sum": "i::numeric",
        "word": "'k' || i % 3", "mood": "(ARRAY['sad', 'ok'])[i % 2 + 1]::mood", "day": "DATE '2024-01-01' + i",
        "moment": "TIMESTAMP '2024-01-01' + i * interval '1 hour'", "v": "ARRAY[i, 1]::vector(2)",
        "fixed": "('k' || i % 3)::char(4)", "age": "i::age",
    }  # fmt: skip
    refused = {
        "net": "'192.168.0.1'::inet", "span": "int4range(1, 3)", "place": "point(1, 2)", "bits": "B'101'",
        "cash": "1.5::money", "pair": "ROW(1, 'x')::pair", "raw": "'a'::bytea", "data": "'{}'::jsonb",  "late": "'12:00+02'::timetz",
    }  # fmt: skip
    with gb.connect(postgres_url(), progress=False) as db:
        db.sql("CREATE TYPE mood AS ENUM ('sad', 'ok')").fetchall()
        db.sql("CREATE DOMAIN age AS integer CHECK (VALUE >= 0)").fetchall()
        db.sql("CREATE TYPE pair AS (a integer, b text)").fetchall()
        items = ", ".join(f"{sql} AS {n}" for n, sql in (columns | works | refused).items())
        db.sql(f"CREATE TABLE every AS SELECT {items} FROM generate_series(1, 40) i").fetchall()
        train = (
            "CREATE OR REPLACE MODEL m OPTIONS (model_type = 'logistic_reg', row_key = ['id'], "
            "input_label_cols = ['label'], max_epochs = 1) AS SELECT id, label, number, {} FROM every"
        )
        db.sql(train.format(", ".join(works)))
        assert db.sql("SELECT count(PREDICT(m, *)) FROM every").fetchall() == [(40,)]
        for name in refused:
            with pytest.raises(UnsupportedError, match=f"`{name}` of type"):
                db.sql(train.format(name))
