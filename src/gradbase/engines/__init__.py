"""Data systems that hold the rows.  An engine is loaded when it is first connected to."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any

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
    "readiness",
]

ENGINES = {
    "duckdb": "gradbase.engines.duckdb:DuckDBEngine",
    "postgresql": "gradbase.engines.postgres:PostgresEngine",
    "spark": "gradbase.engines.spark:SparkEngine",
}
"""Engine -> where its class is; made with a path (None: in memory) or a URL, and `read_only`."""

EXTRAS = {"postgresql": "postgres", "spark": "spark"}
"""Engine -> extra of the package that installs its driver."""

ALIASES = {"postgres": "postgresql"}
"""Other schemes of URLs."""

SPARK = re.compile(r"spark://|local(-cluster)?\[|k8s://")
"""URLs of Spark's masters."""

FILES = (".csv", ".tsv", ".parquet", ".json", ".arrow", ".feather")


def connect(
    url: Any = ":memory:", *, read_only: bool = False, store: str | Path | None = None
) -> Engine:
    """Open a data system.

    Parameters
    ----------
    url : str, Path or SparkSession
        ``:memory:``, a DuckDB file, made if it is missing, a folder of data files,
        ``postgresql://…``; the master of a Spark (``local[2]``, ``spark://…``) or a session of it.
    read_only : bool
        Change nothing; a missing file is then an error.
    store : str or Path, optional
        Where an engine without transactions (Spark) keeps models.

    Raises
    ------
    UnsupportedError
        The driver of an engine, or the Java that Spark needs, is not installed.
    StoreError
        The file is locked, damaged, or cannot be made.
    """
    if not isinstance(url, (str, Path)) or SPARK.match(str(url)):
        return _load("spark")(url, store, read_only=read_only)
    if store is not None:
        raise BindError(
            f"store= is given for `{url}`, which keeps models itself",
            hint="leave it out; Spark is what needs it",
        )
    text = str(url)
    server = _server_of(text)
    if server:
        return _load(server)(text, read_only=read_only)
    return _embedded(text, read_only=read_only)


def readiness(name: str) -> str:
    """Whether the engine `name` can be used here: what it runs on, or what is missing."""
    package = ENGINES[name].partition(":")[0]
    try:
        return importlib.import_module(package).readiness()
    except ModuleNotFoundError as error:
        return f"not usable: `{error.name}` is missing; pip install 'gradbase[{EXTRAS[name]}]'"
    except ImportError as error:  # a driver without its C library
        return f"not usable: {error}"


def _embedded(text: str, *, read_only: bool) -> Engine:
    """DuckDB in memory, over a file or over a folder."""
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
    scheme = re.match(r"([A-Za-z][A-Za-z0-9+]+)://", url)
    if not scheme or scheme[1] == "duckdb":
        return ""
    name = ALIASES.get(scheme[1].lower(), scheme[1].lower())
    if name in ENGINES:
        return name
    raise BindError(
        f"`{name}` is no engine; there are {', '.join(ENGINES)}", hint=near(name, ENGINES)
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
