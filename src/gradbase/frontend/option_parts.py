"""Options of wide and deep models that BigQuery writes once for both parts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from gradbase.errors import BindError, near
from gradbase.frontend.cursor import OptionValue

_PARTED = ("learn_rate", "optimizer")
_PREFIXES = {"dnn": "", "linear": "linear_"}


def by_part(given: Mapping[str, OptionValue]) -> dict[str, OptionValue]:
    """`given` with ``[STRUCT('dnn', a), STRUCT('linear', b)]`` as two options.

    Raises
    ------
    BindError
        A part is none of the two, stands there twice, or has an option of its own beside it.
    """
    found = dict(given)
    for name in _PARTED:
        value = given.get(name)
        if value is None or not isinstance(value.value, list | dict):
            continue
        del found[name]
        for part, own in _parts(name, value).items():
            if part in given and part != name:
                raise BindError(f"option `{part}` is given twice", at=given[part].name_at)
            found[part] = OptionValue(own, value.name_at, value.value_at)
    return found


def _parts(name: str, found: OptionValue) -> dict[str, Any]:
    """Values by the name of the part's option."""
    written = cast("Any", found.value)
    pairs = list(written.items()) if isinstance(written, dict) else written
    parts: dict[str, Any] = {}
    for pair in pairs:
        match pair:
            case (str() as part, value) if part.lower() in _PREFIXES:
                option = _PREFIXES[part.lower()] + name
            case (str() as part, _):
                raise BindError(
                    f"option `{name}` has no part '{part}'; there are {', '.join(_PREFIXES)}",
                    at=found.value_at,
                    hint=near(part, _PREFIXES),
                )
            case _:
                raise BindError(
                    f"option `{name}` is one value, or a list like [STRUCT('dnn', …), "
                    f"STRUCT('linear', …)], found {pair!r}",
                    at=found.value_at,
                )
        if option in parts:
            raise BindError(f"option `{name}` has the part '{part}' twice", at=found.value_at)
        parts[option] = value
    return parts
