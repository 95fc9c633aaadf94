"""Reading statements: keys as a terminal sends them."""

from __future__ import annotations

import io
import stat

import pytest
from prompt_toolkit.completion import CompleteEvent
from prompt_toolkit.document import Document
from prompt_toolkit.history import InMemoryHistory
from prompt_toolkit.input import create_pipe_input
from prompt_toolkit.output import DummyOutput

from gradbase.shell import prompt
from gradbase.shell.loop import Shell
from gradbase.shell.prompt import SqlCompleter, asker, history_path, open_history

CONTROL_C, CONTROL_D, ENTER, ESCAPE = "\x03", "\x04", "\r", "\x1b"


@pytest.fixture
def shell(trained):
    return Shell(trained, io.StringIO(), io.StringIO())


def answers(shell, keys, number=1, history=None):
    """The first `number` texts that come of these keys."""
    with create_pipe_input() as terminal:
        terminal.send_text(keys)
        ask = asker(
            shell,
            "shop",
            history=history or InMemoryHistory(),
            terminal=terminal,
            screen=DummyOutput(),
        )
        return [ask() for _ in range(number)]


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        (f"SELECT 1;{ENTER}", "SELECT 1;"),
        (f"SELECT{ENTER}1{ENTER};{ENTER}", "SELECT\n1\n;"),
        (f"SELECT ';{ENTER}';{ENTER}", "SELECT ';\n';"),
        (f".tables{ENTER}", ".tables"),
        (f"{ENTER}", ""),
        (f"SELECT 1{ESCAPE}{ENTER}", "SELECT 1"),
    ],
)
def test_enter_ends_what_is_complete(shell, keys, text):
    assert answers(shell, keys) == [text]


def test_history(shell):
    """The many lines of a statement are kept together."""
    history = InMemoryHistory()
    assert answers(shell, f"SELECT{ENTER}1;{ENTER}.tables{ENTER}", 2, history) == [
        "SELECT\n1;",
        ".tables",
    ]
    assert history.get_strings() == ["SELECT\n1;", ".tables"]


def test_control_c_and_control_d(shell):
    with pytest.raises(KeyboardInterrupt):
        answers(shell, f"SELECT nonsense{CONTROL_C}")
    with pytest.raises(EOFError):
        answers(shell, CONTROL_D)


def proposals(shell, text):
    document = Document(text)
    return [
        c.text
        for c in SqlCompleter(shell).get_completions(
            document, CompleteEvent(completion_requested=True)
        )
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("SELECT * FROM cus", ["customers"]), (".mo", [".models", ".mode"]), (".mode js", ["json", "jsonl"]),
        (".timer o", ["on", "off"]), (".schema cus", ["customers"]), (".nope x", []), ("SELECT 'a -- ", []),
    ],
)  # fmt: skip
def test_completion_reaches_the_prompt(shell, text, expected):
    assert proposals(shell, text) == expected


def test_nothing_is_proposed_unasked_on_an_empty_line(shell):
    found = SqlCompleter(shell).get_completions(Document(""), CompleteEvent(text_inserted=True))
    assert list(found) == []
    assert "SELECT" in proposals(shell, "")


def test_the_history_is_a_file_for_its_owner_only(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    history = open_history()
    history.append_string("SELECT 'secret';")
    path = history_path()
    assert path == tmp_path / "gradbase" / "history"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert "secret" in path.read_text()


def test_without_a_place_for_it_the_history_is_kept_in_memory(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    assert isinstance(open_history(), InMemoryHistory)
    monkeypatch.delenv("XDG_STATE_HOME")
    assert prompt.history_path().parts[-4:] == (".local", "state", "gradbase", "history")
