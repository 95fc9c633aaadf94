"""``gradbase:///shop.duckdb`` for SQLAlchemy, and for what builds on it (pandas, JupySQL, …).

Tables are described by ``information_schema``, which the engine keeps. SQL is SQLAlchemy's own
common dialect; what it cannot say (predictions, CREATE MODEL) goes through ``sqlalchemy.text``.
"""

# ruff: noqa: ARG002 (the signatures are SQLAlchemy's)

from __future__ import annotations

import collections.abc
from typing import Any, cast

from sqlalchemy import Connection, Sequence, exc, pool, text, types
from sqlalchemy.engine import URL, reflection
from sqlalchemy.engine.default import DefaultDialect, DefaultExecutionContext
from sqlalchemy.sql.compiler import SQLCompiler

from gradbase import dbapi

_TYPES: dict[str, type[types.TypeEngine[Any]]] = {
    "BOOLEAN": types.Boolean,
    "TINYINT": types.SmallInteger,
    "SMALLINT": types.SmallInteger,
    "UTINYINT": types.SmallInteger,
    "INTEGER": types.Integer,
    "USMALLINT": types.Integer,
    "BIGINT": types.BigInteger,
    "UINTEGER": types.BigInteger,
    "UBIGINT": types.BigInteger,
    "HUGEINT": types.BigInteger,
    "FLOAT": types.Float,
    "DOUBLE": types.Double,
    "VARCHAR": types.String,
    "BLOB": types.LargeBinary,
    "DATE": types.Date,
    "TIME": types.Time,
    "TIMESTAMP": types.DateTime,
    "TIMESTAMP_NS": types.DateTime,
    "TIMESTAMP WITH TIME ZONE": types.DateTime,
    "INTERVAL": types.Interval,
}
Rows = collections.abc.Sequence[Any]
_LEVELS = ("AUTOCOMMIT", "SNAPSHOT")


class GradbaseCompiler(SQLCompiler):
    """The common dialect, and numbers of sequences."""

    def visit_sequence(self, sequence: Sequence, **kw: Any) -> str:
        """The next number."""
        name = self.preparer.format_sequence(sequence)
        return f"nextval({self.render_literal_value(name, types.String())})"


class GradbaseExecution(DefaultExecutionContext):
    """Takes numbers of sequences before an INSERT."""

    def fire_sequence(self, seq: Sequence, type_: Any) -> Any:
        """The next number."""
        compiler = cast("GradbaseCompiler", self.dialect.statement_compiler(self.dialect, None))
        return self._execute_scalar(f"SELECT {compiler.visit_sequence(seq)}", type_)


class GradbaseDialect(DefaultDialect):
    """SQLAlchemy's dialect ``gradbase``.

    A file is opened by each connection of the pool; a database in memory has one that all share.
    """

    name = "gradbase"
    driver = "dbapi"
    default_paramstyle = "qmark"
    statement_compiler = GradbaseCompiler
    execution_ctx_cls = GradbaseExecution
    supports_statement_cache = True
    supports_native_boolean = True
    supports_native_decimal = True
    supports_multivalues_insert = True
    supports_default_values = True
    supports_sequences = True
    sequences_optional = True
    supports_comments = False
    supports_sane_multi_rowcount = False
    postfetch_lastrowid = False
    max_identifier_length = 255

    @classmethod
    def import_dbapi(cls) -> Any:
        """The module that conforms to PEP 249."""
        return dbapi

    @classmethod
    def get_pool_class(cls, url: URL) -> type[pool.Pool]:
        """One connection to a database in memory, several to a file."""
        in_memory = url.database in (None, "", ":memory:")
        return pool.StaticPool if in_memory else pool.QueuePool

    def create_connect_args(self, url: URL) -> tuple[list[Any], dict[str, Any]]:
        """``gradbase:///file?read_only=true&threads=2`` as arguments of `dbapi.connect`."""
        given = dict(url.query)
        options: dict[str, Any] = {"progress": given.pop("progress", "false") == "true"}
        options["read_only"] = given.pop("read_only", "false") == "true"
        for name in ("threads", "memory_limit_bytes"):
            if name in given:
                options[name] = int(str(given.pop(name)))
        if given or url.host or url.username:
            unknown = ", ".join(given) or "a host or user"
            raise exc.ArgumentError(
                f"{unknown} means nothing here: gradbase:///file?read_only=true&threads=2"
                "&memory_limit_bytes=1000000000&progress=true"
            )
        return [url.database or ":memory:"], options

    # -- transactions ------------------------------------------------------------------------------

    def get_isolation_level_values(self, dbapi_conn: Any) -> Rows:
        """What ``execution_options(isolation_level=…)`` knows."""
        return _LEVELS

    def set_isolation_level(self, dbapi_connection: Any, level: Any) -> None:
        """AUTOCOMMIT, or transactions that see the database as it was when they began."""
        dbapi_connection.autocommit = level == "AUTOCOMMIT"

    def get_isolation_level(self, dbapi_connection: Any) -> Any:
        """The level that holds."""
        return _LEVELS[0] if dbapi_connection.autocommit else _LEVELS[1]

    def get_default_isolation_level(self, dbapi_conn: Any) -> Any:
        """Transactions."""
        return _LEVELS[1]

    def is_disconnect(self, e: Any, connection: Any, cursor: Any) -> bool:
        """Whether an error means that the connection is gone."""
        return "the session is closed" in str(e)

    # -- what tables there are ---------------------------------------------------------------------

    @reflection.cache
    def get_schema_names(self, connection: Connection, **kw: Any) -> list[str]:
        """Names of the schemas of this database."""
        query = (
            "SELECT DISTINCT schema_name FROM information_schema.schemata "
            "WHERE catalog_name = current_database() ORDER BY 1"
        )
        return [row[0] for row in connection.execute(text(query))]

    @reflection.cache
    def get_table_names(
        self, connection: Connection, schema: str | None = None, **kw: Any
    ) -> list[str]:
        """Names of tables."""
        return self._relations(connection, schema, "BASE TABLE")

    @reflection.cache
    def get_view_names(
        self, connection: Connection, schema: str | None = None, **kw: Any
    ) -> list[str]:
        """Names of views."""
        return self._relations(connection, schema, "VIEW")

    @reflection.cache
    def get_view_definition(
        self, connection: Connection, view_name: str, schema: str | None = None, **kw: Any
    ) -> str:
        """The SQL of a view."""
        query = "SELECT sql FROM duckdb_views() WHERE schema_name = :schema AND view_name = :name"
        return self._required(connection, query, view_name, schema)[0][0]

    def has_table(
        self, connection: Connection, table_name: str, schema: str | None = None, **kw: Any
    ) -> bool:
        """Whether there is a table or view of that name."""
        return bool(self._columns(connection, table_name, schema))

    def has_sequence(
        self, connection: Connection, sequence_name: str, schema: str | None = None, **kw: Any
    ) -> bool:
        """Whether there is a sequence of that name."""
        query = (
            "SELECT 1 FROM duckdb_sequences() WHERE schema_name = :schema "
            "AND sequence_name = :name AND database_name = current_database()"
        )
        return bool(self._rows(connection, query, sequence_name, schema))

    @reflection.cache
    def get_columns(
        self, connection: Connection, table_name: str, schema: str | None = None, **kw: Any
    ) -> list[Any]:
        """Name, type, nullability and default of each column."""
        rows = self._columns(connection, table_name, schema)
        if not rows:
            raise exc.NoSuchTableError(table_name)
        return [
            {
                "name": name,
                "type": sql_type(of, precision, scale),
                "nullable": nullable == "YES",
                "default": default,
            }
            for name, of, nullable, default, precision, scale in rows
        ]

    @reflection.cache
    def get_pk_constraint(
        self, connection: Connection, table_name: str, schema: str | None = None, **kw: Any
    ) -> Any:
        """Columns of the primary key."""
        query = (
            "SELECT constraint_column_names, constraint_name FROM duckdb_constraints() "
            "WHERE constraint_type = 'PRIMARY KEY' AND schema_name = :schema AND table_name = :name"
        )
        found = self._rows(connection, query, table_name, schema)
        names, name = found[0] if found else ([], None)
        return {"constrained_columns": list(names), "name": name}

    @reflection.cache
    def get_foreign_keys(
        self, connection: Connection, table_name: str, schema: str | None = None, **kw: Any
    ) -> list[Any]:
        """Columns that refer to another table of the same schema."""
        query = (
            "SELECT constraint_name, constraint_column_names, referenced_table, "
            "referenced_column_names FROM duckdb_constraints() WHERE constraint_type = "
            "'FOREIGN KEY' AND schema_name = :schema AND table_name = :name"
        )
        return [
            {
                "name": name,
                "constrained_columns": list(columns),
                "referred_schema": schema,
                "referred_table": table,
                "referred_columns": list(referred),
            }
            for name, columns, table, referred in self._rows(connection, query, table_name, schema)
        ]

    def get_indexes(
        self, connection: Connection, table_name: str, schema: str | None = None, **kw: Any
    ) -> list[Any]:
        """Nothing: the planner needs no hint, and a copy of a table no index."""
        return []

    def _get_default_schema_name(self, connection: Connection) -> str:
        return str(connection.scalar(text("SELECT current_schema()")))

    # -- inside ------------------------------------------------------------------------------------

    def _relations(self, connection: Connection, schema: str | None, kind: str) -> list[str]:
        query = (
            "SELECT table_name FROM information_schema.tables WHERE table_schema = :schema "
            f"AND table_type = '{kind}' AND table_catalog = current_database() ORDER BY 1"
        )
        return [row[0] for row in self._rows(connection, query, "", schema)]

    def _columns(self, connection: Connection, name: str, schema: str | None) -> Rows:
        query = (
            "SELECT column_name, data_type, is_nullable, column_default, numeric_precision, "
            "numeric_scale FROM information_schema.columns WHERE table_schema = :schema "
            "AND table_name = :name AND table_catalog = current_database() "
            "ORDER BY ordinal_position"
        )
        return self._rows(connection, query, name, schema)

    def _required(self, connection: Connection, query: str, name: str, schema: str | None) -> Rows:
        found = self._rows(connection, query, name, schema)
        if not found:
            raise exc.NoSuchTableError(name)
        return found

    def _rows(self, connection: Connection, query: str, name: str, schema: str | None) -> Rows:
        values = {"schema": schema or self.default_schema_name, "name": name}
        used = {k: v for k, v in values.items() if f":{k}" in query}
        return connection.execute(text(query), used).fetchall()


def sql_type(of: str, precision: int | None, scale: int | None) -> Any:
    """SQLAlchemy's type for the engine's name of one; what it has none for is NullType."""
    if of.startswith("DECIMAL"):
        return types.Numeric(precision, scale)
    if of.startswith("ENUM"):
        return types.String()
    if of == "UUID":
        return types.Uuid(as_uuid=False)
    if of == "JSON":
        return types.JSON()
    if of == "TIMESTAMP WITH TIME ZONE":
        return types.DateTime(timezone=True)
    return _TYPES.get(of, types.NullType)()
