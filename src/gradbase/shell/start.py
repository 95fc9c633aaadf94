"""From the command line to a shell that runs."""

from __future__ import annotations

import sys

from gradbase import __version__
from gradbase.session import Session
from gradbase.shell.loop import Shell

PIPED_ROWS = 40
"""Rows that are shown where nobody sits at a terminal, as ``gradbase sql`` has it."""


def start(session: Session, name: str) -> None:
    """A shell at the terminal; what is piped in is run to its end, or to the first error.

    Parameters
    ----------
    session : Session
    name : str
        What the prompt shows.
    """
    if not sys.stdin.isatty():
        Shell(session, rows=PIPED_ROWS).script(sys.stdin.read())
        return
    from gradbase.shell.prompt import asker

    shell = Shell(session)
    shell.say(f"gradbase {__version__}: statements end with ;  .help shows commands and keys")
    shell.loop(asker(shell, name))
