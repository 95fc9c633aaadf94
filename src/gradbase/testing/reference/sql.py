"""Pages of statements and functions; their examples run, so that columns and types are true."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, get_args

import pyarrow as pa

from gradbase.errors import GradbaseError
from gradbase.frontend import model_statements, words
from gradbase.frontend.calls import INSTEAD
from gradbase.frontend.documented import MODELS, REST, STATEMENTS, TABLES, Entry
from gradbase.frontend.documented_functions import FUNCTIONS, SYSTEM
from gradbase.frontend.documented_preprocessing import PREPROCESSING_DOCS
from gradbase.frontend.preprocessing import is_analytic
from gradbase.frontend.preprocessing_options import SIGNATURES, Option
from gradbase.frontend.statements import Native, Query, Statement, parse_statement
from gradbase.frontend.tokens import split_statements
from gradbase.session import connect
from gradbase.testing.reference.markdown import Undocumented, fenced, need, table

CONNECT = 'import gradbase as gb\n\ndb = gb.connect("shop.duckdb", progress=False)'
INTRO = "`[…]` may be left out; of `{… | …}` one is written. Words may be in any case."


def statements() -> Iterator[str]:
    """The page of statements."""
    parsed = [parse_statement(s) for e in STATEMENTS for s in split_statements(e.example)]
    found: set[type] = {type(s) for s in parsed}
    found |= {type(s.change) for s in parsed if isinstance(s, model_statements.AlterModel)}
    known = {*get_args(Statement), *get_args(model_statements.Change)} - {Native, Query}
    need({t.__name__ for t in known - found}, "statements", "frontend/documented.py")
    yield INTRO
    yield from _setup(TABLES, MODELS)
    yield from _entries(STATEMENTS)


def functions() -> Iterator[str]:
    """The page of functions."""
    known = {*words.SCALARS, *(f"ML.{f}" for f in words.TABLE_FUNCTIONS)}
    known |= {f"gradbase.{t}" for t in words.SYSTEM_TABLES}
    named = {e.name for e in (*FUNCTIONS, *SYSTEM)}
    need(known ^ named, "functions", "frontend/documented_functions.py")
    yield INTRO + " `m` is a model, or a version of it: `churn`, `churn@2`, `churn@champion`."
    yield from _setup(TABLES, MODELS)
    yield from _entries((*FUNCTIONS, *SYSTEM))
    yield "## Not offered"
    yield "Functions of BigQuery ML that are errors here:"
    yield table(
        ("function", "instead"),
        [(f"`ML.{f}`", INSTEAD.get(f, "")) for f in sorted(words.LATER_FUNCTIONS)],
    )


def preprocessing() -> Iterator[str]:
    """The page of preprocessing functions."""
    known = {*words.PREPROCESSING, *SIGNATURES}
    need(known ^ set(PREPROCESSING_DOCS), "functions", "frontend/documented_preprocessing.py")
    yield (
        "With `OVER ()` a function learns from all rows: in `TRANSFORM (…)` from those that train, in "
        "a query from its own. What is common to all is in [preparing columns](../transform.md)."
    )
    yield from _setup(TABLES)
    entries = [_preprocessing(n) for n in sorted(PREPROCESSING_DOCS)]
    with session(TABLES) as db:
        for entry in entries:
            yield f"## {entry.name}"
            yield entry.doc
            yield fenced("text", entry.syntax)
            yield from _constants(SIGNATURES[entry.name.removeprefix("ML.")])
            yield f"Gives {sql_type(run(db, entry).schema.field('prepared').type)}."
            yield fenced("sql", entry.example)


def _preprocessing(name: str) -> Entry:
    value, doc, example = PREPROCESSING_DOCS[name]
    shown = "".join(
        f", {o.name}" if o.default is None else f" [, {o.name}" for o in SIGNATURES[name]
    )
    shown += "]" * sum(o.default is not None for o in SIGNATURES[name])
    over = " OVER ()" if is_analytic(name) else ""
    query = f"SELECT id, {example} AS prepared FROM customers ORDER BY id LIMIT 3"
    return Entry(f"ML.{name}", f"ML.{name}({value}{shown}){over}", doc, query)


def _constants(signature: Sequence[Option]) -> Iterator[str]:
    if signature:
        rows = [(f"`{o.name}`", _kind(o), _default(o)) for o in signature]
        yield table(("constant", "what it may be", "default"), rows)


def _kind(option: Option) -> str:
    if option.values:
        return " or ".join(f"`'{v}'`" for v in option.values)
    kinds = {
        "int": "whole number", "bool": "TRUE or FALSE", "float": "number", "text": "text",
        "points": "array of numbers", "percents": "array of two percents",
        "range": "whole number, or array of two",
    }  # fmt: skip
    ends = [f"{e:,.0f}" for e in (option.low, option.high) if abs(e) != float("inf")]
    return kinds[option.kind] + ("" if not ends else f" from {' to '.join(ends)}")


def _default(option: Option) -> str:
    match option.default:
        case None:
            return "must be given"
        case bool(value):
            return str(value).upper()
        case tuple(value):
            return str(list(value))
        case str(value):
            return f"`'{value}'`"
    return f"{option.default:,}"


# -- examples --------------------------------------------------------------------------------------


def _setup(*scripts: str) -> Iterator[str]:
    yield "The examples run on this:"
    yield fenced("python", CONNECT)
    yield fenced("sql", "\n".join(scripts))


def _entries(entries: Sequence[Entry]) -> Iterator[str]:
    with session(TABLES, MODELS) as db:
        for entry in entries:
            yield f"## {entry.name}"
            yield entry.doc
            yield fenced("text", entry.syntax)
            if entry.before:
                yield fenced("python", entry.before)
            yield fenced("sql", entry.example)
            rows = columns(entry, run(db, entry).schema)
            yield table(("column", "type", "what it holds"), rows)


@contextmanager
def session(*scripts: str) -> Generator[Any]:
    """A session of a database in a folder of its own, in which files may be written."""
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            with connect("shop.duckdb", progress=False) as db:
                for script in scripts:
                    _script(db, script)
                yield db
        finally:
            os.chdir(before)


def run(db: Any, entry: Entry) -> pa.Table:
    """The last result of an example."""
    import gradbase

    try:
        if entry.before:
            exec(entry.before, {"db": db, "gb": gradbase, "print": lambda *_: None})  # noqa: S102
        return _script(db, entry.example)
    except GradbaseError as error:
        raise Undocumented(f"the example of {entry.name} fails: {error}") from error


def _script(db: Any, text: str) -> pa.Table:
    return [result.arrow() for result in db.script(text)][-1]


def columns(entry: Entry, found: pa.Schema) -> Iterator[tuple[str, str, str]]:
    """(name, type, meaning) of each column; Undocumented where they are others."""
    described = list(entry.columns)
    rest = described.pop()[1] if described and described[-1][0] == REST else None
    names = [name for name, _ in described]
    alike = len(found) == len(names) or (rest is not None and len(found) >= len(names))
    if not alike or not all(map(_fits, names, found.names)):
        raise Undocumented(f"{entry.name} has columns {found.names}, described are {names}")
    for (name, meaning), column in zip(described, found, strict=False):
        yield f"`{name}`", sql_type(column.type), meaning
    if rest is not None:
        yield REST, "", rest


def _fits(name: str, found: str) -> bool:
    pattern = ".+".join(re.escape(p) for p in re.split("<.*?>", name))
    return re.fullmatch(pattern, found) is not None


_NAMES = {
    "bool": "BOOLEAN", "date32[day]": "DATE", "double": "DOUBLE", "float": "FLOAT",
    "int32": "INTEGER", "int64": "BIGINT", "null": "NULL", "string": "VARCHAR",
    "timestamp[us]": "TIMESTAMP",
}  # fmt: skip


def sql_type(of: pa.DataType) -> str:
    """A type in the words of SQL.

    Examples
    --------
    >>> sql_type(pa.list_(pa.struct([("index", pa.int64()), ("value", pa.float64())])))
    'STRUCT(index BIGINT, value DOUBLE)[]'
    """
    if pa.types.is_list(of) or pa.types.is_fixed_size_list(of):
        return f"{sql_type(of.value_type)}[]"
    if pa.types.is_struct(of):
        fields = (of.field(i) for i in range(of.num_fields))
        return f"STRUCT({', '.join(f'{f.name} {sql_type(f.type)}' for f in fields)})"
    if pa.types.is_timestamp(of) and of.tz:
        return "TIMESTAMP WITH TIME ZONE"
    return _NAMES.get(str(of), str(of).upper())
