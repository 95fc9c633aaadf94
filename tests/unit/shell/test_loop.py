"""The shell without a terminal: what is run, shown and said."""

from __future__ import annotations

import io
import os
import signal
import threading
import time

import pytest

import gradbase as gb
from gradbase.errors import BindError, CancelledError, EngineError
from gradbase.shell import paging
from gradbase.shell.loop import Shell, is_complete, pieces
from gradbase.shell.running import interruptible


@pytest.fixture
def shell():
    with gb.connect(progress=False) as session:
        yield Shell(session, io.StringIO(), io.StringIO())


def said(shell, text):
    """What the shell prints for a text."""
    shell.out.seek(0)
    shell.out.truncate()
    shell.script(text)
    return shell.out.getvalue()


@pytest.mark.parametrize(
    ("text", "complete"),
    [
        ("", True), ("  \n", True), ("SELECT 1", False), ("SELECT 1;", True), ("SELECT 1; ", True),
        ("SELECT 1; -- done", True), ("SELECT ';", False), ("SELECT $$;", False), ('SELECT ";', False),
        ("SELECT 1 -- ;", False), ("/* ; */", False), ("SELECT 1; SELECT 2", False), (".help", True), ("  .tables", True),
    ],
)  # fmt: skip
def test_where_a_statement_ends(text, complete):
    assert is_complete(text) is complete


def test_commands_stand_on_lines_of_their_own():
    text = "\n.timer on\nSELECT\n  '.a\n.b' ;\n .mode csv\nSELECT 2; SELECT 3"
    assert list(pieces(text)) == [
        ".timer on",
        "SELECT\n  '.a\n.b' ",
        ".mode csv",
        "SELECT 2",
        " SELECT 3",
    ]
    assert list(pieces("SELECT 1 -- no end")) == ["SELECT 1 -- no end"]
    assert list(pieces("")) == []


def test_long_scripts_are_read_once():
    """A statement of many lines is not looked at anew for each of them."""
    text = (
        "INSERT INTO t VALUES\n"
        + ",\n".join(f"({i}, 'text')" for i in range(20_000))
        + ";\nSELECT 1;"
    )
    assert len(list(pieces(text))) == 2


def test_results(shell):
    assert said(shell, "CREATE TABLE t AS SELECT range AS i FROM range(3);") == "3 rows changed\n"
    assert "(3 rows)" in said(shell, "FROM t;")
    assert said(shell, "DROP TABLE t;") == "done\n"
    assert said(shell, "SELECT 1 AS a; SELECT 2 AS b").count("(1 row)") == 2


def test_the_first_failure_ends_a_script(shell):
    with pytest.raises(EngineError):
        shell.script("SELECT 1; SELECT * FROM nowhere; SELECT 'not reached';")
    assert "not reached" not in shell.out.getvalue()
    assert "(1 row)" in shell.out.getvalue()


# -- the loop ----------------------------------------------------------------------------------


def typed(*lines):
    """What a user types; an exception is raised as the terminal would."""
    waiting = list(lines)

    def ask():
        if not waiting:
            raise EOFError
        line = waiting.pop(0)
        if isinstance(line, type):
            raise line
        return line

    return ask


def test_errors_are_said_and_the_shell_goes_on(shell):
    shell.loop(
        typed(
            "SELEC 1;",
            "SELECT PREDICT(m, *) FROM range(2);",
            ".nope",
            ".mode cvs",
            "SELECT 'alive' AS x;",
        )
    )
    complaints = shell.errors.getvalue()
    for words in ("EngineError: Parser Error", "BindError: there is no model `m`", "there is no command `.nope`",
                  "did you mean `csv`?"):  # fmt: skip
        assert words in complaints
    assert "Traceback" not in complaints
    assert "alive" in shell.out.getvalue()


def test_a_bug_is_said_without_a_traceback(shell, monkeypatch):
    monkeypatch.setattr(shell.session, "sql", lambda *_: 1 / 0)
    shell.loop(typed("SELECT 1;"))
    assert shell.errors.getvalue().startswith(
        "ZeroDivisionError: division by zero\n  hint: gradbase --log debug"
    )


def test_control_c_at_the_prompt_clears_the_line(shell):
    shell.loop(
        typed(KeyboardInterrupt, "SELECT 'still here' AS x;", EOFError, "SELECT 'not reached';")
    )
    assert "still here" in shell.out.getvalue()
    assert "not reached" not in shell.out.getvalue()


@pytest.mark.parametrize("word", [".quit", ".exit", ".q"])
def test_leaving(shell, word):
    shell.loop(typed(f"{word}\nSELECT 'not reached'", "SELECT 'nor this';"))
    assert shell.leaving
    assert shell.out.getvalue() == ""


# -- commands ----------------------------------------------------------------------------------


def test_help_names_every_command(shell):
    shown = said(shell, ".help")
    for word in (
        ".tables",
        ".models",
        ".schema",
        ".mode",
        ".rows",
        ".timer",
        ".read",
        ".quit",
        "Ctrl-C",
        "semicolon",
    ):
        assert word in shown


def test_tables_models_and_schema(trained):
    shell = Shell(trained, io.StringIO(), io.StringIO())
    assert "customers" in said(shell, ".tables cust%")
    assert "(0 rows)" in said(shell, ".tables nothing%")
    assert "churn" in said(shell, ".models")
    shown = said(shell, ".schema customers")
    assert "region" in shown
    assert "VARCHAR" in shown
    assert "(0 rows)" in said(shell, ".schema '; DROP TABLE customers; --")


@pytest.mark.parametrize(
    ("mode", "shown"),
    [("csv", "a,b\n1,x\n"), ("json", '[\n {"a": 1, "b": "x"}\n]\n'), ("jsonl", '{"a": 1, "b": "x"}\n'),
     ("markdown", "| a | b |\n|---|---|\n| 1 | x |\n"), ("line", "a = 1\nb = x\n")],
)  # fmt: skip
def test_modes(shell, mode, shown):
    assert said(shell, f".mode {mode}\nSELECT 1 AS a, 'x' AS b;") == shown
    assert said(shell, "CREATE TABLE t (i INTEGER);") == ""
    assert said(shell, ".mode").startswith(f"mode is {mode}; there are table, csv")


def test_rows_and_timer(shell):
    assert "(9 rows, 2 shown)" in said(shell, ".rows 2\nFROM range(9);")
    assert said(shell, ".rows") == "up to 2 rows of a table are shown\n"
    assert " s)" in said(shell, ".timer on\nSELECT 1;").splitlines()[-1]
    assert said(shell, ".timer") == "timer is off\n"
    for wrong in (".rows none", ".rows 0", ".timer maybe", ".read", ".read /no/such/file"):
        with pytest.raises(BindError):
            shell.script(wrong)


def test_read(shell, tmp_path):
    (tmp_path / "a.sql").write_text("SELECT 'from a file' AS x;\n.timer on\n")
    assert "from a file" in said(shell, f".read {tmp_path / 'a.sql'}")
    assert shell.timer


# -- pages -------------------------------------------------------------------------------------


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def screen(monkeypatch):
    """A terminal of 40 columns and 10 lines."""
    monkeypatch.setattr("shutil.get_terminal_size", lambda *_: os.terminal_size((40, 10)))
    return Terminal()


def test_what_fits_is_printed(screen, monkeypatch, tmp_path):
    monkeypatch.setenv("PAGER", f"tee {tmp_path / 'paged'}")
    paging.show("short\ntext", screen)
    assert screen.getvalue() == "short\ntext\n"
    paging.show("\n".join("long" for _ in range(99)), io.StringIO())
    assert not (tmp_path / "paged").exists()


@pytest.mark.parametrize("text", ["\n".join("é" * 5 for _ in range(99)), "x" * 41])
def test_what_does_not_fit_is_paged(screen, monkeypatch, tmp_path, text):
    monkeypatch.setenv("GRADBASE_PAGER", f"dd status=none 'of={tmp_path / 'paged'}'")
    paging.show(text, screen)
    assert (tmp_path / "paged").read_text() == text
    assert screen.getvalue() == ""


@pytest.mark.parametrize("pager", ["", "cat", "no-such-program-at-all"])
def test_without_a_pager_everything_is_printed(screen, monkeypatch, pager):
    monkeypatch.setenv("GRADBASE_PAGER", pager)
    paging.show("x" * 99, screen)
    assert screen.getvalue() == "x" * 99 + "\n"


def test_leaving_the_pager_early_is_fine(screen, monkeypatch):
    monkeypatch.setenv("GRADBASE_PAGER", "true")
    paging.show("x" * 5_000_000, screen)


def test_wide_tables_are_folded_where_nothing_can_move_them(shell, screen, monkeypatch):
    shell.out = screen
    query = "SELECT " + ", ".join(f"'{c * 9}' AS {c}" for c in "abcdefg") + ";"
    monkeypatch.setenv("GRADBASE_PAGER", "")
    monkeypatch.setattr("gradbase.session.display._width", lambda: 40)
    shell.script(query)
    assert max(map(len, screen.getvalue().splitlines())) <= 40


# -- Ctrl-C ------------------------------------------------------------------------------------


def test_control_c_stops_the_statement_only(shell):
    slow = "SELECT sum(a.range * b.range % 7) FROM range(1000000) a, range(1000000) b;"
    timer = threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    shell.loop(typed(slow, "SELECT 'alive' AS x;"))
    timer.join()
    assert shell.errors.getvalue() == "the statement was cancelled\n"
    assert "alive" in shell.out.getvalue()


def test_a_statement_that_was_just_beginning_is_told_again(monkeypatch):
    """The first signal came before there was anything to stop."""
    monkeypatch.setattr("gradbase.shell.running.AGAIN_S", 0.05)
    told = threading.Event()

    class Session:
        times = 0

        def cancel(self):
            self.times += 1
            if self.times == 2:
                told.set()

    def work():
        if not told.wait(20):
            return "not told"
        raise CancelledError("stopped")

    timer = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(CancelledError, match="stopped"):
        interruptible(Session(), work)
    timer.join()


def test_what_a_statement_raises_is_raised():
    def work():
        time.sleep(0.01)
        raise TimeoutError("its own")

    with pytest.raises(TimeoutError, match="its own"):
        interruptible(None, work)
    assert interruptible(None, lambda: 7) == 7
