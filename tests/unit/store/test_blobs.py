"""Blobs: named by content, shared where they are alike, verified when read."""

from __future__ import annotations

import errno
import os

import numpy as np
import pytest
from blake3 import blake3

from gradbase.errors import StoreError
from gradbase.ir.tensor import Param
from gradbase.store import Store, bytes_of
from gradbase.store.chunks import CHUNKED_ABOVE, LARGEST, SMALLEST, cut

from .samples import record


def noise(size, seed=0):
    return np.random.default_rng(seed).bytes(size)


@pytest.mark.parametrize("size", [0, 1, 1000, CHUNKED_ABOVE, CHUNKED_ABOVE + 1, 5_000_000])
def test_what_is_put_is_what_one_gets(store, size):
    """Of any size; the name is the BLAKE3 of the bytes."""
    data = noise(size)
    name = store.blobs.put(data)
    assert name == blake3(data).hexdigest()
    assert store.blobs.get(name) == data


def test_putting_twice_stores_once(store):
    """The second time nothing is written."""
    store.blobs.put(noise(3_000_000))
    before = {p.name: p.stat().st_ino for p in store.blobs.path.iterdir()}
    store.blobs.put(noise(3_000_000))
    assert {p.name: p.stat().st_ino for p in store.blobs.path.iterdir()} == before


def test_a_small_edit_shares_most_files(store):
    """Bytes inserted in the middle change the chunks beside them and the list only."""
    data = noise(20_000_000)
    store.blobs.put(data)
    before = set(store.blobs.path.iterdir())
    edited = data[:9_000_001] + b"inserted" + data[9_000_001:]
    assert store.blobs.get(store.blobs.put(edited)) == edited
    assert len(set(store.blobs.path.iterdir()) - before) <= 4
    assert len(before) > 10


# Functions: pytest would write the bytes themselves into the names of the tests.
@pytest.mark.parametrize(
    "made", [lambda: noise(20_000_000), lambda: bytes(10_000_000), lambda: b"ab" * 4_000_000]
)
def test_chunks_have_bounded_sizes(made):
    """Also where the content allows no cut (all zeros), and they cover the blob."""
    data = made()
    chunks = cut(memoryview(data))
    assert b"".join(chunks) == data
    assert all(len(c) <= LARGEST for c in chunks)
    assert all(len(c) >= SMALLEST for c in chunks[:-1])


@pytest.mark.parametrize("dtype", ["float32", "float64", "int64", "int32", "bool"])
@pytest.mark.parametrize("shape", [(), (3,), (2, 5), (0, 4)])
def test_arrays_come_back_bit_for_bit(store, dtype, shape):
    """As an own, writable copy of the parameter's shape and type."""
    array = np.asarray(np.random.default_rng(1).standard_normal(shape) * 9).astype(dtype)
    name = store.blobs.put(bytes_of(array))
    found = store.blobs.array(Param(name, shape, dtype))
    assert found.dtype == array.dtype
    assert found.shape == shape
    assert found.tobytes() == array.tobytes()
    assert found.flags.writeable or found.size == 0


def test_bytes_of_an_array_are_little_endian_c_order():
    """Whatever its own layout."""
    array = np.arange(6, dtype=">f4").reshape(2, 3)
    assert bytes(bytes_of(array.T)) == array.T.astype("<f4").tobytes(order="C")


def test_an_array_of_another_size_is_refused(store):
    """The message has both sizes."""
    name = store.blobs.put(noise(12))
    with pytest.raises(StoreError, match=r"has 12 bytes; float32\[4\] needs 16"):
        store.blobs.array(Param(name, (4,)))


def damage(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("size", [1000, 4_000_000])
def test_a_flipped_bit_is_found(store, size):
    """In a plain blob and in a chunk."""
    name = store.blobs.put(noise(size))
    damage(max(store.blobs.path.iterdir(), key=lambda p: p.stat().st_size))
    with pytest.raises(StoreError, match=f"blob {name} .* is damaged") as caught:
        store.blobs.get(name)
    assert "gradbase fsck" in caught.value.hint


@pytest.mark.parametrize("text", ["", "nonsense", "gradbase chunks 1\n../../etc/passwd 3\n"])
def test_a_damaged_list_of_chunks_is_found(store, text):
    """And no path outside of the folder is ever followed."""
    name = store.blobs.put(noise(4_000_000))
    (store.blobs.path / f"{name}.chunks").write_text(text)
    with pytest.raises(StoreError, match="damaged"):
        store.blobs.get(name)


def test_putting_again_heals_a_damaged_blob(store):
    """What is there counts only where its bytes are right."""
    name = store.blobs.put(noise(1000))
    damage(store.blobs.path / name)
    store.blobs.put(noise(1000))
    assert store.blobs.get(name) == noise(1000)


def test_a_damaged_blob_names_its_model(store):
    """So that one knows what to train again."""
    made = record()
    store.commit(made)
    name = next(iter(made.trials[1].params))
    damage(store.blobs.path / name)
    with pytest.raises(StoreError, match=r"used by model `churn@1` trial 2"):
        store.blobs.get(name)


@pytest.mark.parametrize("name", ["", "../x", "A" * 64, "a" * 63, "a" * 64 + "\n"])
def test_only_hashes_are_names(store, name):
    """A name becomes part of a path."""
    with pytest.raises(StoreError, match="no BLAKE3 hash"):
        store.blobs.get(name)


def test_a_missing_blob_says_what_to_do(store):
    """The folder is there, the file is not."""
    store.blobs.put(b"x")
    with pytest.raises(StoreError, match="is missing in"):
        store.blobs.get("0" * 64)


def test_a_database_without_its_folder_says_so(store, opened, close, database, tmp_path):
    """Copying the file alone is not enough."""
    store.commit(record())
    close(store)
    copy = tmp_path / "copy.duckdb"
    copy.write_bytes(database.read_bytes())
    copied = opened(copy)
    param = copied.model("churn").outputs[0].params[0]
    with pytest.raises(StoreError, match="copied without it") as caught:
        copied.blobs.array(param)
    assert "copy.duckdb.gradbase" in caught.value.hint


def test_a_full_disk_leaves_nothing_behind(store, monkeypatch):
    """Neither blob nor half of one."""

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    store.blobs.put(b"before")
    files = set(store.path.rglob("*"))
    monkeypatch.setattr(os, "write", full)
    with pytest.raises(StoreError, match="disk is full") as caught:
        store.blobs.put(noise(3_000_000))
    assert "nothing has changed" in caught.value.hint
    monkeypatch.undo()
    assert set(store.path.rglob("*")) == files


def test_a_folder_that_cannot_be_written_says_so(store, monkeypatch):
    """The way out is in the hint."""

    def forbidden(*_):
        raise OSError(errno.EROFS, "Read-only file system")

    store.blobs.put(b"before")
    monkeypatch.setattr(os, "write", forbidden)
    with pytest.raises(StoreError, match="no permission") as caught:
        store.blobs.put(b"data")
    assert "read_only=True" in caught.value.hint


def test_a_read_only_store_takes_no_blobs(opened, store, close):
    """But reads those that are there."""
    name = store.blobs.put(b"data")
    store.commit(record())
    close(store)
    reader = opened(read_only=True)
    assert reader.blobs.get(name) == b"data"
    with pytest.raises(StoreError, match="read-only"):
        reader.blobs.put(b"data")


def test_a_temporary_store_is_removed(opened):
    """`:memory:` leaves no files."""
    store = opened(None)
    store.blobs.put(b"data")
    path = store.path
    assert path.is_dir()
    store.close()
    store.close()
    assert not path.exists()


def test_opening_makes_no_folder(store):
    """Nor does reading."""
    assert isinstance(store, Store)
    assert store.names() == ()
    assert not store.path.exists()
