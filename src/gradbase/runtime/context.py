"""What running a plan needs, and what is counted while it runs."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from gradbase.errors import CancelledError, UnsupportedError
from gradbase.ir.facts import Settings
from gradbase.ir.tensor import UserModule
from gradbase.resources.broker import Broker
from gradbase.resources.calibration import Calibration
from gradbase.resources.history import History
from gradbase.runtime.observed import Observed
from gradbase.store.tiles.pool import Pool

Modules = Callable[[UserModule], Any]
"""Makes the ``torch.nn.Module`` of a `UserModule`, without its state."""


def no_modules(node: UserModule) -> Any:
    """Where no user code may be called."""
    raise UnsupportedError(
        f"the model needs the Python function `{node.reference}`, which cannot be called here"
    )


COUNTERS = (
    "queries", "rows", "bytes", "seconds", "predicted_rows", "predict_seconds", "slow_tiles",
    "pages_read", "pages_hit", "pages_written", "page_bytes",
    "program_cache_hits", "program_cache_misses", "leases", "lease_wait_seconds", "failures",
)  # fmt: skip


class Metrics:
    """Counters of a session, safe to add to from several threads.

    Examples
    --------
    >>> metrics = Metrics()
    >>> metrics.add("rows", 3)
    >>> metrics["rows"]
    3.0
    """

    def __init__(self) -> None:
        self._values: defaultdict[str, float] = defaultdict(float, dict.fromkeys(COUNTERS, 0.0))
        self._lock = threading.Lock()

    def add(self, name: str, value: float = 1.0) -> None:
        """Add `value` to the counter `name`."""
        with self._lock:
            self._values[name] += value

    def __getitem__(self, name: str) -> float:
        with self._lock:
            return self._values.get(name, 0.0)

    def rows(self) -> list[tuple[str, float]]:
        """(name, value) of every counter, by name: the rows of ``gradbase.metrics``."""
        with self._lock:
            return sorted(self._values.items())


@dataclass
class RunContext:
    """One statement's surroundings.

    Parameters
    ----------
    engine : Engine
    blobs
        Where the content of a `Param` comes from (``array(param)``).
    broker : Broker
    calibration : Calibration
    settings : Settings
    parameters : mapping
        Values of ``$name`` in the statement.
    cancelled : threading.Event
        Set from any thread to stop the statement.
    metrics : Metrics
    modules : callable
        Makes users' modules that are stored by reference.
    pool : Pool, optional
        The session's pages of weights; a statement without one makes its own.
    history : History
        Is told how long operators take.
    observed : Observed, optional
        Counts what each operator gives, for EXPLAIN ANALYZE.
    """

    engine: Any
    blobs: Any
    broker: Broker
    calibration: Calibration = field(default_factory=Calibration)
    settings: Settings = field(default_factory=Settings)
    parameters: Mapping[str, Any] = field(default_factory=dict[str, Any])
    cancelled: threading.Event = field(default_factory=threading.Event)
    metrics: Metrics = field(default_factory=Metrics)
    modules: Modules = no_modules
    pool: Pool | None = None
    history: History = field(default_factory=History)
    observed: Observed | None = None

    @property
    def memory_bytes(self) -> int:
        """Bytes that statements may use: what the engine's buffer pool leaves."""
        held = self.broker.held(self.engine.name) if self.engine is not None else 0
        return self.broker.memory_bytes - held

    def check_cancelled(self) -> None:
        """Raise CancelledError once the statement has been cancelled."""
        if self.cancelled.is_set():
            raise CancelledError("the statement was cancelled")
