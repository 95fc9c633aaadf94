"""Results for other programs: each format, each kind of value."""

from __future__ import annotations

import csv
import io
import json

import pytest

from gradbase.errors import BindError
from gradbase.session.formats import FORMATS, check, write

VALUES = (
    "SELECT 1 AS i, 0.5::DOUBLE AS x, 'a,\"b\"\nc|d' AS s, true AS b, NULL AS n, DATE '2020-01-02' AS d, 1.25::DECIMAL(9, 2) AS e, "
    "[1, NULL] AS l, {'k': 'v'} AS r, '\\x00\\xff'::BLOB AS z, 'nan'::DOUBLE AS y, sum(7) AS h, INTERVAL 1 DAY AS w"
)


def written(db, query, kind):
    out = io.StringIO()
    write(db.sql(query), kind, out)
    return out.getvalue()


def test_csv_is_read_back(db):
    (row,) = csv.DictReader(io.StringIO(written(db, VALUES, "csv")))
    assert row["s"] == 'a,"b"\nc|d'
    assert (row["i"], row["x"], row["b"], row["n"], row["d"], row["e"]) == (
        "1",
        "0.5",
        "true",
        "",
        "2020-01-02",
        "1.25",
    )
    assert json.loads(row["l"]) == [1, None]
    assert json.loads(row["r"]) == {"k": "v"}
    assert row["z"] == "AP8="


@pytest.mark.parametrize("kind", ["json", "jsonl"])
def test_json_is_read_back(db, kind):
    text = written(db, VALUES, kind)
    row = json.loads(text) if kind == "jsonl" else json.loads(text)[0]
    assert row["s"] == 'a,"b"\nc|d'
    assert (row["i"], row["x"], row["b"], row["n"], row["d"], row["e"]) == (
        1,
        0.5,
        True,
        None,
        "2020-01-02",
        1.25,
    )
    assert (row["l"], row["r"], row["z"], row["y"], row["h"]) == (
        [1, None],
        {"k": "v"},
        "AP8=",
        None,
        7,
    )


def test_markdown_keeps_its_bars(db):
    lines = written(db, VALUES, "markdown").splitlines()
    assert len(lines) == 3
    assert "<br>c\\|d" in lines[2]
    assert {line.replace("\\|", "").count("|") for line in lines} == {14}


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("csv", "i\n"),
        ("json", "[\n]\n"),
        ("jsonl", ""),
        ("markdown", "| i |\n|---|\n"),
        ("line", ""),
    ],
)
def test_no_rows(db, kind, text):
    assert written(db, "SELECT 1 AS i WHERE false", kind) == text


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize(
    "sql",
    ["CREATE TABLE t (i INTEGER)", "CREATE TABLE t AS SELECT 1 AS i", "SET gradbase.threads = 1"],
)
def test_statements_without_rows_write_nothing(db, kind, sql):
    assert written(db, sql, kind) == ""


@pytest.mark.parametrize("kind", FORMATS)
def test_many_rows_come_batch_by_batch(db, kind):
    text = written(db, "SELECT i, 'x' AS s FROM range(30000) t(i) ORDER BY i", kind)
    assert text.count("29999") == 1


def test_predictions(trained):
    text = written(
        trained,
        "SELECT id, PREDICT(churn, *) AS p FROM customers WHERE id < 3 ORDER BY id",
        "jsonl",
    )
    assert [json.loads(line)["id"] for line in text.splitlines()] == [0, 1, 2]


def test_an_unknown_format_names_the_others():
    with pytest.raises(BindError, match=r"(?s)there are table, csv.*did you mean `json`"):
        check("jsn")
