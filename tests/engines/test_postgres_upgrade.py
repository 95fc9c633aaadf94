"""Catalogs of every released format are upgraded in PostgreSQL too."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest

import gradbase as gb
from gradbase.errors import StoreError
from gradbase.store import tables, upgrade
from gradbase.testing.servers import postgres_url

FIXTURES = Path(__file__).parents[1] / "fixtures"


def released(version):
    """A database with the models of a released format: what DuckDB wrote, as PostgreSQL's rows."""
    url = postgres_url()
    text = (FIXTURES / f"store_v{version}.sql").read_text()
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(text.replace(" DOUBLE", " DOUBLE PRECISION").encode())
        connection.execute(
            "CREATE TABLE gradbase.pieces (name VARCHAR, part INTEGER, data BYTEA, "
            "put DOUBLE PRECISION, PRIMARY KEY (name, part))"
        )
        for file in (FIXTURES / f"store_v{version}").iterdir():
            row = (file.name, file.read_bytes())
            connection.execute("INSERT INTO gradbase.pieces VALUES (%s, 0, %s, 0)", row)
    return url


@pytest.mark.parametrize("version", range(1, tables.FORMAT + 1))
def test_a_released_format_can_be_used(version):
    """Its models are found, sound, written to and dropped."""
    with gb.connect(released(version), progress=False) as db:
        assert db.sql("SELECT count(*) FROM gradbase.models").fetchall() == [(1,)]
        assert db.store.names() == ("churn",)
        model = db.store.model("churn")
        assert (model.version, model.trial) == (2, 1)
        assert all(len(db.store.blobs.array(p)) for p in model.outputs[0].params)
        assert db.store.catalog.format_version() == tables.FORMAT
        assert db.fsck().ok
        db.sql("DROP MODEL churn")
        assert db.sql("SHOW MODELS").arrow().num_rows == 0


def test_a_failing_upgrade_changes_nothing(monkeypatch):
    """The old format is still there, whole; a reader does not upgrade."""
    url = released(3)
    with monkeypatch.context() as patched:
        patched.setitem(upgrade.STEPS, 3, (*upgrade.STEPS[3], "SELECT nonsense"))
        with (
            gb.connect(url, progress=False) as db,
            pytest.raises(StoreError, match="writing the catalog failed"),
        ):
            db.store.names()
    with gb.connect(url, progress=False, read_only=True) as db:
        assert db.store.catalog.format_version() == 3
        with pytest.raises(StoreError, match="must be upgraded"):
            db.store.names()
