"""`budget`: a training step, unchanged, within a limit of tensor storage."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Generator
from contextlib import AbstractContextManager

import torch

from gradbase.errors import BindError
from gradbase.resources.sizes import size_bytes
from gradbase.runtime.memory.exports import watching
from gradbase.runtime.memory.pager import Pager
from gradbase.runtime.memory.pinned import PinnedTier
from gradbase.runtime.memory.report import Report
from gradbase.runtime.memory.running import Running
from gradbase.runtime.memory.tiers import FileTier, Tier

__all__ = ["budget"]

_ACTIVE = threading.local()


def budget(
    limit: int | str,
    directory: str | os.PathLike[str] | None = None,
    tier: Tier | None = None,
    *,
    device: str | None = None,
) -> AbstractContextManager[Report]:
    """Run a training step, as it is, within `limit` bytes of tensor storage.

    What is not needed at the moment leaves for a lower tier: a file for the host's memory, pinned
    memory of the host for a GPU's. Every number comes out as without, bit by bit. The order in
    which storages are needed is learnt in the first iteration and kept for later ones, also of a
    later ``with``; an iteration that goes another way moves them on demand.

    Parameters
    ----------
    limit : int or str, bytes
        Such as ``"500MB"``: of what operators make and what they find (weights, inputs), not of
        what they allocate inside themselves.
    directory : path, optional
        Where the file is. The default is the system's folder for temporary files.
    tier : Tier, optional
        Instead of the file or pinned memory.
    device : 'cpu' or 'cuda', optional
        Whose memory is limited. The default is 'cuda' where CUDA is in use.

    Returns
    -------
    context manager giving the Report

    Raises
    ------
    ResourceError
        At the end of the first iteration: the limit is below the least with which the step runs
        (the message has it). Or the tier is full or does not answer.
    StoreError
        The folder cannot be written.

    Source: AutoSwap (arXiv 1903.06631), section 4; paging by operator below autograd is own.
    """
    return _within(_running(size_bytes(limit), device, directory, tier))


def _running(
    limit: int, device: str | None, directory: str | os.PathLike[str] | None, tier: Tier | None
) -> Running:
    kind = device or ("cuda" if torch.cuda.is_initialized() else "cpu")
    if kind not in ("cpu", "cuda"):
        raise BindError(f"a budget is for 'cpu' or 'cuda', found device={device!r}")

    def opened() -> Tier:
        return tier or (PinnedTier() if kind == "cuda" else FileTier(directory))

    report = Report(limit)
    return Running(report, Pager(report, opened), kind)


@contextlib.contextmanager
def _within(running: Running) -> Generator[Report]:
    if getattr(_ACTIVE, "now", False):
        raise BindError("a budget is already active in this thread; budgets do not nest")
    _ACTIVE.now = True
    try:
        with watching(running.reached), running:
            yield running.report
        running.finish()
    finally:
        _ACTIVE.now = False
        running.close()
