"""Statements of ours are taken apart; those of later releases are refused by name."""

from __future__ import annotations

import pytest

from gradbase.errors import BindError, ParseError, UnsupportedError
from gradbase.frontend.cursor import Candidates, Range
from gradbase.frontend.statements import (
    CreateModel,
    DropModel,
    Explain,
    Query,
    SetOption,
    ShowModels,
    Wrapped,
    parse_statement,
    substitute_tables,
)


def test_create_model():
    sql = """-- best of four
    CREATE OR REPLACE MODEL "My model" OPTIONS (
      MODEL_TYPE = 'dnn_classifier', labels = ['it''s'], learn_rate = HPARAM_RANGE(1e-4, 0.1),
      hidden_units = HPARAM_CANDIDATES([STRUCT([64, 32]), [128], STRUCT([8] AS x)]),
      early_stop = FALSE, l2_reg = -1.5, seed = 1_000, data_split_col = NULL,
    ) AS SELECT * FROM t -- all of it
    """
    found = parse_statement(sql)

    assert isinstance(found, CreateModel)
    assert (found.name, found.or_replace, found.if_not_exists) == ("My model", True, False)
    assert found.query == "SELECT * FROM t"
    assert sql[found.query_start :].startswith(found.query)
    assert {n: o.value for n, o in found.options.items()} == {
        "model_type": "dnn_classifier",
        "labels": ["it's"],
        "learn_rate": Range(1e-4, 0.1),
        "hidden_units": Candidates(([64, 32], [128], [8])),
        "early_stop": False,
        "l2_reg": -1.5,
        "seed": 1000,
        "data_split_col": None,
    }
    assert "^^^^^^^^^^" in (found.options["learn_rate"].name_at or "")


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("DROP MODEL churn", ("churn", False)),
        ('drop model if exists "a b"', ("a b", True)),
    ],
)
def test_drop_model(sql, expected):
    found = parse_statement(sql)

    assert isinstance(found, DropModel)
    assert (found.model.name, found.if_exists) == expected


@pytest.mark.parametrize(
    ("sql", "name", "value"),
    [
        ("SET gradbase.memory_limit = '1GB'", "memory_limit", "1GB"),
        ("set Gradbase.Threads TO 2", "threads", 2),
        ("SET gradbase.optimizer = off", "optimizer", False),
        ("SET SESSION gradbase.exactness = bitwise", "exactness", "bitwise"),
        ("RESET gradbase.threads", "threads", None),
    ],
)
def test_settings(sql, name, value):
    found = parse_statement(sql)

    assert isinstance(found, SetOption)
    assert (found.name, found.value) == (name, value)


def test_show_models_and_explain():
    assert parse_statement("SHOW MODELS") == ShowModels()
    assert parse_statement(" show models ; -- all") == ShowModels()
    found = parse_statement("EXPLAIN VERBOSE ANALYZE  SELECT PREDICT(m, *) FROM t")
    assert isinstance(found, Explain)
    assert (found.verbose, found.analyze) == (True, True)
    assert found.statement.sql == "SELECT PREDICT(m, *) FROM t"
    training = parse_statement(
        "EXPLAIN CREATE MODEL m OPTIONS (model_type = 'linear_reg') AS FROM t"
    )
    assert isinstance(training, Explain)
    assert isinstance(training.statement, CreateModel)


_Q = "SELECT PREDICT(m, *) FROM s"


@pytest.mark.parametrize(
    ("sql", "wrapped"),
    [
        (f"{_Q} ", ("", _Q, "")),
        (f"INSERT INTO t {_Q}", ("INSERT INTO t ", _Q, "")),
        (f"INSERT INTO t (a, b) ({_Q})", ("INSERT INTO t (a, b) ", _Q, "")),
        (
            f"INSERT OR REPLACE INTO t {_Q} ON CONFLICT DO NOTHING RETURNING *",
            ("INSERT OR REPLACE INTO t ", _Q, "ON CONFLICT DO NOTHING RETURNING *"),
        ),
        (f"CREATE OR REPLACE TEMP TABLE x AS {_Q}", ("CREATE OR REPLACE TEMP TABLE x AS ", _Q, "")),
        (
            f"CREATE TABLE x (a) AS ({_Q}) WITH NO DATA",
            ("CREATE TABLE x (a) AS ", _Q, "WITH NO DATA"),
        ),
        (f"COPY ({_Q}) TO 'f.csv' (HEADER)", ("COPY ", _Q, "TO 'f.csv' (HEADER)")),
        (f"SUMMARIZE {_Q}", ("SUMMARIZE ", _Q, "")),
        (
            f"UPDATE t SET p = q.p FROM ({_Q}) q WHERE t.id = q.id",
            ("UPDATE t SET p = q.p FROM ", _Q, "q WHERE t.id = q.id"),
        ),
        (
            f"DELETE FROM t WHERE id IN ({_Q})",
            ("DELETE FROM t WHERE id IN ", _Q, ""),
        ),
        (
            f"WITH s AS (SELECT 1) INSERT INTO t {_Q} RETURNING a",
            ("INSERT INTO t ", f"WITH s AS (SELECT 1) {_Q}", "RETURNING a"),
        ),
        (f"WITH s AS (SELECT 1) {_Q}", ("", f"WITH s AS (SELECT 1) {_Q}", "")),
    ],
)
def test_what_is_around_a_query_is_kept_as_it_is(sql, wrapped):
    found = parse_statement(sql)

    assert isinstance(found, Query)
    assert found.wrapped == Wrapped(*wrapped)


def test_process_tables_are_replaced_by_name():
    found = parse_statement("SELECT 'gradbase.leases' FROM Gradbase.\"leases\" l, gradbase.metrics")

    assert isinstance(found, Query)
    assert (found.system_tables, found.predicts) == (("leases", "metrics"), False)
    replaced = substitute_tables(found.sql, {"leases": '"v1"', "metrics": '"v2"'})
    assert replaced == 'SELECT \'gradbase.leases\' FROM "v1" l, "v2"'


@pytest.mark.parametrize(
    ("sql", "error", "text"),
    [
        ("CREATE MODEL m AS SELECT 1", ParseError, r"expected OPTIONS"),
        (
            "CREATE MODEL m OPTIONS (a = 1 b = 2) AS SELECT 1",
            ParseError,
            r"expected `,` or `\)`(.|\n)*\^",
        ),
        ("CREATE MODEL m OPTIONS (a = ) AS SELECT 1", ParseError, r"expected a value"),
        ("CREATE MODEL m OPTIONS (a = 1)", ParseError, r"AS and the training query"),
        ("CREATE MODEL m OPTIONS (a = 1) AS", ParseError, r"query is missing"),
        ("CREATE MODEL m OPTIONS (a = HPARAM_RANG(1, 2)) AS FROM t", ParseError, r"HPARAM_RANGE"),
        (
            "CREATE MODEL m OPTIONS (a = HPARAM_RANGE(1)) AS FROM t",
            ParseError,
            r"takes two numbers",
        ),
        ("CREATE MODEL m OPTIONS (a = HPARAM_CANDIDATES(1)) AS FROM t", ParseError, r"one list"),
        ("CREATE MODEL m OPTIONS (a = ?) AS FROM t", ParseError, r"literals"),
        ("CREATE MODEL m OPTIONS (a = 1, A = 2) AS FROM t", BindError, r"given twice"),
        ("CREATE OR REPLACE MODEL IF NOT EXISTS m OPTIONS () AS FROM t", ParseError, r"together"),
        ("CREATE MODEL m TRANSFORM a OPTIONS () AS FROM t", ParseError, r"TRANSFORM \(\*, …\)"),
        ("CREATE MODEL m INPUT (a INT) OPTIONS () AS FROM t", UnsupportedError, r"INPUT"),
        ("CREATE MODEL a. OPTIONS () AS FROM t", ParseError, r"found `\("),
        (
            "CREATE MODEL m OPTIONS (model_type = 'onnx')",
            BindError,
            r"needs the option model_path",
        ),
        (
            "CREATE MODEL m OPTIONS () AS (training_data AS (FROM t), x AS (FROM t))",
            UnsupportedError,
            r"several",
        ),
        ("CREATE MODEL m OPTIONS () AS (d AS (FROM t))", UnsupportedError, r"several training"),
        ("EXPORT MODEL m TO f", ParseError, r"expected a file in quotes, found `f`"),
        ("EXPORT MODEL m", ParseError, r"expected TO and a file"),
        ("EXPORT MODEL m OPTIONS (URI = 3)", BindError, r"URI is a text, found 3"),
        (
            "EXPORT MODEL m OPTIONS (URL = 'm.onnx')",
            BindError,
            r"(?s)no option `url`.*did you mean `uri`",
        ),
        (
            "EXPORT MODEL m OPTIONS (URI = 'gs://b/m')",
            UnsupportedError,
            r"local files, `gs:` is none",
        ),
        ("EXPORT MODEL m TO 'm.onnx' OPTIONS (TRIAL_ID = 'x')", BindError, r"TRIAL_ID is a number"),
        (f"CREATE VIEW v AS {_Q}", UnsupportedError, r"VIEW(.|\n)*CREATE TABLE"),
        ("UPDATE t SET p = PREDICT(m, *)", UnsupportedError, r"directly in UPDATE(.|\n)*hint"),
        ("INSERT INTO t VALUES (PREDICT(m, 1))", UnsupportedError, r"in VALUES"),
        ("SET gradbase.threads", ParseError, r"expected `=`"),
        ("DROP MODEL", ParseError, r"expected a model's name, found the end"),
        ("EXPLAIN DROP MODEL m", ParseError, r"EXPLAIN explains"),
        ("DROP MODEL m please", ParseError, r"should end here"),
    ],
)
def test_errors(sql, error, text):
    with pytest.raises(error, match=text):
        parse_statement(sql)


@pytest.mark.parametrize(
    ("text", "name", "version", "path", "trial"),
    [
        ("EXPORT MODEL m TO 'm.onnx'", "m", None, "m.onnx", None),
        ("EXPORT MODEL m@2 TO '/a b/m.pt2';", "m", 2, "/a b/m.pt2", None),
        (
            "EXPORT MODEL m@champion OPTIONS (URI = 'file:///a%20b/', TRIAL_ID = 3)",
            "m",
            "champion",
            "/a b/model.onnx",
            3,
        ),
    ],
)
def test_export(text, name, version, path, trial):
    found = parse_statement(text)
    assert (found.model.name, found.model.version, str(found.path), found.trial) == (
        name,
        version,
        path,
        trial,
    )
