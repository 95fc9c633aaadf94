"""PostgreSQL 14 and later, unmodified, through psycopg."""

from gradbase.engines.postgres.engine import PostgresEngine

__all__ = ["PostgresEngine", "readiness"]


def readiness() -> str:
    """The driver, and the client library under it."""
    import psycopg

    version = psycopg.pq.version()
    library = f"libpq {version // 10000}.{version % 10000}"
    return f"usable: psycopg {psycopg.__version__} ({psycopg.pq.__impl__}), {library}"
