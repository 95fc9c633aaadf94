"""The .slt runner over a session that is none."""

from __future__ import annotations

import types
from pathlib import Path
from typing import ClassVar

import pytest

from gradbase.engines import connect as connect_engine
from gradbase.errors import ParseError, ShapeError
from gradbase.testing.records import read_script
from gradbase.testing.slt import Config, SltError, load_configs, run_file


class FakeSession:
    """DuckDB, a few rules that fired, and two statements of ours."""

    opened: ClassVar[list[str]] = []

    def __init__(self, url):
        FakeSession.opened.append(url)
        self.engine = connect_engine(url)
        self.last_plan = types.SimpleNamespace(rules=("push_filter", "prune"))

    def sql(self, text):
        if text.startswith("CREATE MODEL bad"):
            raise ShapeError("inner sizes 768 and 512 differ", hint="look")
        if text.startswith("CREATE MODEL"):
            return self.engine.run(
                "SELECT 'm' AS model, 4::BIGINT AS trials, 1::BIGINT AS failed, 'roc_auc' AS metric, 0.91 AS value"
            )
        if text.startswith("SET gradbase."):
            FakeSession.opened.append(text)
            return self.engine.run("SELECT 1")
        return self.engine.run(text)

    def close(self):
        self.engine.close()


def run(tmp_path, text, config=None):
    path = tmp_path / "case.slt"
    path.write_text(text)
    FakeSession.opened = []
    return run_file(path, FakeSession, config or Config(), tmp_path)


GOOD = """
# name: everything that holds
# group: [one, two]

statement ok
CREATE TABLE t AS SELECT * FROM (VALUES
  (1, 0.5, 'a b', true), (2, NULL, '', false)) AS v(i, x, s, b)

query IRTB rowsort +ensure:prune +unless:fuse ~0.01
SELECT i, x, s, b FROM t
----
2  NULL  (empty)  false
1  0.501  a b  true

query IR
SELECT sum(i), sum(i) / 2 FROM t
----
3\t1.5

query I
SELECT i FROM t WHERE i > 5
----

describe
SELECT i, x, [s] AS l, {'b': b} AS d FROM t
----
i  INTEGER
x  DECIMAL128(2, 1)
l  VARCHAR[]
d  STRUCT(b BOOLEAN)

query R
SELECT 'nan'::DOUBLE
----
nan

statement error EngineError: .*nowhere does not exist
SELECT * FROM nowhere

query error ShapeError: .* 768 and 512 differ\\n  hint: look
CREATE MODEL bad

train trials=4 failed<=1 roc_auc>=0.9 value=0.9~0.02 model=m
CREATE MODEL m

predict rows=2 columns=i,x min(i)>=1 max(i)<3 mean(i)=1.5 nulls(x)=1 distinct(i)!=1
SELECT i, x FROM t

skipif duckdb
statement ok
SELECT nothing

onlyif postgres
statement ok
SELECT nothing

statement ok
COPY t TO '__FOLDER__/t.csv'

halt

statement ok
SELECT nothing
"""


def test_records_that_hold(tmp_path):
    """Every kind of record, every option; skipped ones do not count."""
    assert run(tmp_path, GOOD) == 11
    assert (tmp_path / "t.csv").exists()
    assert FakeSession.opened == [":memory:"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("query I\nSELECT 1\n----\n2", "expected\n2\nfound\n1"),
        ("query I\nSELECT 1\n----\n", "expected\n(no rows)\nfound\n1"),
        ("query II\nSELECT 1\n----\n1", "2 types, rows of [1, 2] columns"),
        ("query R\nSELECT 1.1::DOUBLE\n----\n1.2", "found\n1.1"),
        ("query T\nSELECT NULL\n----\nx", "found\nNULL"),
        (
            "query I\nSELECT x FROM (VALUES (1), (2)) v(x) ORDER BY x DESC\n----\n1\n2",
            "found\n2\n1",
        ),
        ("statement ok\nSELECT * FROM nowhere", "EngineError"),
        (
            "statement error BindError\nSELECT * FROM nowhere",
            "expected error BindError\nfound EngineError",
        ),
        ("statement error BindError\nSELECT 1", "found 1 rows"),
        (
            "statement ok +ensure:fuse\nSELECT 1",
            "rule fuse did not fire; fired: push_filter, prune",
        ),
        ("statement ok +unless:prune\nSELECT 1", "rule prune fired"),
        ("train trials=5\nCREATE MODEL m", "trials=5 does not hold: found 4"),
        ("train accuracy>0\nCREATE MODEL m", "there is no accuracy, only model"),
        ("predict rows>1\nSELECT 1 AS a", "rows>1 does not hold: found 1"),
        ("predict mean(a)=1~0.1\nSELECT 1.2 AS a", "mean(a)=1~0.1 does not hold"),
    ],
)
def test_records_that_do_not_hold(tmp_path, text, words):
    """The message has file, line, statement and difference."""
    with pytest.raises(SltError) as caught:
        run(tmp_path, f"# name: x\n\n{text}\n")
    message = str(caught.value)
    assert words in message
    assert f"{tmp_path}/case.slt:3 (plain)" in message
    assert text.split("\n")[1] in message


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("qery I\nSELECT 1", "did you mean `query`"),
        ("query\nSELECT 1", "needs the types of its columns"),
        ("query X\nSELECT 1", "`X` means nothing in a query record"),
        ("statement maybe\nSELECT 1", "`maybe` means nothing"),
        ("statement ok\n", "needs a statement"),
        ("train much\nCREATE MODEL m", "`much` is no condition like"),
    ],
)
def test_unreadable_records(tmp_path, text, words):
    """ParseError with file and line."""
    path = tmp_path / "x.slt"
    path.write_text(text)
    with pytest.raises(ParseError, match=r"x\.slt:1") as caught:
        read_script(path)
    assert words in str(caught.value)


def test_restart_and_reconnect(tmp_path):
    """A file database is connected to again; what was committed is there."""
    text = "statement ok\nCREATE TABLE t AS SELECT 1 AS i\n\nrestart\n\nquery I\nSELECT i FROM t\n----\n1\n"
    assert run(tmp_path, text) == 3
    assert FakeSession.opened == [f"{tmp_path}/slt.duckdb"] * 2
    (tmp_path / "slt.duckdb").unlink()
    run(
        tmp_path,
        text.replace("restart\n\n", ""),
        Config("c", ("SET gradbase.x = 1",), reconnect=True),
    )
    assert FakeSession.opened == [f"{tmp_path}/slt.duckdb", "SET gradbase.x = 1"] * 2


def test_configs_of_a_folder(tmp_path):
    """The plain one first; one per rule; unknown keys are refused; groups are left out."""
    (tmp_path / "off.toml").write_text(
        "settings = ['SET gradbase.optimizer = false']\nensure = false\n"
    )
    (tmp_path / "rules.toml").write_text(
        "settings = ['SET gradbase.disabled_rules = ''{rule}''']\neach_rule = true\n".replace(
            "'SET", '"SET'
        )
        .replace("'']", "'\"]")
        .replace("''", "'")
    )
    names = [c.name for c in load_configs(tmp_path, ["a", "b"])]
    assert names == ["plain", "off", "rules-a", "rules-b"]
    assert load_configs(tmp_path, ["a"])[2].settings == ("SET gradbase.disabled_rules = 'a'",)
    (tmp_path / "bad.toml").write_text("sloww = true\n")
    with pytest.raises(ParseError, match="did you mean `slow`"):
        load_configs(tmp_path)
    assert run(tmp_path, GOOD, Config(skip_groups=("two",))) == 0


def test_our_own_configs_are_readable():
    """Those that the .slt files of this project run under."""
    assert len(load_configs(Path(__file__).parents[2] / "configs", ["a rule"])) > 3
