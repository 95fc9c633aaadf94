"""EXPORT MODEL, taken apart."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from gradbase.errors import BindError, UnsupportedError, near, underline
from gradbase.frontend.addresses import Address, read_address
from gradbase.frontend.cursor import Cursor, read_string, read_value

OPTIONS = ("uri", "trial_id")
SQL_OPTIONS = ("dialect", "trial_id")
_DEFAULT_NAME = "model.onnx"
"""What a file is called where BigQuery's form names only a folder."""


@dataclass(frozen=True)
class ExportModel:
    """``EXPORT MODEL name[@version] TO 'file'`` or ``… OPTIONS (URI = 'file', TRIAL_ID = 2)``."""

    model: Address
    path: Path
    trial: int | None = None


@dataclass(frozen=True)
class ExportSql:
    """``EXPORT MODEL name[@version] TO SQL [VIEW view] [FROM table | AS query]``.

    `rows` is the query of the rows that are predicted, '' those of the training; with a `dialect`
    (``OPTIONS (DIALECT = 'postgres')``) the text is returned and no view made.
    """

    model: Address
    view: str = ""
    rows: str = ""
    dialect: str = ""
    trial: int | None = None


def read_export(cursor: Cursor) -> ExportModel | ExportSql:
    """From the name on."""
    model = read_address(cursor)
    if cursor.accept("TO", "SQL"):
        return _read_sql(cursor, model)
    path: Path | None = None
    if cursor.accept("TO"):
        token = cursor.token
        if token is None or token.kind != "string":
            cursor.fail("expected a file in quotes", hint="EXPORT MODEL churn TO 'churn.onnx'")
        at = underline(cursor.sql, token.start, token.end)
        path = _local(read_string(cursor.next().text), at)
    given: dict[str, tuple[object, str]] = {}
    if cursor.accept("OPTIONS"):
        given = _read_options(cursor)
    if path is None and "uri" in given:
        path = _uri(*given["uri"])
    if path is None:
        cursor.fail("expected TO and a file in quotes", hint="EXPORT MODEL churn TO 'churn.onnx'")
    cursor.end()
    trial = _trial(*given["trial_id"]) if "trial_id" in given else None
    return ExportModel(model, path, trial)


def _read_sql(cursor: Cursor, model: Address) -> ExportSql:
    view = cursor.identifier("the name of a view").name if cursor.accept("VIEW") else ""
    given: dict[str, tuple[object, str]] = {}
    if cursor.accept("OPTIONS"):
        given = _read_options(cursor, SQL_OPTIONS)
    rows = ""
    if cursor.accept("FROM"):
        start = cursor.token
        name = [cursor.identifier("the name of a table")]
        while cursor.accept("."):
            name.append(cursor.identifier("the name of a table"))
        assert start is not None
        rows = f"SELECT * FROM {cursor.sql[start.start : name[-1].end]}"
    elif cursor.accept("AS"):
        first = cursor.token
        if first is None:
            cursor.fail("expected a query")
        rows = cursor.sql[first.start : cursor.tokens[-1].end]
        cursor.at = len(cursor.tokens)
    cursor.end()
    dialect, at = given.get("dialect", ("", ""))
    if not isinstance(dialect, str):
        raise BindError(f"DIALECT is a text, found {dialect!r}", at=at)
    trial = _trial(*given["trial_id"]) if "trial_id" in given else None
    return ExportSql(model, view, rows, checked_dialect(dialect, at), trial)


def checked_dialect(name: str, at: str | None = None) -> str:
    """A dialect that SQL can be written in, in lower case; '' stays."""
    from sqlglot.dialects.dialect import Dialects

    known = [d.value for d in Dialects if d.value]
    found = {"postgresql": "postgres"}.get(name.lower(), name.lower())
    if found and found not in known:
        raise BindError(f"there is no dialect `{name}`", at=at, hint=near(found, known))
    return found


def _read_options(
    cursor: Cursor, known: tuple[str, ...] = OPTIONS
) -> dict[str, tuple[object, str]]:
    cursor.expect("(", "`(`")
    found: dict[str, tuple[object, str]] = {}
    while not cursor.accept(")"):
        if found:
            cursor.expect(",", "`,` or `)`")
            if cursor.accept(")"):
                break
        token = cursor.identifier("the name of an option")
        name, at = token.name.lower(), underline(cursor.sql, token.start, token.end)
        if name not in known or name in found:
            twice = name in found
            raise BindError(
                f"option `{name}` is given twice" if twice else f"EXPORT has no option `{name}`",
                at=at,
                hint=near(name, known) or f"there are {', '.join(known)}",
            )
        cursor.expect("=", "`=`")
        start = cursor.at
        value = read_value(cursor)
        end = cursor.tokens[cursor.at - 1].end
        found[name] = value, underline(cursor.sql, cursor.tokens[start].start, end)
    return found


def _uri(value: object, at: str) -> Path:
    if not isinstance(value, str):
        raise BindError(f"URI is a text, found {value!r}", at=at)
    return _local(value, at)


def _local(text: str, at: str) -> Path:
    """The file that a path or ``file:`` address means."""
    parts = urlsplit(text)
    if len(parts.scheme) > 1 and parts.scheme != "file":
        raise UnsupportedError(
            f"models are exported to local files, `{parts.scheme}:` is none",
            at=at,
            hint="export to a local file and copy it",
        )
    path = Path(unquote(parts.path)) if parts.scheme == "file" else Path(text)
    return path / _DEFAULT_NAME if text.endswith("/") else path


def _trial(value: object, at: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise BindError(f"TRIAL_ID is a number of a trial, found {value!r}", at=at)
    return value
