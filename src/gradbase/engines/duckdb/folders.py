"""A folder of files as a database: each file, and each folder in it, is a table.

The catalog, the models and the user's own tables live in ``<folder>/.gradbase/folder.duckdb``; a
file is a view there, so that its rows are read where they are.
"""

from __future__ import annotations

import glob
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from gradbase.engines.base import quote_identifier
from gradbase.engines.duckdb.engine import DuckDBEngine
from gradbase.engines.duckdb.literals import literal
from gradbase.engines.paths import database_of
from gradbase.errors import EngineError, StoreError
from gradbase.ir.types import TEXT

READERS = {
    "parquet": "read_parquet",
    "csv": "read_csv",
    "tsv": "read_csv",
    "json": "read_json",
    "jsonl": "read_json",
    "ndjson": "read_json",
}
"""Ending of a file -> function of DuckDB that reads it; ``.gz`` and ``.zst`` may follow."""

PACKED = (".gz", ".zst")
OURS = "a file beside this database"


def open_folder(folder: Path, *, read_only: bool) -> DuckDBEngine:
    """The engine over the files of a folder.

    Files that appear later are seen when the folder is opened again; rows that change, and files
    that appear in a folder inside it, are seen by the next query.

    Raises
    ------
    StoreError
        `read_only`, and the folder was never opened for writing.
    """
    path = database_of(folder)
    if read_only and not path.exists():
        raise StoreError(
            f"`{folder}` was never opened: it has no catalog of models, and read_only makes none",
            hint=f"open it once without read_only, or connect to :memory: and read the files: "
            f"SELECT * FROM '{folder}/*.parquet'",
        )
    if not read_only:
        path.parent.mkdir(exist_ok=True)
    engine = DuckDBEngine(path, read_only=read_only)
    if not read_only:
        try:
            _show(engine, tables_of(folder))
        except BaseException:
            engine.close()
            raise
    return engine


def tables_of(folder: Path) -> dict[str, str]:
    """Name of each table -> the query that reads it.

    A file is called by its name without ending, with it where two files or a file and a folder
    would share one. A folder is a table where its files, however deep, are of one kind.
    """
    found: list[tuple[str, str, str]] = []
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        if path.is_dir():
            found += _of_folder(path)
        elif kind := _kind(path):
            stem = path.name[: path.name.lower().rindex(f".{kind}")]
            found.append((stem, path.name, _reading(kind, glob.escape(str(path)))))
    # Names that differ in case only are one name to DuckDB.
    taken = Counter(name.casefold() for stem, file, _ in found for name in {stem, file})
    tables: dict[str, str] = {}
    for stem, file, query in found:
        name = stem if taken[stem.casefold()] == 1 else file
        if name.casefold() in {other.casefold() for other in tables}:
            raise StoreError(
                f"two files of `{folder}` would both be the table `{name}`", hint="rename one"
            )
        tables[name] = query
    return tables


def _of_folder(folder: Path) -> list[tuple[str, str, str]]:
    files = [path for path in folder.rglob("*") if path.is_file() and _kind(path)]
    endings = {path.name[path.name.lower().rindex(f".{_kind(path)}") :] for path in files}
    if len(endings) != 1:
        return []
    pattern = f"{glob.escape(str(folder))}/**/*{endings.pop()}"
    # Files written at different times need not have the same columns.
    query = _reading(_kind(files[0]), pattern, ", union_by_name = true")
    return [(folder.name, f"{folder.name}/", query)]


def _kind(path: Path) -> str:
    name = path.name.lower()
    for packed in PACKED:
        name = name.removesuffix(packed)
    ending = name.rpartition(".")[2]
    return ending if ending in READERS and "." in name else ""


def _reading(kind: str, pattern: str, more: str = "") -> str:
    return f"SELECT * FROM {READERS[kind]}({literal(pattern, TEXT)}{more})"


def _show(engine: DuckDBEngine, tables: Mapping[str, str]) -> None:
    """Make the views; those of files that are gone, and none of the user's, are dropped."""
    queries = {name: _readable(engine, name, query) for name, query in tables.items()}
    with engine.transaction() as transaction:
        shown = f"SELECT view_name FROM duckdb_views() WHERE comment = '{OURS}'"
        for (name,) in transaction.execute(shown).fetchall():
            transaction.execute(f"DROP VIEW {quote_identifier(name)}")
        held = "SELECT table_name FROM information_schema.tables WHERE table_schema = 'main'"
        own = {name.casefold() for (name,) in transaction.execute(held).fetchall()}
        for name, query in queries.items():
            if name.casefold() in own:
                continue  # a table that the user made is what its name means
            view = quote_identifier(name)
            transaction.execute(f"CREATE VIEW {view} AS {query}")
            transaction.execute(f"COMMENT ON VIEW {view} IS '{OURS}'")


def _readable(engine: DuckDBEngine, name: str, query: str) -> str:
    """The query, or for a damaged file one that says so: the other files are still of use."""
    try:
        columns = engine.types(query)
        if "read_csv" in query and len(columns) == 1 and (mark := _mark(columns[0][0])):
            query = f"{query.removesuffix(')')}, delim = {literal(mark, TEXT)})"
            engine.types(query)
    except EngineError as error:
        reason = " ".join(str(error).split("\n")[:2])
        problem = f"the file of table {name} cannot be read: {reason}"
        raised = f"error({literal(problem, TEXT)})"
        # Who asks for a column of it is told which there are: this one. Counting rows fails too.
        return f"SELECT {raised} AS {quote_identifier(problem)} WHERE {raised} IS NOT NULL"
    return query


def _mark(header: str) -> str:
    """What parts the names of a header that was taken for one name, as rows of it are uneven."""
    return next((mark for mark in ",;\t|" if mark in header), "")
