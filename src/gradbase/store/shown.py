"""The catalog as the engine of the rows sees it, where another engine holds it."""

from __future__ import annotations

import hashlib

from gradbase.engines.base import Engine
from gradbase.store.catalog import Catalog
from gradbase.store.tables import columns, types


class Shown:
    """Queries over a catalog, for the engine that has the user's rows.

    Parameters
    ----------
    catalog : Catalog
    engine : Engine
        Of the rows. Where it holds the catalog too, queries are as they are; else their rows of now
        become a view of it.
    """

    def __init__(self, catalog: Catalog, engine: Engine) -> None:
        self._catalog, self._engine = catalog, engine
        self._here = engine is catalog.engine

    def query(self, sql: str) -> str:
        """SQL that the engine of the rows answers as the catalog answers `sql`."""
        return sql if self._here else f"SELECT * FROM {self._view(sql)}"

    def table(self, name: str) -> str:
        """What stands for ``gradbase.<name>`` in a statement."""
        if self._here:
            return f"{self._catalog.schema}.{name}"
        if self._catalog.ready():
            return self._view(f"SELECT * FROM {self._catalog.schema}.{name}")
        pairs = zip(columns(name), types(name), strict=True)
        return self._view(
            f"SELECT {', '.join(f'CAST(NULL AS {t}) AS {n}' for n, t in pairs)} WHERE false"
        )

    def _view(self, sql: str) -> str:
        name = f"__gradbase_catalog_{hashlib.blake2b(sql.encode(), digest_size=8).hexdigest()}"
        self._engine.register(name, self._catalog.engine.fetch(sql))
        return name
