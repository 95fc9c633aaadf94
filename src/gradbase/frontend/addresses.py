"""What names a model: ``churn``, a version of it (``churn@2``) or an alias (``churn@champion``)."""

from __future__ import annotations

from dataclasses import dataclass

from gradbase.errors import ParseError, underline
from gradbase.frontend.cursor import Cursor
from gradbase.ir.facts import Version


@dataclass(frozen=True)
class Address:
    """A model's name and which version is meant; `at` underlines it for errors."""

    name: str
    version: Version = None
    at: str | None = None


def parse_address(text: str) -> Address:
    """The address that a text holds, as Python and quoted identifiers give it.

    Examples
    --------
    >>> parse_address("churn@2").version, parse_address("churn@champion").version
    (2, 'champion')
    """
    name, at, version = text.rpartition("@")
    if not at:
        return Address(text)
    if not name or not version:
        raise ParseError(
            f"`{text}` names no version of a model", hint="churn@2, or churn@champion by an alias"
        )
    return Address(name, int(version) if version.isdecimal() else version)


def check_name(name: str) -> str:
    """`name` where a model can be called so; a version stands behind an @."""
    if "@" in name:
        raise ParseError(
            f"`{name}` cannot be a model's name: what stands behind @ is a version",
            hint="the next version of a model is made under the model's own name",
        )
    return name


def read_address(cursor: Cursor) -> Address:
    """``churn``, ``churn@2``, ``churn@champion``; quoted as a whole or in its parts.

    ``shop.churn`` and `` `shop.churn` `` are the same: a data set is part of the name.
    """
    first = cursor.identifier("a model's name")
    name = first.name
    while cursor.accept("."):
        name += "." + cursor.identifier("a model's name").name
    version: Version = None
    if cursor.accept("@"):
        version = read_version(cursor)
    last = cursor.tokens[cursor.at - 1]
    at = underline(cursor.sql, first.start, last.end)
    if version is not None or all(t.kind != "quoted" for t in (first, last)):
        return Address(name, version, at)
    whole = parse_address(name)
    return Address(whole.name, whole.version, at)


def read_version(cursor: Cursor) -> int | str:
    """The number or alias of a version."""
    token = cursor.token
    if token is not None and token.is_name:
        return cursor.next().name
    if token is not None and token.kind == "number" and token.text.isdecimal():
        return int(cursor.next().text)
    raise cursor.error("expected the number or alias of a version")


def read_name(cursor: Cursor) -> Address:
    """The name of a model as a whole: no version can stand here."""
    address = read_address(cursor)
    if address.version is not None:
        raise ParseError(
            f"a model's name is expected, found version `{address.version}` of `{address.name}`",
            at=address.at,
            hint=f"leave @{address.version} out; names themselves hold no @",
        )
    return address
