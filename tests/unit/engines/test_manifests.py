"""The catalog in numbered manifests: followed, changed by one at a time, never half."""

from __future__ import annotations

import contextlib
import os
import sys
import threading

import pytest

pytest.importorskip("pyspark")

from gradbase.engines.objects import Objects
from gradbase.engines.spark.catalog import ManifestEngine
from gradbase.engines.spark.manifests import KEPT, KEPT_S, local_folder
from gradbase.errors import BindError, StoreError, UnsupportedError
from gradbase.store import Store


@pytest.fixture
def in_folder(tmp_path):
    yield from opener(tmp_path / "store")


@pytest.fixture(params=["folder", "memory"])
def opened(request, tmp_path):
    url = f"memory://{tmp_path}/store"
    yield from opener(url if request.param == "memory" else tmp_path / "store")


def opener(store):
    made = []

    def open_one():
        made.append(ManifestEngine(store))
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


def test_old_manifests_go(in_folder, tmp_path):
    """The newest and those of the last hour stay; a session that was far behind goes on."""
    one, two = in_folder(), in_folder()
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


def test_old_objects_go(tmp_path, monkeypatch):
    """As files do."""
    monkeypatch.setattr("gradbase.engines.spark.manifests.KEPT_S", -1.0)
    url = f"memory://{tmp_path}/store"
    with contextlib.closing(ManifestEngine(url)) as engine:
        for value in range(KEPT + 3):
            change(engine, value)
        assert sorted(Objects(url).names("catalog")) == [
            f"{n:012d}.manifest" for n in range(4, KEPT + 4)
        ]


def test_damage_is_told(in_folder, tmp_path):
    """Of a manifest that was cut."""
    change(in_folder(), 1)
    (path,) = (tmp_path / "store" / "catalog").iterdir()
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(StoreError, match="manifest 1"):
        values(in_folder())


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


def test_models_as_objects(tmp_path):
    """Blobs are put, read, verified, swept; another store of the URL reads them too."""
    url = f"memory://{tmp_path}/store"
    with contextlib.closing(ManifestEngine(url)) as engine:
        store, other = Store.open(engine), Store.open(engine)
        small, large = b"some weights", bytes(range(256)) * 20_000
        hashes = store.blobs.put_many([small, large])
        assert [bytes(other.blobs.get(h)) for h in hashes] == [small, large]
        assert store.blobs.put(small) == hashes[0]
        objects = Objects(url)
        objects.put(f"blobs/{hashes[0]}", b"other weight")
        with pytest.raises(StoreError, match=rf"{hashes[0]} in memory://.* is damaged"):
            other.blobs.get(hashes[0])
        objects.delete([f"blobs/{hashes[0]}", "blobs/never there"])
        with pytest.raises(StoreError, match="missing in memory://"):
            other.blobs.get(hashes[0])
        store.close()
        other.close()


def test_which_stores_there_are(tmp_path, monkeypatch):
    """A folder by its path or ``file://``, object stores; others are refused by name."""
    ManifestEngine(f"file://{tmp_path}/my%20store").close()
    assert local_folder("FILE://localhost/a%20b").as_posix() == "/a b"
    with pytest.raises(BindError, match="names the machine `data`") as caught:
        local_folder("file://data/models")
    assert "file:///data/models" in caught.value.hint
    with pytest.raises(UnsupportedError, match="`ftp://` is not offered") as caught:
        ManifestEngine("ftp://host/x")
    assert "mount it" in caught.value.hint
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    with pytest.raises(UnsupportedError, match="needs the package gcsfs") as caught:
        ManifestEngine("gs://bucket/x")
    assert "pip install gcsfs" in caught.value.hint


def test_a_store_that_cannot_be_reached_says_so(tmp_path, monkeypatch):
    """Whatever the driver raises."""
    objects = Objects(f"memory://{tmp_path}/store")

    def fail(*_args, **_more):
        raise TimeoutError("no answer")

    monkeypatch.setattr(type(objects._fs), "cat_file", fail)
    with pytest.raises(StoreError, match="cannot be reached: TimeoutError: no answer"):
        objects.read("x")
