"""The catalog in numbered manifests: followed, changed by one at a time, never half."""

from __future__ import annotations

import os
import threading

import pytest

pytest.importorskip("pyspark")

from gradbase.engines.spark.catalog import ManifestEngine
from gradbase.engines.spark.manifests import KEPT, KEPT_S
from gradbase.errors import StoreError, UnsupportedError
from gradbase.store import Store


@pytest.fixture
def opened(tmp_path):
    made = []

    def open_one():
        made.append(ManifestEngine(tmp_path / "store"))
        return made[-1]

    yield open_one
    for engine in made:
        engine.close()


def change(engine, value):
    with engine.transaction(writes=True) as handle:
        handle.execute("CREATE SCHEMA IF NOT EXISTS gradbase")
        handle.execute("CREATE TABLE IF NOT EXISTS gradbase.t (n BIGINT)")
        handle.execute("INSERT INTO gradbase.t VALUES (?)", [value])


def change_around(engine, value, meanwhile):
    with engine.transaction(writes=True) as handle:
        handle.execute("INSERT INTO gradbase.t VALUES (?)", [value])
        meanwhile()


def values(engine):
    with engine.transaction() as handle:
        return [n for (n,) in handle.execute("SELECT n FROM gradbase.t ORDER BY n").fetchall()]


def test_changes_are_followed(opened):
    """By sessions that are open, and by later ones."""
    one, two = opened(), opened()
    change(one, 1)
    assert values(two) == [1]
    change(two, 2)
    assert values(one) == values(opened()) == [1, 2]


def test_a_change_that_fails_leaves_nothing(opened):
    """Neither here nor there."""
    one = opened()
    change(one, 1)
    with pytest.raises(ZeroDivisionError):
        change_around(one, 2, lambda: 1 // 0)
    assert values(one) == values(opened()) == [1]


def test_of_two_at_once_one_is_told(opened):
    """The manifest that both began from has one successor."""
    one, two = opened(), opened()
    change(one, 1)
    with pytest.raises(StoreError, match="another session changed"):
        change_around(two, 2, lambda: change(one, 3))
    assert values(two) == [1, 3]
    change(two, 4)
    assert values(one) == [1, 3, 4]


def test_many_changes_at_once_lose_nothing(opened):
    """Eight threads, each with a session of its own: whoever is told tries again."""
    change(opened(), 0)

    def work(engine, start):
        for value in range(start, start + 5):
            while True:
                try:
                    change(engine, value)
                    break
                except StoreError:
                    continue

    threads = [threading.Thread(target=work, args=(opened(), 10 * i)) for i in range(1, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert values(opened()) == [0, *(10 * i + k for i in range(1, 9) for k in range(5))]


def test_old_manifests_go(opened, tmp_path):
    """The newest and those of the last hour stay; a session that was far behind goes on."""
    one, two = opened(), opened()
    change(one, 0)
    assert values(two) == [0]
    folder = tmp_path / "store" / "catalog"
    for value in range(1, 2 * KEPT):
        change(one, value)
    assert len(list(folder.iterdir())) == 2 * KEPT
    for path in folder.iterdir():
        os.utime(path, (path.stat().st_mtime - 2 * KEPT_S,) * 2)
    change(one, 2 * KEPT)
    assert len(list(folder.iterdir())) < 2 * KEPT
    change(two, 99)
    assert values(one) == [*range(2 * KEPT + 1), 99]


def test_damage_is_told(opened, tmp_path):
    """Of a manifest that was cut."""
    change(opened(), 1)
    (path,) = (tmp_path / "store" / "catalog").iterdir()
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(StoreError, match="manifest 1"):
        values(opened())


def test_a_store_over_it(opened):
    """Tables are made by the first write; a second store sees them."""
    engine = opened()
    first, second = Store.open(engine), Store.open(opened())
    assert first.names() == second.names() == ()
    with first.catalog.write() as handle:
        first.catalog.next_id(handle)
    assert second.catalog.format_version() == first.catalog.format_version()
    first.close()
    second.close()


def test_only_folders(tmp_path):
    """``file://`` is one; other URLs are refused by name."""
    ManifestEngine(f"file://{tmp_path}/x").close()
    with pytest.raises(UnsupportedError, match="gs"):
        ManifestEngine("gs://bucket/x")
