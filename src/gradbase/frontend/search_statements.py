"""SHOW, ALTER and RESUME SEARCH, taken apart: what SQL says about searches."""

from __future__ import annotations

from dataclasses import dataclass, field

from gradbase.errors import ParseError, underline
from gradbase.frontend.addresses import read_name
from gradbase.frontend.cursor import Candidates, Cursor, Range, read_string, read_value
from gradbase.frontend.option_table import BY_NAME


@dataclass(frozen=True)
class SearchOf:
    """A search: by the model that it makes, of the session's database or of the one at `path`.

    `at` underlines it for errors.
    """

    model: str
    path: str | None = None
    at: str | None = field(default=None, compare=False)


@dataclass(frozen=True)
class ShowSearches:
    """``SHOW SEARCHES [IN 'path']``."""

    path: str | None = None


@dataclass(frozen=True)
class ShowTrials:
    """``SHOW TRIALS OF SEARCH name [IN 'path']``."""

    search: SearchOf


@dataclass(frozen=True)
class ResumeSearch:
    """``RESUME SEARCH name``."""

    name: str


@dataclass(frozen=True)
class StopTrials:
    """``STOP [TRIAL 3, …]``; no trials: the whole search."""

    trials: tuple[int, ...]


@dataclass(frozen=True)
class ResumeTrials:
    """``RESUME TRIAL 3, …``."""

    trials: tuple[int, ...]


@dataclass(frozen=True)
class AddTrial:
    """``ADD TRIAL OPTIONS (…)``; `configuration` by hyper-parameter."""

    configuration: dict[str, object] = field(hash=False)


@dataclass(frozen=True)
class CloneTrial:
    """``CLONE TRIAL 3 [OPTIONS (…)] [WITHOUT WEIGHTS]``."""

    trial: int
    changes: dict[str, object] = field(hash=False)
    weights: bool


@dataclass(frozen=True)
class AlterSearch:
    """``ALTER SEARCH name [IN 'path'] change``."""

    search: SearchOf
    change: StopTrials | ResumeTrials | AddTrial | CloneTrial


FORMS = (
    "STOP [TRIAL n, …]", "RESUME TRIAL n, …", "ADD TRIAL OPTIONS (…)",
    "CLONE TRIAL n [OPTIONS (…)] [WITHOUT WEIGHTS]",
)  # fmt: skip


def read_show_searches(cursor: Cursor) -> ShowSearches:
    """From behind SEARCHES on."""
    found = ShowSearches(_path(cursor))
    cursor.end()
    return found


def read_show_trials(cursor: Cursor) -> ShowTrials:
    """From behind TRIALS on."""
    cursor.expect("OF", "OF SEARCH and its name")
    cursor.expect("SEARCH", "SEARCH and its name")
    found = ShowTrials(_search(cursor))
    cursor.end()
    return found


def read_resume(cursor: Cursor) -> ResumeSearch:
    """From the name on."""
    name = read_name(cursor).name
    if cursor.peek() == "TRIAL":
        cursor.fail(
            "RESUME SEARCH goes on with a search that stopped", hint=f"ALTER SEARCH {name} RESUME …"
        )
    cursor.end()
    return ResumeSearch(name)


def read_alter_search(cursor: Cursor) -> AlterSearch:
    """From the name on."""
    search = _search(cursor)
    change = _change(cursor)
    cursor.end()
    return AlterSearch(search, change)


def _search(cursor: Cursor) -> SearchOf:
    found = read_name(cursor)
    return SearchOf(found.name, _path(cursor), found.at)


def _path(cursor: Cursor) -> str | None:
    if not cursor.accept("IN"):
        return None
    token = cursor.token
    if token is None or token.kind != "string":
        cursor.fail("expected the path of a database in quotes")
    return read_string(cursor.next().text)


def _change(cursor: Cursor) -> StopTrials | ResumeTrials | AddTrial | CloneTrial:
    if cursor.accept("STOP"):
        return StopTrials(_trials(cursor) if cursor.accept("TRIAL") else ())
    if cursor.accept("RESUME", "TRIAL"):
        return ResumeTrials(_trials(cursor))
    if cursor.accept("ADD", "TRIAL"):
        cursor.expect("OPTIONS", "OPTIONS and its hyper-parameters")
        return AddTrial(_options(cursor))
    if cursor.accept("CLONE", "TRIAL"):
        trial = _number(cursor)
        changes = _options(cursor) if cursor.accept("OPTIONS") else {}
        return CloneTrial(trial, changes, weights=not cursor.accept("WITHOUT", "WEIGHTS"))
    raise cursor.error("expected what to do", hint=f"one of: {'; '.join(FORMS)}")


def _trials(cursor: Cursor) -> tuple[int, ...]:
    found = [_number(cursor)]
    while cursor.accept(","):
        found.append(_number(cursor))
    return tuple(found)


def _number(cursor: Cursor) -> int:
    token = cursor.token
    if token is None or not token.text.isdecimal():
        cursor.fail("expected the number of a trial")
    return int(cursor.next().text)


def _options(cursor: Cursor) -> dict[str, object]:
    """Hyper-parameters and their values; options by what they set, other names as they are."""
    cursor.expect("(", "`(`")
    found: dict[str, object] = {}
    while not cursor.accept(")"):
        if found:
            cursor.expect(",", "`,` or `)`")
        token = cursor.identifier("the name of a hyper-parameter")
        option = BY_NAME.get(token.name.lower())
        name = token.name if option is None else option.field
        at = underline(cursor.sql, token.start, token.end)
        if name in found:
            raise ParseError(f"`{token.name}` is given twice", at=at)
        cursor.expect("=", "`=`")
        value = read_value(cursor)
        if isinstance(value, Range | Candidates):
            raise ParseError(f"a trial has one value of `{token.name}`, found several", at=at)
        found[name] = value
    if not found:
        cursor.at -= 1
        cursor.fail("expected a hyper-parameter", hint="OPTIONS (learn_rate = 0.01)")
    return found
