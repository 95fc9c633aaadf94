"""Data systems that hold the rows.  An engine is loaded when it is first connected to."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

from gradbase.engines.base import Engine, Function, Moments, NativeResult, quote_identifier
from gradbase.errors import BindError, StoreError, UnsupportedError, near

__all__ = [
    "ENGINES",
    "Engine",
    "Function",
    "Moments",
    "NativeResult",
    "connect",
    "quote_identifier",
]

ENGINES = {
    "duckdb": "gradbase.engines.duckdb:DuckDBEngine",
}
"""Engine -> where its class is; made with a path (None: in memory) and `read_only`."""

LATER = {
    "postgresql": "PostgreSQL",
    "postgres": "PostgreSQL",
    "spark": "Spark",
}
"""Scheme of a URL -> engine of a later version."""

FILES = (".csv", ".tsv", ".parquet", ".json", ".arrow", ".feather")


def connect(url: str | Path = ":memory:", *, read_only: bool = False) -> Engine:
    """Open a data system.

    Parameters
    ----------
    url : str or Path
        ``:memory:``, a DuckDB file, made if it is missing, or a folder of data files.
    read_only : bool
        Change nothing; a missing file is then an error.

    Raises
    ------
    UnsupportedError
        PostgreSQL and Spark come in a later version.
    StoreError
        The file is locked, damaged, or cannot be made.
    """
    text = str(url)
    _refuse_later(text)
    if text in ("", ":memory:"):
        if read_only:
            raise StoreError(
                "a database in memory is empty: it cannot be opened read-only",
                hint="name a file, or leave read_only out",
            )
        return _load("duckdb")(None, read_only=False)
    path = Path(text.removeprefix("duckdb://")).expanduser()
    if path.is_dir():
        from gradbase.engines.duckdb.folders import open_folder

        return open_folder(path, read_only=read_only)
    if path.suffix.lower() in FILES:
        raise UnsupportedError(
            f"`{text}` is a data file, not a database",
            hint=f"connect to :memory: and read it: SELECT * FROM '{text}'",
        )
    return _load("duckdb")(path, read_only=read_only)


def _refuse_later(url: str) -> None:
    scheme = re.match(r"([A-Za-z][A-Za-z0-9+]+)://|(local)\[", url)
    if not scheme or scheme[1] == "duckdb":
        return
    name = (scheme[1] or "spark").lower()
    if name in LATER:
        raise UnsupportedError(
            f"{LATER[name]} is not an engine of this version yet: `{url}`",
            hint="copy the table into DuckDB and connect to that file",
        )
    raise BindError(
        f"`{name}` is no engine; there are {', '.join([*ENGINES, *LATER])}",
        hint=near(name, [*ENGINES, *LATER]),
    )


def _load(name: str) -> type:
    module, _, attribute = ENGINES[name].partition(":")
    return getattr(importlib.import_module(module), attribute)
