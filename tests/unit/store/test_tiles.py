"""Files of tiles and the pool they are read through."""

from __future__ import annotations

import errno
import mmap
import os
import subprocess
import sys
import threading

import numpy as np
import pytest
from blake3 import blake3

from gradbase.errors import DataError, InternalError, ResourceError, StoreError
from gradbase.ir.tensor import Param
from gradbase.resources.broker import Broker
from gradbase.resources.tiling import grid_for
from gradbase.store.tiles.ahead import ahead
from gradbase.store.tiles.file import TileFile
from gradbase.store.tiles.pool import Pool, Traffic
from gradbase.store.tiles.scratch import Scratch
from gradbase.store.tiles.writing import TileWriter

from .samples import record

SHAPES = [(7, 5), (40, 3), (1, 90), (90,), (3, 4, 5), (33, 47), (128, 2), (1,)]


def values(dims, kind="float32"):
    random = np.random.default_rng(3)
    return (random.normal(0, 1, dims) * 100).astype(kind)


def names(folder):
    return [p.name for p in folder.iterdir()]


def written(folder, array, page_bytes=256, step=None):
    flat = array.reshape(-1)
    with TileWriter(folder, array.shape, str(array.dtype), page_bytes) as writer:
        for start in range(0, len(flat), step or len(flat)):
            writer.write(flat[start : start + (step or len(flat))])
        name = writer.finish(folder)
    return TileFile(next(folder.glob(f"{name}.*")))


@pytest.mark.parametrize("dims", SHAPES, ids=str)
@pytest.mark.parametrize("step", [None, 1, 13, 64])
def test_a_tensor_comes_back_whatever_pieces_it_came_in(tmp_path, dims, step):
    array = values(dims)
    found = written(tmp_path, array, step=step)
    assert bytes(found.whole()) == array.tobytes()
    assert found.path.name.startswith(blake3(array.tobytes()).hexdigest())
    assert (found.dims, found.kind) == (array.shape, "float32")
    assert b"".join(s.tobytes() for s in found.strips()) == array.tobytes()
    assert names(tmp_path) == [found.path.name]


@pytest.mark.parametrize(
    ("rows", "cols", "page"), [(131072, 4096, 4 << 20), (100, 131072, 4 << 20), (1, 1, 64)]
)
def test_tiles_fit_a_page_and_cover_the_matrix(rows, cols, page):
    grid = grid_for(rows, cols, 4, page)
    assert grid.tile_rows * grid.tile_cols * 4 <= page
    places = [grid.place(t) for t in range(grid.tiles)]
    assert sum((b - t) * (r - left) for t, b, left, r in places) == rows * cols
    assert grid.tiles * page <= max(2 * grid.size_bytes, page)


def test_a_page_too_small_for_one_element_says_so():
    with pytest.raises(ResourceError, match="holds no element of 8 bytes"):
        grid_for(2, 2, 8, 4)


@pytest.mark.parametrize("where", ["page", "checksums", "end", "cut"])
def test_damage_is_found_and_named(tmp_path, where):
    found = written(tmp_path, values((64, 64)), 1024)
    data = bytearray(found.path.read_bytes())
    place = {"page": 3 * 1024 + 5, "checksums": 16 * 1024 + 3, "end": -3, "cut": None}[where]
    if place is None:
        data = data[:-100]
    else:
        data[place] ^= 1
    found.path.write_bytes(data)
    with pytest.raises(StoreError, match=r"is damaged: .*(page 3|checksums|its end)"):
        TileFile(found.path).verify()


def test_too_few_elements_leave_nothing_behind(tmp_path):
    def short():
        with TileWriter(tmp_path, (4, 4), "float32", 64) as writer:
            writer.write(np.zeros(15, np.float32))
            writer.finish(tmp_path)

    with pytest.raises(StoreError, match="only 15 of 16 elements"):
        short()
    assert names(tmp_path) == []


def test_weights_larger_than_the_disk_are_refused_before_anything_is_written(tmp_path):
    with pytest.raises(StoreError, match=r"need .*TiB|need .*GiB on the disk .* are free"):
        TileWriter(tmp_path, (1 << 24, 1 << 20), "float32", 4 << 20)
    assert names(tmp_path) == []


def test_reading_ahead_keeps_order_and_tells_errors():
    def items():
        yield from (1, 2, 3)
        raise StoreError("torn")

    read = ahead(items())
    assert [next(read) for _ in range(3)] == [1, 2, 3]
    with pytest.raises(StoreError, match="torn"):
        next(read)


# -- blobs -------------------------------------------------------------------------------------


def test_streamed_weights_are_a_blob_like_any_other(store):
    array = values((50, 20))
    made = store.blobs.put_tiles([array.reshape(-1)], array.shape, "float32", 512)
    param = Param(made, array.shape)
    assert store.blobs.exists(made)
    assert np.array_equal(store.blobs.array(param), array)
    assert bytes(store.blobs.get(made)) == array.tobytes()
    assert store.blobs.damage(made) is None
    path = store.blobs.tiles(param, 512).path
    data = bytearray(path.read_bytes())
    data[0] ^= 1
    path.write_bytes(data)
    assert "page 0" in store.blobs.damage(made)


def test_a_blob_in_chunks_is_cut_into_tiles_and_goes_with_them(store):
    array = values((700, 700))  # 1.96 MB: two chunks or more
    made = store.blobs.put(array.tobytes())
    found = store.blobs.tiles(Param(made, array.shape), 64 << 10)
    assert bytes(found.whole()) == array.tobytes()
    again = store.blobs.tiles(Param(made, (1400, 350)), 64 << 10)
    assert bytes(again.whole()) == array.tobytes()
    assert again.path != found.path
    store.close()  # its lease protected them
    store.gc(grace_s=-1)
    assert not store.blobs.exists(made)
    assert list(store.blobs.path.iterdir()) == []


def test_a_read_only_store_cuts_into_a_folder_of_its_own(opened, close):
    store = opened()
    store.commit(record("m"))
    array = values((40, 4))
    made = store.blobs.put(array.tobytes())
    before = sorted(names(store.blobs.path))
    close(store)
    store = opened(read_only=True)
    found = store.blobs.tiles(Param(made, (40, 4)), 64)
    assert bytes(found.whole()) == array.tobytes()
    assert sorted(names(store.blobs.path)) == before


def test_a_killed_import_leaves_no_blob(tmp_path):
    code = (
        "import os, sys, numpy as np; from pathlib import Path\n"
        "from gradbase.store.tiles.writing import TileWriter\n"
        "writer = TileWriter(Path(sys.argv[1]), (64, 64), 'float32', 1024)\n"
        "writer.write(np.ones(64 * 32, np.float32)); os._exit(9)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    (left,) = names(tmp_path)
    assert not left.endswith(".tiles")


# -- weights copied from a file --------------------------------------------------------------


def copied(store, folder, array, page_bytes=8192):
    """The file of tiles of an array that lies 64 bytes behind the start of a file."""
    path = folder / "given.bin"
    path.write_bytes(b"." * 64 + array.tobytes() + b"end")
    made = store.blobs.copy_tiles(path, 64, array.shape, str(array.dtype), page_bytes)
    return path, made and store.blobs.tiles(Param(made, array.shape, str(array.dtype)), page_bytes)


@pytest.mark.parametrize("dims", [(1000, 16), (64, 16), (130, 4, 8), (1000, 1), (700, 17)])
def test_a_tall_weight_is_copied_as_it_lies(store, tmp_path, dims):
    array = values(dims)
    _, found = copied(store, tmp_path, array)
    assert found.grid.across == 1
    assert bytes(found.whole()) == array.tobytes()
    assert store.blobs.damage(found.path.name[:64]) is None
    assert names(store.blobs.folder.halves) == []


def test_other_weights_are_left_to_those_who_cut(store, tmp_path):
    assert copied(store, tmp_path, values((40, 300)))[1] is None
    assert copied(store, tmp_path, values((300, 140)))[1] is None  # few rows in a page


def test_pages_are_read_where_they_came_from_as_long_as_it_is_unchanged(store, tmp_path):
    """What is in memory already is not read from the disk."""
    array = values((1000, 16))
    path, found = copied(store, tmp_path, array)
    read = os.preadv
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            os,
            "preadv",
            lambda handle, into, at, *flags: bool(flags) and read(handle, into, at, *flags),
        )
        assert bytes(found.whole()) == array.tobytes()
    param = Param(found.path.name[:64], array.shape)
    path.write_bytes(path.read_bytes()[:-1] + b".")
    assert bytes(store.blobs.tiles(param, 8192).whole()) == array.tobytes()
    path.unlink()
    assert bytes(store.blobs.tiles(param, 8192).whole()) == array.tobytes()


def test_damage_of_a_copy_is_found_though_its_origin_is_there(store, tmp_path):
    _, found = copied(store, tmp_path, values((1000, 16)))
    data = bytearray(found.path.read_bytes())
    data[8192] ^= 1
    found.path.write_bytes(data)
    with pytest.raises(StoreError, match="page 1 of 8"):
        store.blobs.tiles(Param(found.path.name[:64], (1000, 16)), 8192).verify()


def test_an_origin_with_other_bytes_is_not_used(store, tmp_path):
    """A checksum tells, whatever the file's times say."""
    array = values((1000, 16))
    path, found = copied(store, tmp_path, array)
    with path.open("r+b") as file:
        file.write(bytes(9000))
    assert bytes(found.whole()) == array.tobytes()


def test_a_file_that_shrinks_while_it_is_copied_leaves_nothing(store, tmp_path):
    path = tmp_path / "given.bin"
    path.write_bytes(bytes(5000))
    with pytest.raises(DataError, match="has changed while it was imported"):
        store.blobs.copy_tiles(path, 0, (1000, 16), "float32", 8192)
    assert names(store.blobs.folder.halves) == names(store.blobs.path) == []


def test_where_the_disk_cannot_be_written_directly_the_system_does_it(store, tmp_path, monkeypatch):
    real = os.open

    def refusing(path, flags, *more, **named):
        if flags & os.O_DIRECT:
            raise OSError(errno.EINVAL, "Invalid argument")
        return real(path, flags, *more, **named)

    monkeypatch.setattr(os, "open", refusing)
    array = values((1000, 16))
    assert bytes(copied(store, tmp_path, array)[1].whole()) == array.tobytes()


# -- the pool ----------------------------------------------------------------------------------


@pytest.fixture
def file(tmp_path):
    return written(tmp_path, values((64, 64)), 1024)  # 16 pages


def passed(pool, file, traffic, *, pages=range(16), keep=True):
    for page in pages:
        frame = pool.pin(file, page, traffic)
        assert np.array_equal(file.tile(page, frame.data), page_of(file, page))
        pool.unpin(frame, keep=keep)


def page_of(file, page):
    top, bottom, left, right = file.grid.place(page)
    return values((64, 64))[top:bottom, left:right]


def test_pages_stay_while_memory_is_free_and_make_way_for_others(file):
    broker, traffic = Broker(1, 100 << 10), Traffic()
    pool = Pool(broker)
    passed(pool, file, traffic)
    passed(pool, file, traffic)
    assert (traffic.read, traffic.hit, traffic.read_bytes) == (16, 16, 16 << 10)
    assert pool.held_bytes == broker.held("tiles") == 16 << 10
    with broker.lease("query", "all of it", size_bytes=100 << 10, timeout_s=5):
        assert pool.held_bytes == 0
    passed(pool, file, traffic)
    assert traffic.read == 32
    pool.close()
    assert broker.free() == (1, 100 << 10)


def test_a_pool_without_free_memory_uses_what_was_reserved(file):
    broker, traffic = Broker(1, 2 << 10), Traffic()
    pool = Pool(broker)
    with broker.lease("query", "q", size_bytes=2 << 10), pool.reserve(2 << 10):
        first = pool.pin(file, 0, traffic)
        passed(pool, file, traffic, pages=range(1, 16))
        assert pool.held_bytes <= 2 << 10
        second = pool.pin(file, 1, traffic)
        with pytest.raises(InternalError, match="than were reserved"):
            pool.pin(file, 2, traffic)
        pool.unpin(first)
        pool.unpin(second)
    assert pool.held_bytes == 0


def test_where_the_system_gives_no_more_memory_pages_take_each_others_place(file, monkeypatch):
    pool, traffic, real = Pool(Broker(1, 1 << 20)), Traffic(), mmap.mmap

    def refuse(*given):
        if pool.held_bytes >= 4 << 10:
            raise OSError(errno.ENOMEM, "Cannot allocate memory")
        return real(*given)

    monkeypatch.setattr(mmap, "mmap", refuse)
    passed(pool, file, traffic)
    passed(pool, file, traffic)
    assert pool.held_bytes == 4 << 10
    held = [pool.pin(file, page) for page in range(4)]
    with pytest.raises(ResourceError, match=r"gives no memory for a page of 1.00 KiB"):
        pool.pin(file, len(held))


def test_the_beginning_of_a_file_read_again_and_again_stays(file):
    broker, traffic = Broker(1, 8 << 10), Traffic()
    pool = Pool(broker)
    with broker.lease("query", "q", size_bytes=8 << 10), pool.reserve(8 << 10):
        for _ in range(3):
            passed(pool, file, traffic, pages=range(6))
            passed(pool, file, traffic, pages=range(6, 16), keep=False)
    assert traffic.hit >= 12  # plain LRU: none


def test_a_damaged_page_is_told_to_all_who_wait_and_can_be_read_when_mended(file):
    pool = Pool(Broker(1, 1 << 20))
    good = file.path.read_bytes()
    bad = bytearray(good)
    bad[1024] ^= 1
    file.path.write_bytes(bad)
    pool.prefetch(file, [1])
    for _ in range(2):
        with pytest.raises(StoreError, match="page 1 of 16"):
            pool.pin(file, 1)
    file.path.write_bytes(good)
    passed(pool, file, None, pages=[1])
    pool.close()


def test_threads_share_pages(file):
    pool, traffic, errors = Pool(Broker(4, 8 << 10)), Traffic(), []

    def work():
        try:
            for _ in range(20):
                passed(pool, file, traffic)
        except BaseException as error:
            errors.append(error)

    with pool.reserve(4 << 10):
        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert errors == []
    assert traffic.read + traffic.hit == 4 * 20 * 16


def test_changed_pages_leave_memory_and_come_back(tmp_path):
    pool = Pool(Broker(1, 3 << 10))
    scratch = Scratch(1024, tmp_path)
    with pool.reserve(2 << 10):
        pages = [scratch.take() for _ in range(9)]
        for page in pages:
            frame = pool.new(scratch, page)
            frame.data[:] = bytes([page]) * 1024
            pool.unpin(frame)
        for page in pages:
            frame = pool.pin(scratch, page)
            assert bytes(frame.data) == bytes([page]) * 1024
            pool.unpin(frame)
        assert scratch.written >= 6
        pool.forget(scratch, pages)
    scratch.close()
    assert names(tmp_path) == []
