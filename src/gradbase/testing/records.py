"""The records of an ``.slt`` file.

::

    # name: filter before scoring
    # group: [predict]

    statement ok
    CREATE TABLE points AS SELECT 1 AS id

    query IRT rowsort +ensure:push_filter_below_predict ~0.01
    SELECT id, PREDICT(m, x), 'a' FROM points
    ----
    1  0.25  a

    statement error BindError: .* did you mean `points`
    SELECT * FROM pionts

    describe
    SELECT * FROM ML.CONFUSION_MATRIX(MODEL m)
    ----
    expected_label  INTEGER

    train trials=4 failed=0 roc_auc>=0.8
    CREATE MODEL m OPTIONS (…) AS SELECT …

    predict rows=100 columns=id,p min(p)>=0 mean(p)=0.3~0.05
    SELECT id, PREDICT_PROBA(m, *) AS p FROM points

Types of a query's columns: I integer, R number (compared within a tolerance), T text, B boolean.
Cells are parted by a tab or two spaces and more; NULL and (empty) stand for themselves. ``rowsort``
compares rows in any order; ``describe`` compares names and types, in one language for all engines.
``+ensure:rule`` asks that a rule of the optimiser fired,
``+unless:rule`` that it did not. ``skipif word`` and ``onlyif word`` before a record look at the
engine's and the configuration's name. ``restart`` connects anew, ``halt`` ends the file.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from gradbase.errors import ParseError, near

KINDS = ("statement", "query", "describe", "train", "predict", "restart", "halt")
MARKS = ("notimpl", "notyet", "never")
"""We could; the engine cannot yet; never. Behind it the engine and the error, which must come."""
TYPES = "IRTB"
TOLERANCE = 1e-6


@dataclass(frozen=True)
class Condition:
    """``subject op value``, equal within `tolerance`."""

    subject: str
    op: str
    value: str
    tolerance: float = 0.0

    def __str__(self) -> str:
        return f"{self.subject}{self.op}{self.value}" + (
            f"~{self.tolerance:g}" * (self.tolerance > 0)
        )


@dataclass(frozen=True)
class Record:
    """One thing to do, and what must come of it."""

    kind: str
    line: int
    sql: str = ""
    error: str | None = None
    types: str = ""
    rowsort: bool = False
    tolerance: float = TOLERANCE
    expected: tuple[tuple[str, ...], ...] = ()
    ensure: tuple[str, ...] = ()
    unless: tuple[str, ...] = ()
    conditions: tuple[Condition, ...] = ()
    skip_if: frozenset[str] = frozenset()
    only_if: frozenset[str] = frozenset()
    gaps: tuple[tuple[str, str], ...] = ()
    """Engines on which it must fail, each with a pattern of the error."""

    def gap(self, words: frozenset[str]) -> str | None:
        """The error it must fail with in a run with these words; None where it must pass."""
        return next((error for engine, error in self.gaps if engine in words), None)

    def runs(self, words: frozenset[str]) -> bool:
        """Whether it is for a run with these words (engine, configuration)."""
        return not (self.skip_if & words) and (not self.only_if or bool(self.only_if & words))


@dataclass(frozen=True)
class Script:
    """A file: its records, and the groups it says it belongs to."""

    path: Path
    records: tuple[Record, ...]
    groups: frozenset[str] = field(default_factory=frozenset)


def read_script(path: Path) -> Script:
    """Read an ``.slt`` file."""
    lines = path.read_text().splitlines()
    groups = re.search(r"^# group: *\[(.*)\]", "\n".join(lines), re.MULTILINE)
    names = frozenset(g.strip() for g in groups[1].split(",")) if groups else frozenset[str]()
    return Script(path, tuple(_records(path, lines)), names)


def _records(path: Path, lines: Sequence[str]) -> Iterator[Record]:
    skip_if: set[str] = set()
    only_if: set[str] = set()
    gaps: list[tuple[str, str]] = []
    number = 0
    while number < len(lines):
        line = lines[number].rstrip()
        if not line or line.startswith("#"):
            number += 1
            continue
        word, _, rest = line.partition(" ")
        if word in ("skipif", "onlyif"):
            (skip_if if word == "skipif" else only_if).add(rest.strip())
            number += 1
            continue
        if word in MARKS:
            engine, _, error = rest.strip().partition(" ")
            gaps.append((engine, error.strip()))
            number += 1
            continue
        if word not in KINDS:
            raise ParseError(
                f"`{word}` starts no record; there are {', '.join(KINDS)}",
                at=f"{path}:{number + 1}",
                hint=near(word, KINDS),
            )
        end = _end(lines, number + 1)
        try:
            record = _record(word, rest, number + 1, lines[number + 1 : end])
        except ValueError as error:
            raise ParseError(str(error), at=f"{path}:{number + 1}") from error
        yield replace(
            record, skip_if=frozenset(skip_if), only_if=frozenset(only_if), gaps=tuple(gaps)
        )
        skip_if, only_if, gaps = set(), set(), []
        number = end


def _end(lines: Sequence[str], start: int) -> int:
    """Where the empty line after a record is."""
    end = start
    while end < len(lines) and lines[end].strip():
        end += 1
    return end


def _record(kind: str, rest: str, line: int, body: Sequence[str]) -> Record:
    sql, _, rows = "\n".join(body).partition("\n----")
    if kind not in ("restart", "halt") and not sql.strip():
        raise ValueError(f"a {kind} record needs a statement")
    if kind in ("statement", "query") and rest.startswith("error"):
        return Record(kind, line, sql, error=rest.removeprefix("error").strip())
    cells = (re.split(r"\t+|  +", row.strip()) for row in rows.splitlines() if row)
    types = "TT" if kind == "describe" else ""
    made = Record(kind, line, sql, types=types, expected=tuple(tuple(row) for row in cells))
    return _options(made, rest)


def _options(record: Record, rest: str) -> Record:
    kind = record.kind
    for word in rest.split():
        if word.startswith("+ensure:"):
            record = replace(record, ensure=(*record.ensure, word.removeprefix("+ensure:")))
        elif word.startswith("+unless:"):
            record = replace(record, unless=(*record.unless, word.removeprefix("+unless:")))
        elif kind in ("train", "predict"):
            record = replace(record, conditions=(*record.conditions, _condition(word)))
        elif word.startswith("~"):
            record = replace(record, tolerance=float(word[1:]))
        elif word == "rowsort":
            record = replace(record, rowsort=True)
        elif kind == "query" and not record.types and set(word) <= set(TYPES):
            record = replace(record, types=word)
        elif (kind, word) != ("statement", "ok"):
            raise ValueError(f"`{word}` means nothing in a {kind} record")
    if kind == "query" and not record.types:
        raise ValueError(f"a query needs the types of its columns, letters of {TYPES}")
    return record


def _condition(word: str) -> Condition:
    parts = re.fullmatch(r"([\w.]+(?:\(\w+\))?)(>=|<=|!=|=|<|>)([^~]+)(?:~([\d.e+-]+))?", word)
    if parts is None:
        raise ValueError(f"`{word}` is no condition like rows=100, min(p)>=0 or mean(p)=0.3~0.05")
    return Condition(parts[1], parts[2], parts[3], float(parts[4] or 0))
