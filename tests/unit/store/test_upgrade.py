"""Stores of every released format can be used; newer ones are refused with a reason."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from gradbase.engines import connect
from gradbase.errors import BindError, StoreError
from gradbase.store import tables, upgrade

from .samples import record, trial

FIXTURES = Path(__file__).parents[2] / "fixtures"


@pytest.fixture
def released(database, opened):
    """Opens the fixture of a released format."""

    def open_fixture(version, *, read_only=False):
        engine = connect(database)
        engine.run((FIXTURES / f"store_v{version}.sql").read_text())
        engine.close()
        blobs = database.with_name(database.name + ".gradbase") / "blobs"
        shutil.copytree(FIXTURES / f"store_v{version}", blobs)
        return opened(read_only=read_only)

    return open_fixture


@pytest.mark.parametrize("version", range(1, tables.FORMAT + 1))
def test_a_released_format_can_be_used(released, version):
    """Programs, arrays (also in chunks), metrics and lineage; written to and dropped."""
    store = released(version)
    expected = trial(1, seed=5)
    model = store.model("churn")
    assert model is expected.model.replace(name="churn", version=2, trial=1)
    for param in model.outputs[0].params:
        assert store.blobs.array(param).tobytes() == expected.params[param.hash].tobytes()
    assert store.model("churn", version=1).trial == 2
    with pytest.raises(BindError, match="not finite"):
        store.model("churn", version=1, trial=3)
    assert store.record("churn", 1).trials[1].test_metrics == {"accuracy": 0.5}
    assert store.lineage("churn").relation_hash == "ab" * 32
    assert store.engine.fetch(store.info("TRIAL_INFO", "churn", 1)).num_rows == 3
    assert store.fsck().findings == []
    assert len(store.record("churn").features) == (0 if version == 1 else 2)
    store.versions.set_alias("churn", "champion", 1)
    assert store.model("churn", "champion").version == 1
    assert store.commit(record(), or_replace=True) == 3
    assert store.catalog.format_version() == tables.FORMAT
    store.drop("churn")
    assert list(store.blobs.path.iterdir()) == []


def test_every_older_format_has_a_step():
    """A new format without one would lock people out."""
    assert set(upgrade.STEPS) == set(range(1, tables.FORMAT))


@pytest.fixture
def next_format(monkeypatch):
    """As if a format after the current one were released now, with a column more."""
    current = tables.FORMAT
    steps = {**upgrade.STEPS, current: ["ALTER TABLE {g}.models ADD COLUMN owner VARCHAR"]}
    columns = {**tables.TABLES, "models": (*tables.TABLES["models"], "owner VARCHAR")}

    def release():
        monkeypatch.setattr(tables, "FORMAT", current + 1)
        monkeypatch.setattr(upgrade, "STEPS", steps)
        for name, value in columns.items():
            monkeypatch.setitem(tables.TABLES, name, value)

    return release


def test_an_older_format_is_upgraded_at_its_first_use(store, next_format):
    """In one transaction; the models stay."""
    store.commit(record())
    next_format()
    store.engine.fetch("SELECT 1")
    assert store.model("churn").version == 1
    assert store.engine.fetch("SELECT owner FROM gradbase.models").num_rows == 1
    assert store.catalog.format_version() == tables.FORMAT


def test_a_failing_upgrade_changes_nothing(store, next_format, monkeypatch):
    """The old format is still there, whole."""
    store.commit(record())
    next_format()
    good = upgrade.STEPS[tables.FORMAT - 1]
    monkeypatch.setitem(upgrade.STEPS, tables.FORMAT - 1, [*good, "SELECT nonsense"])
    with pytest.raises(StoreError, match="writing the catalog failed"):
        store.names()
    assert store.catalog.format_version() == tables.FORMAT - 1
    assert "owner" not in store.engine.fetch("SELECT * FROM gradbase.models").column_names


def test_an_older_format_is_not_upgraded_read_only(store, opened, close, next_format):
    """The hint says how to."""
    store.commit(record())
    close(store)
    next_format()
    reader = opened(read_only=True)
    with pytest.raises(StoreError, match="must be upgraded") as caught:
        reader.model("churn")
    assert "read_only=True" in caught.value.hint


def test_a_newer_format_is_refused(store):
    """Reading, writing and checking say the same."""
    store.commit(record())
    with store.catalog.write() as handle:
        handle.execute("UPDATE gradbase.format SET version = 99")
    for use in (
        store.names,
        lambda: store.model("churn"),
        lambda: store.commit(record("b")),
        lambda: store.drop("churn"),
        lambda: store.start_run("b", {}),
    ):
        with pytest.raises(StoreError, match="format is 99, this one reads up to") as caught:
            use()
        assert "upgrade gradbase" in caught.value.hint
    assert not store.fsck().ok
    assert not list(store.path.glob("runs/*"))
