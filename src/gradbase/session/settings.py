"""``SET gradbase.<name> = value``: names, checks and units."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gradbase.errors import BindError, near
from gradbase.ir.facts import EXACTNESS, Settings
from gradbase.optimizer.stages import all_rules
from gradbase.resources.sizes import size_bytes

FIELDS = {
    "exactness": "exactness",
    "optimizer": "optimizer",
    "disabled_rules": "disabled_rules",
    "representation": "representation",
    "batch_rows": "batch_rows",
    "threads": "threads",
    "memory_limit": "memory_limit_bytes",
    "progress": "progress",
    "reconnect_timeout": "reconnect_timeout_s",
}
"""Name in SQL -> field of `Settings`."""
REPRESENTATIONS = ("dl", "onnx", "udf", "sql", "executors", "relational")
VALUES: Mapping[str, tuple[str, str]] = {
    "exactness": (" or ".join(f"`'{e}'`" for e in EXACTNESS), "'bitwise'"),
    "optimizer": ("`on` or `off`", "off"),
    "disabled_rules": ("names of [rules](rules.md), with commas between them", "'merge_filters'"),
    "representation": (
        "some of `'dl'`, `'onnx'`, `'udf'`, `'sql'`, `'executors'`, `'relational'`; or `''`",
        "'dl, sql'",
    ),
    "batch_rows": ("a whole number from 0", "1024"),
    "threads": ("a whole number from 0", "1"),
    "memory_limit": ("bytes, or a text such as `'4GB'`", "'4GB'"),
    "progress": ("`on` or `off`", "off"),
    "reconnect_timeout": ("a whole number of seconds from 0", "600"),
}
"""What each may be, and an example, for the reference."""


def change_of(name: str, value: Any, at: str | None = None) -> dict[str, Any]:
    """The field and checked value that ``SET gradbase.name = value`` means; None is the default.

    Raises
    ------
    BindError
        No such setting, or a value it cannot have.
    """
    if name not in FIELDS:
        raise BindError(
            f"there is no setting `gradbase.{name}`; there are {', '.join(FIELDS)}",
            at=at,
            hint=near(name, FIELDS),
        )
    field = FIELDS[name]
    if value is None:
        return {field: getattr(Settings(), field)}
    return {field: _checked(name, value, at)}


def _checked(name: str, value: Any, at: str | None) -> Any:
    match name:
        case "exactness":
            return _one_of(name, str(value).lower(), EXACTNESS, at)
        case "representation":
            words = [w.strip() for w in str(value).lower().split(",") if w.strip()]
            return ", ".join(_one_of(name, w, REPRESENTATIONS, at) for w in words)
        case "disabled_rules":
            rules = [r.name for r in all_rules()]
            wanted = [r.strip() for r in str(value).split(",") if r.strip()]
            return frozenset(_one_of("disabled_rules", r, rules, at) for r in wanted)
        case "optimizer" | "progress":
            words = {"on": True, "true": True, "off": False, "false": False}
            found = words.get(str(value).lower())
            if found is None:
                raise BindError(f"gradbase.{name} is on or off, found {value!r}", at=at)
            return found
        case "memory_limit":
            return size_bytes(value, at)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise BindError(f"gradbase.{name} is a whole number from 0, found {value!r}", at=at)
    return value


def _one_of(name: str, value: str, allowed: Any, at: str | None) -> str:
    if value not in allowed:
        shown = ", ".join(f"'{a}'" for a in allowed)
        raise BindError(
            f"gradbase.{name} knows {shown}; found '{value}'", at=at, hint=near(value, allowed)
        )
    return value
