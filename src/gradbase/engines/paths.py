"""Where things lie on disk, for those that open a database and those that only look on."""

from __future__ import annotations

from pathlib import Path


def database_of(path: Path) -> Path:
    """The DuckDB file of a database: `path` itself, or the one in a folder of data files."""
    return path / ".gradbase" / "folder.duckdb" if path.is_dir() else path
