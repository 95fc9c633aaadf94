"""Names of columns: found whatever their case, and made distinct."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def lookup(name: str, names: Iterable[str]) -> str | None:
    """The one of `names` that is `name`, exactly or else ignoring case.

    Examples
    --------
    >>> lookup("Age", ["id", "age"]), lookup("sex", ["id", "age"])
    ('age', None)
    """
    known = list(names)
    if name in known:
        return name
    return next((n for n in known if n.casefold() == name.casefold()), None)


def distinct_names(names: Sequence[str]) -> list[str]:
    """`names` with the second ``a`` called ``a_1``, as DuckDB does in a subquery.

    Examples
    --------
    >>> distinct_names(["a", "b", "A"])
    ['a', 'b', 'A_1']
    """
    taken = {n.casefold() for n in names}
    seen: set[str] = set()
    found: list[str] = []
    for name in names:
        candidate, count = name, 0
        while candidate.casefold() in seen or (count and candidate.casefold() in taken):
            count += 1
            candidate = f"{name}_{count}"
        seen.add(candidate.casefold())
        found.append(candidate)
    return found
