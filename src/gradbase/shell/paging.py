"""What is longer than the screen goes through a pager."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import subprocess
from typing import TextIO

OPTIONS = "-SRFX"
"""Of less, where the user has set none: long lines are cut, and arrows move to their rest."""


def show(text: str, out: TextIO) -> None:
    """Print `text`, or page it where it does not fit on the terminal."""
    command = pager() if out.isatty() and not fits(text) else []
    if not command or not _paged(command, text):
        out.write(text + "\n")
        out.flush()


def fits(text: str) -> bool:
    """Whether `text` fits on the terminal, a line for the prompt left free."""
    size = shutil.get_terminal_size()
    lines = text.split("\n")
    return len(lines) < size.lines and all(len(line) <= size.columns for line in lines)


def pager() -> list[str]:
    """The command of the pager; [] where there is none, or the user wants none.

    ``$GRADBASE_PAGER``, else ``$PAGER``, else ``less``; an empty one or ``cat`` is none.
    """
    chosen = os.environ.get("GRADBASE_PAGER", os.environ.get("PAGER", "less"))
    words = shlex.split(chosen)
    if not words or words[0] == "cat" or shutil.which(words[0]) is None:
        return []
    return words


def _paged(command: list[str], text: str) -> bool:
    environment = {"LESS": OPTIONS, "LESSCHARSET": "utf-8"} | dict(os.environ)
    try:
        process = subprocess.Popen(  # noqa: S603 (the user's own pager)
            command, stdin=subprocess.PIPE, env=environment, text=True, encoding="utf-8"
        )
    except OSError:
        return False
    while True:
        try:
            process.communicate(text)
        except KeyboardInterrupt:
            continue  # meant for the pager, which got it too
        except ValueError:  # everything was handed over before
            with contextlib.suppress(KeyboardInterrupt):
                process.wait()
        return True
