"""Rows for workers, and how many workers there may be."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import pytest

from gradbase.errors import StoreError
from gradbase.resources.broker import Broker
from gradbase.selection.executors import remote_executor
from gradbase.selection.executors.messages import pack
from gradbase.selection.executors.remote_executor import RemoteExecutor, Surroundings


@pytest.fixture
def at(tmp_path):
    context = SimpleNamespace(
        broker=Broker(threads=4, memory_bytes=1 << 30), engine=SimpleNamespace(name="duckdb")
    )
    watch = SimpleNamespace(check=lambda: None, written=lambda *_: None)
    search = SimpleNamespace(name="m", fits=(), trials=(), executor="processes", access="direct")
    return lambda asked=0: Surroundings(search, context, watch, tmp_path, asked=asked)


def started(_hello, _check):
    return SimpleNamespace(close=lambda: None), pack({"ok": True})


def test_rows_that_could_not_be_written_are_written_anew(at, monkeypatch):
    """A first attempt leaves nothing behind, so that the second says what is wrong now."""
    full = [True]

    def write_shards(_data, folder, *, rows):
        folder.mkdir(parents=True)
        if full.pop():
            full.append(False)
            raise StoreError("the disk is full")
        return 5

    monkeypatch.setattr(remote_executor, "write_shards", write_shards)
    executor = RemoteExecutor(at(), started, workers=1, threads=1)
    data = SimpleNamespace(shards=[0])
    with pytest.raises(StoreError, match="the disk is full"):
        executor._shards("rows", data)
    assert executor._shards("rows", data).folder.exists()
    executor.close()


@pytest.mark.parametrize(("asked", "expected"), [(0, 4), (2, 2)])
def test_it_grows_to_what_was_asked_for_or_to_the_threads(at, asked, expected):
    executor = RemoteExecutor(at(asked), started, workers=2, threads=1)
    executor._starting.join()
    executor.grow(100)
    assert executor.workers == expected == len(executor.pool.workers)
    executor.close()


def test_a_search_that_ends_first_waits_for_no_worker(at):
    """Those that are starting are told to give up."""
    begun = threading.Event()

    def slow(_hello, check):
        begun.set()
        while True:
            check()

    executor = RemoteExecutor(at(), slow, workers=2, threads=1)
    begun.wait(10)
    executor.close()
    assert not executor.pool.workers
