"""fsck finds what is wrong, says where, and mends what can be mended."""

from __future__ import annotations

import os
import shutil

import pytest

from gradbase.errors import BindError, StoreError
from gradbase.store import fsck, gc
from gradbase.store.runs import process

from .samples import record


@pytest.fixture
def filled(store):
    store.commit(record())
    return store


def params(store, trial):
    return [p.hash for p in store.model("churn", trial=trial).outputs[0].params]


def test_a_good_store_is_in_order(filled):
    """The report says what was checked."""
    report = filled.fsck()
    assert report.ok
    assert report.findings == []
    assert "4 blobs verified" in str(report)
    assert report.lines[-1] == "everything is in order"


def test_a_database_without_models_is_in_order(store):
    """And stays without a catalog."""
    assert store.fsck().ok
    assert "no catalog" in str(store.fsck())
    assert store.catalog.format_version() is None


@pytest.mark.parametrize("how", ["missing", "damaged", "truncated"])
def test_a_broken_blob_is_found(filled, how):
    """Repair takes the trial out of use; the others go on."""
    path = filled.blobs.path / params(filled, 1)[0]
    if how == "missing":
        path.unlink()
    else:
        data = path.read_bytes()
        path.write_bytes(data[:-4] if how == "truncated" else b"\xff" + data[1:])
    report = filled.fsck()
    assert not report.ok
    assert f"model churn@1, trial 1: blob {path.name}" in str(report)
    assert filled.fsck(repair=True).ok
    assert filled.fsck().findings == []
    assert filled.model("churn").trial == 2
    with pytest.raises(BindError, match=fsck.DAMAGED):
        filled.model("churn", trial=1)


def test_a_missing_folder_is_reported_and_not_repaired(filled):
    """It can still be copied to its place; every model works then."""
    shutil.move(filled.path, filled.path.with_suffix(".away"))
    report = filled.fsck(repair=True)
    assert not report.ok
    assert "is missing, and the catalog names 4 blobs" in str(report)
    shutil.move(filled.path.with_suffix(".away"), filled.path)
    assert filled.fsck().findings == []


def test_leavings_of_a_crash_are_removed(filled):
    """Half-written files, blobs without a name, torn journals, interrupted runs."""
    (filled.path / "tmp" / "1-0").write_bytes(b"half")
    (filled.blobs.path / ("0" * 64)).write_bytes(b"nameless")
    journal = filled.start_run("other", {})
    with journal.path.open("ab") as file:
        file.write(b'{"torn')
    with filled.catalog.write() as handle:
        handle.execute("UPDATE gradbase.runs SET process = 'dead'")
    report = filled.fsck()
    assert report.ok
    assert [f.harmless for f in report.findings] == [True] * 4
    assert all(f.repaired for f in filled.fsck(repair=True).findings)
    assert filled.fsck().findings == []
    statuses = filled.engine.fetch("SELECT status FROM gradbase.runs").column(0).to_pylist()
    assert statuses == ["INTERRUPTED"]
    assert process() != "dead"


def test_a_damaged_journal_is_found(filled):
    """Not by its end: that is harmless."""
    journal = filled.start_run("other", {})
    journal.path.write_bytes(b"damaged\n" + journal.path.read_bytes())
    report = filled.fsck()
    assert not report.ok
    assert "line 1" in str(report)


DAMAGES = {
    "UPDATE gradbase.trials SET program = 'nonsense' WHERE trial = 1": "cannot be read",
    "DELETE FROM gradbase.blobs WHERE trial = 1": "that gradbase.blobs does not",
    "DELETE FROM gradbase.models": "belong to no model",
    "INSERT INTO gradbase.blobs VALUES (99, 1, '../../x')": "belong to no model",
    "INSERT INTO gradbase.views VALUES ('k', '', '', repeat('0', 64), 1, NULL)": "gradbase.views names blob",
}


@pytest.mark.parametrize("sql", DAMAGES)
def test_a_damaged_catalog_is_found_and_mended(filled, sql):
    """Whatever was done to its rows."""
    with filled.catalog.write() as handle:
        handle.execute(sql)
    report = filled.fsck()
    assert DAMAGES[sql] in str(report)
    assert not report.ok
    assert filled.fsck(repair=True).ok
    assert filled.fsck().ok


def test_a_lost_best_trial_is_found(filled):
    """It cannot be mended: no other trial is the best."""
    with filled.catalog.write() as handle:
        handle.execute("UPDATE gradbase.versions SET best_trial = 9")
    assert "model churn@1 has no row for its best trial" in str(filled.fsck(repair=True))
    assert not filled.fsck().ok


def test_a_damaged_format_is_found(filled):
    """Nothing can be read then."""
    with filled.catalog.write() as handle:
        handle.execute("DELETE FROM gradbase.format")
    assert not filled.fsck().ok
    with pytest.raises(StoreError, match=r"gradbase\.format has 0 rows"):
        filled.names()


def age(path, seconds):
    past = path.stat().st_mtime - seconds
    os.utime(path, (past, past))


def made_long_ago(store):
    with store.catalog.write() as handle:
        handle.execute("UPDATE gradbase.format SET created = '2020-01-01'")


def test_nameless_blobs_stay_for_an_hour(filled, opened, database):
    """Those a live creator has put stay longer."""
    made_long_ago(filled)
    lost, held = filled.blobs.path / ("0" * 64), opened(database)
    lost.write_bytes(b"crashed")
    kept = held.blobs.path / held.blobs.put(b"held")
    assert filled.gc() == gc.Swept()
    age(lost, 3601)
    age(kept, 3601)
    assert filled.gc() == gc.Swept(1, 7)
    assert kept.exists()
    held.close()
    assert filled.gc() == gc.Swept(1, 4)
    assert filled.fsck().findings == []


def test_blobs_older_than_the_catalog_stay(filled):
    """They may belong to a database that was moved away."""
    lost = filled.blobs.path / ("0" * 64)
    lost.write_bytes(b"of another database")
    age(lost, 7200)
    assert filled.gc() == gc.Swept()


def test_the_first_commit_sweeps(filled, opened, database):
    """So that crashes do not add up."""
    made_long_ago(filled)
    lost = filled.blobs.path / ("0" * 64)
    lost.write_bytes(b"crashed")
    age(lost, 3601)
    opened(database).commit(record("b"))
    assert not lost.exists()
