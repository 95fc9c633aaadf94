"""The shell: read a statement, run it, show what came of it, until the user leaves."""

from __future__ import annotations

import io
import logging
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TextIO

from gradbase.errors import CancelledError, GradbaseError
from gradbase.frontend.tokens import significant, split_statements
from gradbase.session import Result, Session
from gradbase.session.formats import TABLE, write
from gradbase.shell import commands, paging
from gradbase.shell.names import Names
from gradbase.shell.running import interruptible

log = logging.getLogger("gradbase.shell")

ROWS = 500
"""Rows of a table that are shown where the user has not said how many."""


class Shell:
    """A session, and how its results are shown.

    Parameters
    ----------
    session : Session
    out, errors : TextIO
        Where results and errors go.
    mode : str
        ``table``, or one of `formats.FORMATS`.
    rows : int
        Rows of a table that are shown.
    """

    def __init__(
        self,
        session: Session,
        out: TextIO | None = None,
        errors: TextIO | None = None,
        *,
        mode: str = TABLE,
        rows: int = ROWS,
    ) -> None:
        self.session, self.mode, self.rows = session, mode, rows
        self.out, self.errors = out or sys.stdout, errors or sys.stderr
        self.names = Names(session)
        self.timer = False
        self.leaving = False

    def loop(self, ask: Callable[[], str]) -> None:
        """Run what `ask` reads until it raises EOFError, or the user leaves.

        What fails is said, and the shell goes on.
        """
        while not self.leaving:
            try:
                text = ask()
            except KeyboardInterrupt:  # an empty line, or one that is not wanted
                continue
            except EOFError:
                return
            try:
                self.script(text)
            except KeyboardInterrupt:  # while a result was printed
                self.say("")
            except Exception as error:  # noqa: BLE001
                self.complain(error)

    def script(self, text: str) -> None:
        """Run commands and statements one after the other; the first that fails ends it."""
        for piece in pieces(text):
            if self.leaving:
                return
            if piece.startswith("."):
                commands.run(self, piece)
            else:
                self.query(piece)

    def query(self, statement: str, params: Sequence[Any] | None = None) -> None:
        """Run one statement and show its result; Ctrl-C cancels it."""
        started = time.perf_counter()
        try:
            interruptible(self.session, lambda: self._shown(statement, params))()
        finally:
            self.names.forget()
        if self.timer:
            self.say(f"({time.perf_counter() - started:.3f} s)")

    def say(self, text: str) -> None:
        """Print a text."""
        self.out.write(text + "\n")
        self.out.flush()

    def complain(self, error: BaseException) -> None:
        """Say what went wrong, without a traceback."""
        if isinstance(error, CancelledError):
            text = str(error)
        elif isinstance(error, GradbaseError):
            text = f"{type(error).__name__}: {error}"
        else:
            log.debug("unexpected", exc_info=error)
            text = f"{type(error).__name__}: {error}\n  hint: gradbase --log debug shows where"
        self.errors.write(text + "\n")
        self.errors.flush()

    def _shown(self, statement: str, params: Sequence[Any] | None) -> Callable[[], None]:
        """Run a statement; returns what shows it, which is for the thread with the terminal."""
        result = self.session.sql(statement, params)
        if self.mode != TABLE:
            buffer = io.StringIO()
            write(result, self.mode, buffer)
            return lambda: self._paged(buffer.getvalue().rstrip("\n"))
        text = self._table(result)
        return lambda: self._paged(text)

    def _table(self, result: Result) -> str:
        """As wide as its rows where it can be moved sideways, else as the terminal."""
        if not self.out.isatty():
            return result.text(self.rows)
        wide = result.text(self.rows, width=10_000)
        return wide if paging.fits(wide) or paging.pager() else result.text(self.rows)

    def _paged(self, text: str) -> None:
        if text:
            paging.show(text, self.out)


def pieces(text: str) -> Iterator[str]:
    """Commands (a line each) and statements of a text, in their order.

    Examples
    --------
    >>> list(pieces(".timer on\\nSELECT 1,\\n 2; SELECT 3;\\n.tables"))
    ['.timer on', 'SELECT 1,\\n 2', ' SELECT 3', '.tables']
    """
    waiting: list[str] = []
    for line in text.splitlines(keepends=True):
        if not waiting and line.lstrip().startswith("."):
            yield line.strip()
            continue
        if waiting or line.strip():
            waiting.append(line)
        if ";" in line and is_complete("".join(waiting)):
            yield from split_statements("".join(waiting))
            waiting.clear()
    yield from split_statements("".join(waiting))


def is_complete(text: str) -> bool:
    """Whether what was typed can be run: a command, nothing, or a statement with its semicolon.

    Examples
    --------
    >>> is_complete("SELECT ';"), is_complete("SELECT 1; -- done"), is_complete(".tables")
    (False, True, True)
    """
    if text.lstrip().startswith("."):
        return True
    tokens = significant(text)
    return not text.strip() or (bool(tokens) and tokens[-1].text == ";")
