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

    What the step makes and does not need at the moment leaves for a lower tier: a file for the
    host's memory, pinned memory of the host for a GPU's. Every number comes out as without, bit by
    bit. The order in which storages are needed is learnt in the first iteration and kept for later
    ones, also of a later ``with``; where an iteration goes another way, storages move on demand.
    Call the step once or often inside.

    Parameters
    ----------
    limit : int or str, bytes
        Such as ``"500MB"``: of the storages that operators make and of those they find (weights,
        optimiser state, inputs). Not of what operators allocate inside themselves.
    directory : path, optional
        Where the file is (it has no name and goes with the process). The default is the system's
        folder for temporary files.
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
        The limit is below the least with which the step runs (known when its first iteration has
        run; the message has it), or the tier is full or does not answer.
    StoreError
        The folder cannot be written.

    Source: AutoSwap (arXiv 1903.06631), section 4; paging by operator below autograd is own.
    """
    report = Report(size_bytes(limit))
    kind = device or ("cuda" if torch.cuda.is_initialized() else "cpu")
    if kind not in ("cpu", "cuda"):
        raise BindError(f"a budget is for 'cpu' or 'cuda', found device={device!r}")

    def opened() -> Tier:
        return tier or (PinnedTier() if kind == "cuda" else FileTier(directory))

    return _within(Running(report, Pager(report, opened), kind))


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
