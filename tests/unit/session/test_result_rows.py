"""What a statement returns, in every form a person or a program may want."""

from __future__ import annotations

import threading
from contextlib import contextmanager

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from gradbase.engines.rows import rows_of
from gradbase.errors import UnsupportedError
from gradbase.session import display
from gradbase.session.display import Preview, as_html, cell, render
from gradbase.session.results import Result

TABLE = pa.table({"id": [1, 2, 3], "name": ["a", None, "<c>"], "p": [0.5, 1 / 3, None]})


class Opened:
    """Counts how often a stream is opened and closed."""

    def __init__(self):
        self.opened = self.closed = 0

    @contextmanager
    def stream(self):
        self.opened += 1
        try:
            yield TABLE.to_reader(2)
        finally:
            self.closed += 1


def test_rows_come_in_every_form():
    result = Result.of(TABLE)
    assert result.arrow() is TABLE
    assert result.columns == ["id", "name", "p"]
    assert result.fetchall() == list(result) == [(1, "a", 0.5), (2, None, 1 / 3), (3, "<c>", None)]
    assert isinstance(result.df(), pd.DataFrame)
    assert isinstance(result.pl(), pl.DataFrame)
    assert list(result.df()["id"]) == result.pl()["id"].to_list() == [1, 2, 3]


def test_rows_one_by_one():
    result = Result.of(TABLE.slice(0, 2))
    assert [result.fetchone() for _ in range(3)] == [(1, "a", 0.5), (2, None, 1 / 3), None]


def test_a_statement_runs_when_it_is_asked_and_once():
    source = Opened()
    result = Result(source.stream)
    assert source.opened == 0
    result.fetchall(), result.arrow(), result.text(), result.fetchone()
    assert (source.opened, source.closed) == (1, 1)


def test_several_threads_share_one_run():
    source = Opened()
    result = Result(source.stream)
    threads = [threading.Thread(target=result.arrow) for _ in range(8)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert source.opened == 1


def test_a_stream_keeps_nothing_and_may_be_left():
    source = Opened()
    result = Result(source.stream)
    assert [b.num_rows for b in result.batches()] == [2, 1]
    batches = result.batches()
    next(batches)
    assert (source.opened, source.closed) == (2, 1)
    batches.close()
    assert source.closed == 2


def test_cancel_is_passed_on():
    called = []
    Result(Opened().stream, lambda: called.append(1)).cancel()
    Result.of(TABLE).cancel()
    assert called == [1]


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "NULL"), (0.5, "0.5"), (1 / 3, "0.333333"), (True, "True"), ([1.0, None], "[1, NULL]"),
     ({"label": "x", "prob": 0.25}, "{label: x, prob: 0.25}"), ("", ""), (b"ab", "b'ab'")],
)  # fmt: skip
def test_cell(value, text):
    assert cell(value) == text


def test_text_is_aligned_and_says_how_many_rows():
    lines = Result.of(TABLE).text(limit=2).splitlines()
    assert lines[-1] == "(3 rows, 2 shown)"
    assert {len(line) for line in lines[1:2]} == {len(lines[2])}
    assert "NULL" in lines[4]
    assert render(Preview(TABLE.slice(0, 1))).endswith("(1 row)")
    assert repr(Result.of(TABLE)) == Result.of(TABLE).text()


def test_markup_in_values_is_left_alone():
    table = pa.table({"[bold]a": ["[red]x[/red]"]})
    assert "[red]x[/red]" in render(Preview(table))
    assert "[bold]a" in render(Preview(table))


def test_a_plan_is_printed_as_it_is(capsys):
    Result.of(pa.table({"plan": ["Filter", "  Scan t"]})).show()
    assert capsys.readouterr().out == "Filter\n  Scan t\n"


def test_html_is_escaped():
    found = as_html(Preview(TABLE), limit=3)
    assert "&lt;c&gt;" in found
    assert "<c>" not in found
    assert Result.of(TABLE)._repr_html_().count("<tr>") == 4


def test_html_says_how_many_rows_and_shows_plans_as_they_are():
    assert Result.of(TABLE)._repr_html_().endswith("<p>3 rows</p>")
    many = as_html(Preview(pa.table({"n": range(2000)})), limit=5)
    assert many.count("<tr>") == 6
    assert many.endswith("<p>2,000 rows, 5 shown</p>")
    assert as_html(Preview(pa.table({"plan": ["Filter[a < 1]", "  Scan t"]}))).count("<pre") == 1


def test_showing_is_bounded(monkeypatch):
    """Rows beyond a size are not read; what was read is kept for the next look."""
    monkeypatch.setattr(display, "PREVIEW_BYTES", 1)
    monkeypatch.setattr("gradbase.session.results.PREVIEW_BYTES", 1)
    source = Opened()
    result = Result(source.stream)
    assert result.text().endswith("(more than 2 rows, 20 shown)")
    assert "more than 2 rows" in result._repr_html_()
    assert (source.opened, source.closed) == (1, 1)
    assert result.arrow().num_rows == 3
    assert source.opened == 2


def test_showing_all_rows_keeps_them():
    source = Opened()
    result = Result(source.stream)
    result.text(), result._repr_html_(), result.fetchall(), result.arrow()
    assert source.opened == 1


def test_statements_without_rows_say_what_they_did(db):
    for sql, said in (
        ("CREATE TABLE t (i INTEGER)", "done"),
        ("INSERT INTO t VALUES (1), (2)", "2 rows changed"),
        ("DELETE FROM t WHERE i = 1", "1 row changed"),
        ("SET gradbase.threads = 2", "done"),
    ):
        assert db.sql(sql).text() == said
    assert db.sql("CREATE TABLE u AS SELECT 1 AS i")._repr_html_() == "<p>1 row changed</p>"


def test_columns_may_share_a_name():
    table = pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["a", "a"])
    assert rows_of(table) == [(1, 2)]
    assert Result.of(table).fetchone() == (1, 2)


def test_a_missing_library_says_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "polars", None)
    with pytest.raises(UnsupportedError, match=r"(?s)polars is not installed.*gradbase\[frames\]"):
        Result.of(TABLE).pl()
