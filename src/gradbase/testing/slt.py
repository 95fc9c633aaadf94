"""Runs ``.slt`` files (see `gradbase.testing.records`) over any session, under any configuration.

::

    @pytest.mark.parametrize("path", sorted(FOLDER.rglob("*.slt")))
    def test_slt(path, tmp_path):
        run_file(path, gradbase.connect, Config(), tmp_path)
"""

from __future__ import annotations

import dataclasses
import math
import operator
import re
import tomllib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, Protocol

from gradbase.errors import GradbaseError, ParseError, near
from gradbase.frontend.tokens import split_statements
from gradbase.testing.records import Condition, Record, Script, read_script
from gradbase.testing.reference.sql import sql_type
from gradbase.testing.translation import translated

NUMBERS = (int, float, Decimal)

_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
}


class Rows(Protocol):
    """A result of a session."""

    @property
    def columns(self) -> list[str]: ...

    def fetchall(self) -> list[tuple[Any, ...]]: ...


class SltSession(Protocol):
    """What the runner needs of a session; `last_plan.rules` names the rules that fired."""

    def sql(self, text: str) -> Rows: ...

    @property
    def last_plan(self) -> Any: ...

    def close(self) -> None: ...


Connect = Callable[[str], SltSession]


class SltError(AssertionError):
    """A record did not do what it says; the message has file, line, statement and difference."""


@dataclass(frozen=True)
class Config:
    """A way to run all files again; read from ``tests/configs/*.toml``.

    Parameters
    ----------
    name : str
    settings : tuple of str
        Statements run after every connecting.
    file : bool
        A database file instead of memory.
    reconnect : bool
        Connect anew after every statement that is no query: nothing lives in the session alone.
        The file's temporary tables and open transactions would be lost: such files are skipped by
        their group ``session``.
    ensure : bool
        Whether ``+ensure`` and ``+unless`` are looked at.
    skip_groups : tuple of str
        Files of these groups do not run.
    slow : bool
        Not in ``make test``.
    each_rule : bool
        One run per rule of the optimiser; ``{rule}`` in `settings` is its name.
    """

    name: str = "plain"
    settings: tuple[str, ...] = ()
    file: bool = False
    reconnect: bool = False
    ensure: bool = True
    skip_groups: tuple[str, ...] = ()
    slow: bool = False
    each_rule: bool = False

    @classmethod
    def load(cls, path: Path) -> Config:
        """Read a TOML file; its stem is the name."""
        values: dict[str, Any] = tomllib.loads(path.read_text())
        known = set(cls.__dataclass_fields__) - {"name"}
        for key in values.keys() - known:
            raise ParseError(
                f"`{key}` is no key of a configuration", at=str(path), hint=near(key, known)
            )
        frozen: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in values.items()
        }
        return cls(path.stem, **frozen)

    def for_rule(self, rule: str) -> Config:
        """This configuration for one rule."""
        settings = tuple(s.replace("{rule}", rule) for s in self.settings)
        name = f"{self.name}-{rule}"
        return dataclasses.replace(self, name=name, settings=settings, each_rule=False)


def load_configs(folder: Path, rules: Sequence[str] = ()) -> list[Config]:
    """`Config()` and those of a folder, the ones for each rule multiplied."""
    loaded = [Config.load(path) for path in sorted(folder.glob("*.toml"))]
    many = [c.for_rule(r) for c in loaded if c.each_rule for r in rules]
    return [Config(), *(c for c in loaded if not c.each_rule), *many]


@dataclass(frozen=True)
class Target:
    """Another engine than DuckDB to run the files on.

    Parameters
    ----------
    engine : str
        Its name, for ``skipif``, ``onlyif`` and the marks of gaps.
    url : str
        An empty database.
    dialect : str
        What sqlglot calls its language: statements without our words are written in DuckDB's.
    setup : str
        Statements to run first.
    """

    engine: str
    url: str
    dialect: str
    setup: str = ""


def run_file(
    path: Path, connect: Connect, config: Config, folder: Path, target: Target | None = None
) -> int:
    """Run a file and return how many records ran; ``__FOLDER__`` in it stands for `folder`.

    Raises
    ------
    SltError
        At the first record that does not do what it says.
    """
    script = read_script(path)
    if script.groups & set(config.skip_groups):
        return 0
    runner = _Runner(script, connect, config, folder, target)
    try:
        return runner.run()
    finally:
        runner.close()


class _Runner:
    def __init__(
        self,
        script: Script,
        connect: Connect,
        config: Config,
        folder: Path,
        target: Target | None,
    ) -> None:
        self.script, self.connect, self.config, self.folder = script, connect, config, folder
        self.target, self.set_up = target, False
        needs_file = (
            config.file or config.reconnect or any(r.kind == "restart" for r in script.records)
        )
        self.url = str(folder / "slt.duckdb") if needs_file else ":memory:"
        if target is not None:
            self.url = target.url
        self.session: SltSession | None = None
        self.words = frozenset({target.engine if target else "duckdb", config.name})

    def run(self) -> int:
        ran = 0
        for record in self.script.records:
            if not record.runs(self.words):
                continue
            if record.kind == "halt":
                break
            ran += 1
            if record.kind == "restart":
                self.close()
                continue
            self.one(record)
            if self.config.reconnect and record.kind in ("statement", "train"):
                self.close()
        return ran

    def close(self) -> None:
        if self.session is not None:
            self.session.close()
            self.session = None

    def opened(self) -> SltSession:
        if self.session is None:
            self.session = self.connect(self.url)
            if self.target is not None and not self.set_up:
                self.set_up = True
                for statement in split_statements(self.target.setup):
                    self.session.sql(statement).fetchall()
            for setting in self.config.settings:
                self.session.sql(setting).fetchall()
        return self.session

    def one(self, record: Record) -> None:
        session = self.opened()
        try:
            result = session.sql(self.text(record))
            rows = _described(result) if record.kind == "describe" else result.fetchall()
        except GradbaseError as error:
            self.failed(record, error)
            return
        problem = _problem(record, result.columns, rows)
        gap = record.gap(self.words)
        if gap is not None and problem and re.search(gap, f"Difference: {problem}", re.DOTALL):
            return
        expected = gap or record.error
        if expected is not None:
            raise self.wrong(record, f"expected error {expected}\nfound {len(rows)} rows {problem}")
        if problem:
            raise self.wrong(record, problem)
        if self.config.ensure and (record.ensure or record.unless):
            self.rules(record, session.last_plan.rules)

    def text(self, record: Record) -> str:
        """The statement in the engine's language."""
        sql = record.sql.replace("__FOLDER__", str(self.folder))
        if self.target is None or record.only_if & self.words:
            return sql
        return translated(sql, self.target.dialect)

    def failed(self, record: Record, error: GradbaseError) -> None:
        text = f"{type(error).__name__}: {error}"
        expected = record.gap(self.words) or record.error
        if expected is None:
            raise self.wrong(record, text) from error
        if not re.search(expected, text, re.DOTALL):
            raise self.wrong(record, f"expected error {expected}\nfound {text}") from error

    def rules(self, record: Record, fired: Iterable[str]) -> None:
        fired = tuple(dict.fromkeys(fired))
        for rule in record.ensure:
            if rule not in fired:
                raise self.wrong(record, f"rule {rule} did not fire; fired: {', '.join(fired)}")
        for rule in record.unless:
            if rule in fired:
                raise self.wrong(record, f"rule {rule} fired")

    def wrong(self, record: Record, problem: str) -> SltError:
        at = f"{self.script.path}:{record.line} ({self.config.name})"
        return SltError(f"{at}\n{record.sql}\n\n{problem}")


def _described(result: Any) -> list[tuple[str, str]]:
    return [(field.name, sql_type(field.type)) for field in result.arrow().schema]


def _problem(record: Record, columns: list[str], rows: list[tuple[Any, ...]]) -> str | None:
    """What is wrong with the rows, None where nothing is."""
    if record.kind in ("query", "describe"):
        return _difference(record, rows)
    if record.kind == "train":
        subjects = dict(zip(columns, rows[0], strict=True)) if rows else {}
        subjects.setdefault(str(subjects.get("metric")), subjects.get("value"))
    elif record.kind == "predict":
        subjects = _shape(columns, rows)
    else:
        return None
    return next((p for c in record.conditions if (p := _broken(c, subjects))), None)


# -- rows --------------------------------------------------------------------------------------


def _difference(record: Record, rows: list[tuple[Any, ...]]) -> str | None:
    expected = [list(row) for row in record.expected]
    widths = {len(record.types)} | {len(row) for row in expected} | {len(row) for row in rows}
    if len(widths) > 1:
        return f"{len(record.types)} types, rows of {sorted(widths)} columns; found {rows[:3]}"
    found = [[_cell(v, t) for v, t in zip(row, record.types, strict=True)] for row in rows]
    if record.rowsort:
        expected, found = sorted(expected, key=_sort_key), sorted(found, key=_sort_key)
    same = len(expected) == len(found) and all(
        _same(e, f, t, record.tolerance)
        for row, other in zip(expected, found, strict=True)
        for e, f, t in zip(row, other, record.types, strict=True)
    )
    return None if same else f"expected\n{_table(expected)}\nfound\n{_table(found)}"


def _cell(value: Any, kind: str) -> str:
    match value:
        case None:
            return "NULL"
        case bool():
            return ("true" if value else "false") if kind == "B" else str(int(value))
    if kind == "I" and isinstance(value, NUMBERS) and value == int(value):
        return str(int(value))
    if kind == "R" and isinstance(value, NUMBERS):
        return f"{float(value):.10g}"
    return str(value) or "(empty)"


def _sort_key(row: Sequence[str]) -> tuple[str, ...]:
    # Numbers that differ in their last digits must sort alike on both sides.
    return tuple(f"{_number(cell):.4g}" if _number(cell) is not None else cell for cell in row)


def _number(cell: str) -> float | None:
    try:
        return float(cell)
    except ValueError:
        return None


def _same(expected: str, found: str, kind: str, tolerance: float) -> bool:
    a, b = _number(expected), _number(found)
    if kind != "R" or a is None or b is None:
        return expected == found
    close = math.isclose(a, b, rel_tol=tolerance, abs_tol=tolerance)
    return close or (math.isnan(a) and math.isnan(b))


def _table(rows: Iterable[Sequence[str]]) -> str:
    return "\n".join("  ".join(row) for row in rows) or "(no rows)"


# -- conditions --------------------------------------------------------------------------------


def _shape(columns: list[str], rows: list[tuple[Any, ...]]) -> dict[str, Any]:
    """What the conditions of a predict record may ask."""
    found: dict[str, Any] = {"rows": len(rows), "columns": ",".join(columns)}
    for k, name in enumerate(columns):
        values = [row[k] for row in rows]
        known = [v for v in values if v is not None]
        found[f"nulls({name})"] = len(values) - len(known)
        found[f"distinct({name})"] = len({str(v) for v in known})
        numbers = [float(v) for v in known if isinstance(v, NUMBERS)]
        if numbers and len(numbers) == len(known):
            found[f"min({name})"], found[f"max({name})"] = min(numbers), max(numbers)
            found[f"mean({name})"] = math.fsum(numbers) / len(numbers)
    return found


def _broken(condition: Condition, subjects: dict[str, Any]) -> str | None:
    """Why a condition does not hold."""
    if condition.subject not in subjects:
        return f"{condition}: there is no {condition.subject}, only {', '.join(subjects)}"
    found = subjects[condition.subject]
    if _holds(condition, found):
        return None
    return f"{condition} does not hold: found {found}"


def _holds(condition: Condition, found: Any) -> bool:
    wanted = _number(condition.value)
    if condition.op in ("=", "!="):
        if wanted is None or not isinstance(found, NUMBERS):
            same = str(found) == condition.value
        else:
            same = math.isclose(found, wanted, rel_tol=1e-12, abs_tol=condition.tolerance)
        return same == (condition.op == "=")
    return wanted is not None and found is not None and _COMPARE[condition.op](float(found), wanted)
