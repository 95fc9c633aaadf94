"""Commands of the shell itself: they begin with a dot."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gradbase.errors import BindError, near
from gradbase.session.formats import FORMATS, TABLE, check

if TYPE_CHECKING:
    from gradbase.shell.loop import Shell

_TABLES = """
SELECT table_schema AS schema, table_name AS name, lower(table_type) AS kind
FROM information_schema.tables WHERE table_catalog = current_database()
AND table_schema NOT IN ('information_schema', 'pg_catalog') AND table_name LIKE ? ORDER BY 1, 2
"""
_SCHEMA = """
SELECT table_schema AS schema, table_name AS "table", column_name AS name, data_type AS type,
is_nullable AS "null" FROM information_schema.columns WHERE table_catalog = current_database()
AND table_schema NOT IN ('information_schema', 'pg_catalog', 'gradbase') AND table_name LIKE ?
ORDER BY 1, 2, ordinal_position
"""
KEYS = """\
A statement ends with a semicolon and may have many lines. Tab completes, the arrows go through
the history, Ctrl-R searches it, Ctrl-C stops the statement or clears the line, Ctrl-D leaves."""


@dataclass(frozen=True)
class Command:
    """A command: its name, what it takes, what it does."""

    name: str
    takes: str
    doc: str
    run: Callable[[Shell, str], None]
    choices: tuple[str, ...] = ()


def run(shell: Shell, line: str) -> None:
    """Run the command of a line.

    Raises
    ------
    BindError
        There is no such command, or it does not take that.
    """
    name, _, argument = line.strip().removeprefix(".").partition(" ")
    command = BY_NAME.get(name.lower())
    if command is None:
        names = [f".{n}" for n in BY_NAME]
        raise BindError(
            f"there is no command `.{name}`", hint=near(f".{name}", names) or ".help shows all"
        )
    command.run(shell, argument.strip().rstrip(";"))


def _help(shell: Shell, argument: str) -> None:  # noqa: ARG001
    width = max(len(f".{c.name} {c.takes}") for c in COMMANDS)
    lines = [f"{f'.{c.name} {c.takes}':{width}}  {c.doc}" for c in COMMANDS]
    shell.say("\n".join([*lines, "", KEYS]))


def _tables(shell: Shell, argument: str) -> None:
    shell.query(_TABLES, [argument or "%"])


def _models(shell: Shell, argument: str) -> None:  # noqa: ARG001
    shell.query("SHOW MODELS")


def _schema(shell: Shell, argument: str) -> None:
    shell.query(_SCHEMA, [argument or "%"])


def _mode(shell: Shell, argument: str) -> None:
    if argument:
        shell.mode = check(argument)
    else:
        shell.say(f"mode is {shell.mode}; there are {', '.join((TABLE, *FORMATS))}")


def _rows(shell: Shell, argument: str) -> None:
    if argument and (not argument.isdecimal() or int(argument) < 1):
        raise BindError(f".rows takes a whole number from 1, found `{argument}`")
    if argument:
        shell.rows = int(argument)
    else:
        shell.say(f"up to {shell.rows} rows of a table are shown")


def _timer(shell: Shell, argument: str) -> None:
    if argument not in ("", "on", "off"):
        raise BindError(f".timer takes on or off, found `{argument}`")
    shell.timer = not shell.timer if not argument else argument == "on"
    if not argument:
        shell.say(f"timer is {'on' if shell.timer else 'off'}")


def _read(shell: Shell, argument: str) -> None:
    if not argument:
        raise BindError(".read takes the path of a file of statements")
    try:
        text = Path(argument).expanduser().read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BindError(f"cannot read `{argument}`: {error}") from None
    shell.script(text)


def _quit(shell: Shell, argument: str) -> None:  # noqa: ARG001
    shell.leaving = True


COMMANDS = (
    Command("help", "", "what you are reading", _help),
    Command("tables", "[like]", "tables and views, with % and _ as in LIKE", _tables),
    Command("models", "", "models, as SHOW MODELS", _models),
    Command("schema", "[like]", "columns of tables", _schema),
    Command("mode", "[format]", "how rows are shown", _mode, (TABLE, *FORMATS)),
    Command("rows", "[n]", "how many rows of a table are shown", _rows),
    Command("timer", "[on|off]", "how long each statement took", _timer, ("on", "off")),
    Command("read", "file", "run the statements of a file", _read),
    Command("quit", "", "leave, as Ctrl-D", _quit),
)
BY_NAME = {c.name: c for c in COMMANDS} | {"exit": COMMANDS[-1], "q": COMMANDS[-1]}
