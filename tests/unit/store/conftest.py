"""Stores to test, each on a DuckDB file of its own."""

from __future__ import annotations

import pytest

from gradbase.engines import connect
from gradbase.store import Store


@pytest.fixture
def database(tmp_path):
    """Path of a database that is not there yet."""
    return tmp_path / "shop.duckdb"


@pytest.fixture
def opened(database):
    """Opens stores on the database (or another); all are closed at the end."""
    made = []

    def open_store(path=database, *, read_only=False):
        engine = connect(path or ":memory:", read_only=read_only)
        store = Store.open(engine)
        made.append((store, engine))
        return store

    yield open_store
    for store, engine in made:
        store.close()
        engine.close()


@pytest.fixture
def store(opened):
    """A store on a new database file."""
    return opened()


@pytest.fixture
def close():
    """Closes a store and its engine, so that the file can be opened again."""

    def close_store(store):
        store.close()
        store.engine.close()

    return close_store
