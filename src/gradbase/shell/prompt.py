"""Reading statements from a terminal: many lines, history, completion, colours."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from prompt_toolkit import PromptSession
from prompt_toolkit.auto_suggest import AutoSuggestFromHistory
from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document
from prompt_toolkit.history import FileHistory, History, InMemoryHistory
from prompt_toolkit.input import Input
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.lexers import PygmentsLexer
from prompt_toolkit.output import Output
from pygments.lexers.sql import PostgresLexer

from gradbase.shell import commands
from gradbase.shell.completion import candidates, place
from gradbase.shell.loop import Shell, is_complete


def asker(
    shell: Shell,
    name: str,
    *,
    history: History | None = None,
    terminal: Input | None = None,
    screen: Output | None = None,
) -> Callable[[], str]:
    """What reads one statement (or several, or a command) from the terminal.

    Parameters
    ----------
    shell : Shell
    name : str
        Of the database, for the prompt.
    history : History, optional
        Of the file `history_path` where left out.
    terminal, screen : Input and Output, optional
        Of prompt_toolkit; those of the process where left out.
    """
    prompt: PromptSession[str] = PromptSession(
        f"{name}> ",
        multiline=True,
        prompt_continuation=lambda width, _line, _wrapped: "...> ".rjust(width),
        history=open_history() if history is None else history,
        completer=SqlCompleter(shell),
        complete_in_thread=True,
        auto_suggest=AutoSuggestFromHistory(),
        lexer=PygmentsLexer(PostgresLexer),
        key_bindings=_keys(),
        input=terminal,
        output=screen,
    )
    return prompt.prompt


def history_path() -> Path:
    """Where what was typed is kept (``$XDG_STATE_HOME/gradbase/history``)."""
    state = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(state) / "gradbase" / "history"


def open_history() -> History:
    """The history in its file, which only its owner may read; in memory where it cannot be made."""
    path = history_path()
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.touch(mode=0o600)
    except OSError:
        return InMemoryHistory()
    return FileHistory(str(path))


class SqlCompleter(Completer):
    """Proposes names, options, functions and words that may follow.

    Parameters
    ----------
    shell : Shell
    """

    def __init__(self, shell: Shell) -> None:
        self._shell = shell

    def get_completions(
        self, document: Document, complete_event: CompleteEvent
    ) -> Iterator[Completion]:
        """What prompt_toolkit asks for."""
        text = document.text_before_cursor
        if text.lstrip().startswith("."):
            yield from self._commands(text.lstrip())
            return
        at = place(document.text, document.cursor_position)
        if at is None or not (at.typed or at.before or complete_event.completion_requested):
            return
        for found in candidates(at, self._shell.names):
            yield Completion(found.text, -len(at.typed), display_meta=found.kind)

    def _commands(self, text: str) -> Iterator[Completion]:
        name, space, typed = text.partition(" ")
        if not space:
            for command in commands.COMMANDS:
                if f".{command.name}".startswith(name):
                    shown = f".{command.name}"
                    yield Completion(shown, -len(name), display_meta=command.doc)
            return
        command = commands.BY_NAME.get(name.removeprefix("."))
        choices = command.choices if command else ()
        if name in (".schema", ".tables"):
            choices = tuple(self._shell.names.known.tables)
        for choice in choices:
            if choice.startswith(typed):
                yield Completion(choice, -len(typed))


def _keys() -> Any:
    """Enter ends what is complete; otherwise it begins a new line."""
    keys = KeyBindings()

    @keys.add("enter")
    def enter(event: KeyPressEvent) -> None:  # pyright: ignore[reportUnusedFunction]
        buffer = event.current_buffer
        state = buffer.complete_state
        if state is not None and state.current_completion is not None:
            buffer.complete_state = None
        elif is_complete(buffer.text):
            buffer.validate_and_handle()
        else:
            buffer.newline(copy_margin=True)

    @keys.add("escape", "enter")
    def force(event: KeyPressEvent) -> None:  # pyright: ignore[reportUnusedFunction]
        event.current_buffer.validate_and_handle()

    return keys
