"""DuckDB, embedded: the engine that is always there."""

from gradbase.engines.duckdb.engine import DuckDBEngine

__all__ = ["DuckDBEngine", "readiness"]


def readiness() -> str:
    """Its version, and what it can attach without a download."""
    import duckdb

    with duckdb.connect() as connection:
        rows = connection.execute(
            "SELECT extension_name FROM duckdb_extensions() WHERE installed AND extension_name IN "
            "('httpfs', 'mysql_scanner', 'postgres_scanner', 'sqlite_scanner') ORDER BY 1"
        ).fetchall()
    extensions = ", ".join(name for (name,) in rows) or "none that reach other systems"
    return f"usable: duckdb {duckdb.__version__}; extensions: {extensions}"
