"""The file tier: bytes come back as they went; full, slow and broken disks are said."""

from __future__ import annotations

import errno
import os
import tempfile
import threading
import time
from pathlib import Path

import pytest
import torch
from torch import nn

import gradbase as gb
from gradbase.errors import ResourceError, StoreError
from gradbase.runtime.memory import tiers
from gradbase.runtime.memory.tiers import FileTier, Slab

memory = gb.memory


def full_disk(*_):
    raise OSError(errno.ENOSPC, "No space left on device")


def training_step():
    torch.manual_seed(0)
    network = nn.Sequential(*[m for _ in range(6) for m in (nn.Linear(64, 64), nn.Tanh())])
    x = torch.randn(256, 64)

    def step():
        network.zero_grad()
        network(x).square().sum().backward()

    return network, step


def test_bytes_come_back(tmp_path):
    tier = FileTier(tmp_path)
    tensors = [torch.randn(n) for n in (1, 1000, 100_003)]
    storages = [t.untyped_storage() for t in tensors]
    expected = [t.clone() for t in tensors]
    copies = [tier.out(s) for s in storages]
    for copy, storage in zip(copies, storages, strict=True):
        copy.transfer.wait()
        size = storage.nbytes()
        storage.resize_(0)
        storage.resize_(size)
        tier.back(copy, storage).wait()
        tier.forget(copy)
    assert all(torch.equal(a, b) for a, b in zip(tensors, expected, strict=True))
    tier.close()
    tier.close()  # twice is no harm
    assert list(tmp_path.iterdir()) == []


def test_a_slab_reuses_ranges_and_starts_anew_when_empty():
    slab = Slab()
    first, second = slab.take(5000), slab.take(5000)
    assert (first, second) == ((0, True), (8192, True))
    slab.give(0, 5000)
    assert slab.take(4097) == (0, False)  # as many pages
    assert slab.take(100) == (16384, True)
    slab.give(0, 4097)
    slab.give(8192, 5000)
    slab.give(16384, 100)
    assert slab.take(100) == (0, True)


@pytest.mark.parametrize("call", ["posix_fallocate", "pwrite"])
def test_a_full_disk_loses_nothing(tmp_path, monkeypatch, call):
    """The error has the sizes and the folder; gradients are those of a plain step afterwards."""
    network, step = training_step()
    step()
    expected = [p.grad for p in network.parameters()]
    kept = []

    def limited():
        kept.append(torch.arange(1000.0) * 2)
        step()

    monkeypatch.setattr(os, call, full_disk)
    with (
        pytest.raises(ResourceError, match="No space left on device") as caught,
        memory.budget("300KB", tmp_path),
    ):
        limited()
    assert str(tmp_path) in str(caught.value)
    assert "free there" in str(caught.value)
    monkeypatch.undo()
    assert torch.equal(kept[0], torch.arange(1000.0) * 2)
    step()
    assert all(torch.equal(p.grad, e) for p, e in zip(network.parameters(), expected, strict=True))
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_fills_up_on_the_way(tmp_path, monkeypatch):
    """What is in the tier already comes back."""
    allocate, calls = os.posix_fallocate, []

    def fills(*args):
        calls.append(args)
        if len(calls) > 3:
            full_disk()
        allocate(*args)

    monkeypatch.setattr(os, "posix_fallocate", fills)
    kept = []
    with pytest.raises(ResourceError, match="No space"), memory.budget("100KB", tmp_path):
        kept.extend(torch.full((9_000,), float(i)) for i in range(10))
    assert all((k == i).all() for i, k in enumerate(kept))


def test_a_disk_that_does_not_answer(tmp_path, monkeypatch):
    """A transfer has a time limit; the error says which it was."""
    release = threading.Event()
    write = os.pwrite

    def hangs(*args):
        release.wait(20)
        return write(*args)

    monkeypatch.setattr(os, "pwrite", hangs)
    tier = FileTier(tmp_path, timeout_s=0.05)
    threading.Timer(0.3, release.set).start()
    with (
        pytest.raises(ResourceError, match=r"too slow: writing .* after 0.05 s"),
        memory.budget("300KB", tier=tier),
    ):
        training_step()[1]()


def test_a_slow_disk_shows_in_the_stalls(tmp_path, monkeypatch):
    write = os.pwrite

    def slow(*args):
        time.sleep(0.002)
        return write(*args)

    monkeypatch.setattr(os, "pwrite", slow)
    with memory.budget("300KB", tmp_path) as report:
        training_step()[1]()
    assert report.stall_s >= 0.002


def test_a_read_that_fails_is_said(tmp_path, monkeypatch):
    def broken(*_):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "preadv", broken)
    with pytest.raises(ResourceError, match="failed reading"), memory.budget("300KB", tmp_path):
        training_step()[1]()


def test_a_folder_that_cannot_be_written(tmp_path):
    with (
        pytest.raises(StoreError, match="cannot be opened"),
        memory.budget("300KB", tmp_path / "missing"),
    ):
        training_step()[1]()


def test_default_folder_is_not_in_memory(monkeypatch, tmp_path):
    assert tiers.default_directory() == Path(tempfile.gettempdir()) or tiers.in_memory(
        Path(tempfile.gettempdir())
    )
    assert tiers.in_memory(Path("/dev/shm")) == Path("/dev/shm").exists()
    monkeypatch.setattr(tiers, "in_memory", lambda folder: folder == Path(tempfile.gettempdir()))
    assert tiers.default_directory() != Path(tempfile.gettempdir())
