"""ALTER, DESCRIBE and DROP MODEL, taken apart."""

from __future__ import annotations

from dataclasses import dataclass, field

from gradbase.errors import BindError, near, underline
from gradbase.frontend.addresses import Address, read_address, read_name, read_version
from gradbase.frontend.cursor import Cursor, read_value
from gradbase.ir.facts import Version


@dataclass(frozen=True)
class DropModel:
    """``DROP MODEL [IF EXISTS] name[@version]``."""

    model: Address
    if_exists: bool


@dataclass(frozen=True)
class DescribeModel:
    """``DESCRIBE MODEL name[@version]``."""

    model: Address


@dataclass(frozen=True)
class SetAlias:
    """``SET ALIAS alias = version``."""

    alias: str
    version: int | str


@dataclass(frozen=True)
class DropAlias:
    """``DROP ALIAS [IF EXISTS] alias``."""

    alias: str
    if_exists: bool


@dataclass(frozen=True)
class SetVersion:
    """``SET VERSION version``: what the bare name means from now on."""

    version: Version


@dataclass(frozen=True)
class PruneVersions:
    """``PRUNE VERSIONS KEEP count``."""

    keep: int


@dataclass(frozen=True)
class SetOptions:
    """``SET OPTIONS (description = …, labels = …, expiration_timestamp = …)``.

    `values` by option; `expires` is the user's expression for the time, '' where it is not set.
    """

    values: dict[str, object] = field(hash=False)
    expires: str = ""


Change = SetAlias | DropAlias | SetVersion | PruneVersions | SetOptions


@dataclass(frozen=True)
class AlterModel:
    """``ALTER MODEL [IF EXISTS] name change``."""

    model: Address
    if_exists: bool
    change: Change


FORMS = (
    "SET OPTIONS (…)", "SET ALIAS name = version", "DROP ALIAS name", "SET VERSION version",
    "PRUNE VERSIONS KEEP count",
)  # fmt: skip
OPTIONS = ("description", "labels", "expiration_timestamp")
CLOUD_OPTIONS = ("vertex_ai_model_id", "kms_key_name", "deploy_model", "endpoint_idle_ttl")


def read_drop(cursor: Cursor) -> DropModel:
    """From the name on."""
    if_exists = cursor.accept("IF", "EXISTS")
    model = read_address(cursor)
    cursor.end()
    return DropModel(model, if_exists)


def read_describe(cursor: Cursor) -> DescribeModel:
    """From the name on."""
    model = read_address(cursor)
    cursor.end()
    return DescribeModel(model)


def read_alter(cursor: Cursor) -> AlterModel:
    """From the name on."""
    if_exists = cursor.accept("IF", "EXISTS")
    model = read_name(cursor)
    change = _read_change(cursor)
    cursor.end()
    return AlterModel(model, if_exists, change)


def _read_change(cursor: Cursor) -> Change:
    if cursor.accept("SET", "ALIAS"):
        alias = cursor.identifier("an alias").name
        cursor.expect("=", "`=` and a version")
        return SetAlias(alias, read_version(cursor))
    if cursor.accept("DROP", "ALIAS"):
        if_exists = cursor.accept("IF", "EXISTS")
        return DropAlias(cursor.identifier("an alias").name, if_exists)
    if cursor.accept("SET", "VERSION"):
        cursor.accept("=")
        return SetVersion(read_version(cursor))
    if cursor.accept("PRUNE", "VERSIONS"):
        cursor.expect("KEEP", "KEEP and how many")
        token = cursor.token
        if token is None or not token.text.isdecimal():
            cursor.fail("expected how many versions are kept")
        return PruneVersions(int(cursor.next().text))
    if cursor.accept("SET", "OPTIONS"):
        return _read_options(cursor)
    if cursor.accept("RENAME"):
        cursor.at -= 1
        cursor.fail("a model cannot be renamed", hint="programs and lineage hold its name")
    raise cursor.error("expected what to change", hint=f"one of: {'; '.join(FORMS)}")


def _read_options(cursor: Cursor) -> SetOptions:
    cursor.expect("(", "`(`")
    values: dict[str, object] = {}
    expires = ""
    while not cursor.accept(")"):
        if values:
            cursor.expect(",", "`,` or `)`")
            if cursor.accept(")"):
                break
        token = cursor.identifier("the name of an option")
        name, at = token.name.lower(), underline(cursor.sql, token.start, token.end)
        _check_option(name, at, values)
        cursor.expect("=", "`=`")
        start = cursor.at
        if name == "expiration_timestamp":
            values[name] = expires = _expression(cursor)
        else:
            values[name] = _checked(name, read_value(cursor), _span(cursor, start))
    if not values:
        cursor.at -= 1
        cursor.fail("expected an option", hint=f"{', '.join(OPTIONS)}")
    return SetOptions(values, expires)


def _check_option(name: str, at: str, values: dict[str, object]) -> None:
    if name in values:
        raise BindError(f"option `{name}` is given twice", at=at)
    if name in CLOUD_OPTIONS:
        raise BindError(f"option `{name}` is of BigQuery's cloud and means nothing here", at=at)
    if name not in OPTIONS:
        raise BindError(
            f"a model has no option `{name}` that could be changed; there are {', '.join(OPTIONS)}",
            at=at,
            hint=near(name, OPTIONS) or "other options are fixed: CREATE OR REPLACE MODEL",
        )


def _checked(name: str, value: object, at: str) -> object:
    if value is None:
        return None
    if name == "description":
        if not isinstance(value, str):
            raise BindError(f"description is a text or NULL, found {value!r}", at=at)
        return value
    labels: dict[str, str] = {}
    for pair in value if isinstance(value, list) else [None]:
        match pair:
            case (str() as key, str() as text):
                labels[key] = text
            case _:
                raise BindError(
                    "labels are pairs of texts",
                    at=at,
                    hint="labels = [STRUCT('team', 'crm'), STRUCT('stage', 'test')]",
                )
    return labels


def _expression(cursor: Cursor) -> str:
    """The text up to the next comma or the closing bracket of the list."""
    start, depth = cursor.at, 0
    while depth or cursor.peek() not in (",", ")"):
        depth += {"(": 1, "[": 1, ")": -1, "]": -1}.get(cursor.peek(), 0)
        cursor.next()
    if cursor.at == start:
        cursor.fail("expected a time")
    return cursor.sql[cursor.tokens[start].start : cursor.tokens[cursor.at - 1].end]


def _span(cursor: Cursor, start: int) -> str:
    return underline(cursor.sql, cursor.tokens[start].start, cursor.tokens[cursor.at - 1].end)
