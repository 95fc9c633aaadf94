"""EXPORT MODEL, taken apart."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from gradbase.errors import BindError, UnsupportedError, near, underline
from gradbase.frontend.addresses import Address, read_address
from gradbase.frontend.cursor import Cursor, read_string, read_value

OPTIONS = ("uri", "trial_id")
_DEFAULT_NAME = "model.onnx"
"""What a file is called where BigQuery's form names only a folder."""


@dataclass(frozen=True)
class ExportModel:
    """``EXPORT MODEL name[@version] TO 'file'`` or ``… OPTIONS (URI = 'file', TRIAL_ID = 2)``."""

    model: Address
    path: Path
    trial: int | None = None


def read_export(cursor: Cursor) -> ExportModel:
    """From the name on."""
    model = read_address(cursor)
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


def _read_options(cursor: Cursor) -> dict[str, tuple[object, str]]:
    cursor.expect("(", "`(`")
    found: dict[str, tuple[object, str]] = {}
    while not cursor.accept(")"):
        if found:
            cursor.expect(",", "`,` or `)`")
            if cursor.accept(")"):
                break
        token = cursor.identifier("the name of an option")
        name, at = token.name.lower(), underline(cursor.sql, token.start, token.end)
        if name not in OPTIONS or name in found:
            twice = name in found
            raise BindError(
                f"option `{name}` is given twice" if twice else f"EXPORT has no option `{name}`",
                at=at,
                hint=near(name, OPTIONS) or f"there are {', '.join(OPTIONS)}",
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
