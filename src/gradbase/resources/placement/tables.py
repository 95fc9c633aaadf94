"""Lifetimes and placements as CSV: ``id,lower,upper,size[,offset]``."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from gradbase.errors import DataError, near
from gradbase.resources.lifetimes import Interval

COLUMNS = ("id", "lower", "upper", "size")
# Columns that the format's own tool gives a meaning which is not kept here.
REFUSED = ("alignment", "gaps")
MOST = 1 << 62


@dataclass(frozen=True)
class Table:
    """The rows of a file; `offsets` by id where it has them."""

    intervals: tuple[Interval, ...]
    offsets: dict[str | int, int] | None


def read_table(path: str | Path) -> Table:
    """Read a file of lifetimes, with or without offsets.

    Columns may stand in any order; others are ignored. Ids are integers where all of them are.

    Raises
    ------
    DataError
        The file cannot be read, a column is missing, or a row is wrong; says which line.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"`{path}` cannot be read: {error}") from error
    lines = csv.reader(text.splitlines(), skipinitialspace=True)
    head = [name.strip().lower() for name in next(lines, [])]
    places = _places(head, path)
    rows = [_row(line, head, places, f"{path}, line {lines.line_num}") for line in lines if line]
    ids = _ids([row[0] for row in rows])
    intervals = tuple(
        Interval(i, lower, upper, size)
        for i, (_, lower, upper, size, *_) in zip(ids, rows, strict=True)
    )
    check(intervals, [where for *_, where in rows])
    if "offset" not in places:
        return Table(intervals, None)
    return Table(intervals, {i: row[4] for i, row in zip(ids, rows, strict=True)})


def _places(head: Sequence[str], path: str | Path) -> dict[str, int]:
    shape = "the first line is `id,lower,upper,size`, with `offset` where placed"
    if not head:
        raise DataError(f"`{path}` is empty", hint=shape)
    for name in COLUMNS:
        if name not in head:
            raise DataError(
                f"column `{name}` is missing, found {', '.join(head)}",
                at=f"{path}, line 1", hint=near(name, head) or shape,
            )  # fmt: skip
    for name in head:
        if name in REFUSED:
            raise DataError(
                f"column `{name}` has no meaning here", at=f"{path}, line 1",
                hint="leave it out; plan(..., alignment=n) aligns all storages",
            )  # fmt: skip
        if name in (*COLUMNS, "offset") and head.count(name) > 1:
            raise DataError(f"column `{name}` is there twice", at=f"{path}, line 1")
    return {name: head.index(name) for name in (*COLUMNS, "offset") if name in head}


def _row(
    line: Sequence[str], head: Sequence[str], places: Mapping[str, int], where: str
) -> tuple[str, int, int, int, int, str]:
    if len(line) != len(head):
        raise DataError(f"{len(line)} values, expected {len(head)}: {','.join(line)}", at=where)
    numbers = {"offset": 0}
    for name in places:
        if name != "id":
            numbers[name] = _integer(line[places[name]], name, where)
    if numbers["offset"] < 0:
        raise DataError(f"offset {numbers['offset']} is negative", at=where)
    name = line[places["id"]].strip()
    if not name:
        raise DataError("the id is empty", at=where)
    return (
        name, numbers["lower"], numbers["upper"], numbers["size"], numbers["offset"], where,
    )  # fmt: skip


def _integer(text: str, name: str, where: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise DataError(f"{name} `{text.strip()}` is not an integer", at=where) from None


def _ids(names: Sequence[str]) -> Sequence[str | int]:
    plain = all(name.removeprefix("-").isdecimal() and str(int(name)) == name for name in names)
    return [int(name) for name in names] if plain else names


def check(intervals: Sequence[Interval], where: Sequence[str] | None = None) -> None:
    """Refuse lifetimes that are none.

    Raises
    ------
    DataError
        What is no Interval, a number that is no integer, ``lower >= upper``, a size that is not
        above 0, or an id given twice.
    """
    first: dict[str | int, int] = {}
    total = 0
    for k, i in enumerate(intervals):
        if not isinstance(i, Interval):
            raise DataError(
                f"{i!r} is no Interval", hint="gb.memory.Interval(id, lower, upper, size)"
            )
        at = where[k] if where else f"interval {k}, {i}"
        numbers = (i.lower, i.upper, i.size)
        if not all(isinstance(n, int) and abs(n) < MOST for n in numbers):
            raise DataError(f"{numbers} are not integers of 62 bits", at=at)
        if i.lower >= i.upper:
            raise DataError(f"lower {i.lower} is not below upper {i.upper}", at=at)
        if i.size <= 0:
            raise DataError(f"size {i.size} is not above 0", at=at)
        if i.id in first:
            before = where[first[i.id]] if where else f"interval {first[i.id]}"
            raise DataError(f"id `{i.id}` is there already: {before}", at=at)
        first[i.id] = k
        total += i.size
    if total >= MOST:
        raise DataError(f"the sizes sum to {total:,} bytes, at most {MOST - 1:,} can be placed")


def write_table(
    path: str | Path, intervals: Iterable[Interval], offsets: Mapping[str | int, int]
) -> None:
    """Write rows ``id,lower,upper,size,offset``."""
    with Path(path).open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow((*COLUMNS, "offset"))
        rows.writerows(_values(intervals, offsets))


def _values(
    intervals: Iterable[Interval], offsets: Mapping[str | int, int]
) -> Iterator[tuple[str | int, int, int, int, int]]:
    for i in intervals:
        yield i.id, i.lower, i.upper, i.size, offsets[i.id]
