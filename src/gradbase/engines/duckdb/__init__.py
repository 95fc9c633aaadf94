"""DuckDB, embedded: the engine that is always there."""

from gradbase.engines.duckdb.engine import DuckDBEngine

__all__ = ["DuckDBEngine"]
