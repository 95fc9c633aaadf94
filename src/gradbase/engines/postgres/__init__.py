"""PostgreSQL 14 and later, unmodified, through psycopg."""

from gradbase.engines.postgres.engine import PostgresEngine

__all__ = ["PostgresEngine"]
