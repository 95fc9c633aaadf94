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
    "postgresql": "gradbase.engines.postgres:PostgresEngine",
}
"""Engine -> where its class is; made with a path (None: in memory) or a URL, and `read_only`."""

EXTRAS = {"postgresql": "postgres"}
"""Engine -> extra of the package that installs its driver."""

ALIASES = {"postgres": "postgresql"}
"""Other schemes of URLs."""

LATER = {
    "spark": "Spark",
}
"""Scheme of a URL -> engine of a later version."""

FILES = (".csv", ".tsv", ".parquet", ".json", ".arrow", ".feather")


def connect(url: str | Path = ":memory:", *, read_only: bool = False) -> Engine:
    """Open a data system.

    Parameters
    ----------
    url : str or Path
        ``:memory:``, a DuckDB file, made if it is missing, a folder of data files, or
        ``postgresql://…``.
    read_only : bool
        Change nothing; a missing file is then an error.

    Raises
    ------
    UnsupportedError
        Spark comes in a later version; the driver of an engine is not installed.
    StoreError
        The file is locked, damaged, or cannot be made.
    """
    text = str(url)
    server = _server_of(text)
    if server:
        return _load(server)(text, read_only=read_only)
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


def _server_of(url: str) -> str:
    """The engine that a URL's scheme names; '' for files and memory."""
    scheme = re.match(r"([A-Za-z][A-Za-z0-9+]+)://|(local)\[", url)
    if not scheme or scheme[1] == "duckdb":
        return ""
    name = (scheme[1] or "spark").lower()
    name = ALIASES.get(name, name)
    if name in ENGINES:
        return name
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
    try:
        return getattr(importlib.import_module(module), attribute)
    except ModuleNotFoundError as error:
        if name not in EXTRAS or str(error.name).startswith("gradbase"):
            raise
        raise UnsupportedError(
            f"the engine {name} needs `{error.name}`, which is not installed",
            hint=f"pip install 'gradbase[{EXTRAS[name]}]'",
        ) from error
