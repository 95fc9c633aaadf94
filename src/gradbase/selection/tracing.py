"""Keeps the tracing of one network away from the training of others.

While ``torch.export`` traces, the whole process counts as compiling: ``torch.optim`` then computes
Adam's bias correction in float32 instead of float64, in every thread. So modules train under
`training`, any number at once, and are traced under `tracing`, alone.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Generator

from gradbase.runtime.train.own_draws import generator_lock

_changed = threading.Condition()
_counts = {"training": 0, "waiting": 0, "tracing": 0}


@contextlib.contextmanager
def training() -> Generator[None]:
    """Steps of a user's module; waits while a network is traced or about to be."""
    with _changed:
        _changed.wait_for(lambda: not (_counts["tracing"] or _counts["waiting"]))
        _counts["training"] += 1
    try:
        yield
    finally:
        with _changed:
            _counts["training"] -= 1
            _changed.notify_all()


@contextlib.contextmanager
def tracing() -> Generator[None]:
    """Tracing; waits for the steps under way. Tracing also saves and restores the generator."""
    with _changed:
        _counts["waiting"] += 1
        try:
            _changed.wait_for(lambda: not (_counts["tracing"] or _counts["training"]))
        finally:
            _counts["waiting"] -= 1
        _counts["tracing"] = 1
    try:
        with generator_lock:
            yield
    finally:
        with _changed:
            _counts["tracing"] = 0
            _changed.notify_all()
