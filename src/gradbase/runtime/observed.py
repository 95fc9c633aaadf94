"""What the operators of one statement really did, for EXPLAIN ANALYZE."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass

import pyarrow as pa

from gradbase.ir.node import Node
from gradbase.runtime.streams import Stream


@dataclass
class Actual:
    """What one operator gave.

    Parameters
    ----------
    rows, size_bytes, batches : int
        Of its result.
    seconds : float, seconds
        Spent waiting for it, without what those below it took in the same thread.
    computed_s : float, seconds
        Spent on its network, summed over threads.
    in_engine : bool
        Whether its rows came from the engine, with all that stands below it.
    """

    rows: int = 0
    size_bytes: int = 0
    batches: int = 0
    seconds: float = 0.0
    computed_s: float = 0.0
    in_engine: bool = False


class Observed:
    """Counts the rows of each operator whose rows come past. Thread-safe.

    Attributes
    ----------
    actual : dict of Node to Actual
        Operators that an engine runs inside a query are not in it: the query's topmost one is.
    """

    def __init__(self) -> None:
        self.actual: dict[Node, Actual] = {}
        self._lock = threading.Lock()
        self._open = threading.local()

    def of(self, node: Node) -> Actual:
        """What is known of an operator, to be added to."""
        with self._lock:
            return self.actual.setdefault(node, Actual())

    def computed(self, node: Node, seconds: float) -> None:
        """A thread has spent so long on the network of `node`."""
        found = self.of(node)
        with self._lock:
            found.computed_s += seconds

    def stream(self, node: Node, opened: Callable[[], Stream], *, in_engine: bool) -> Stream:
        """The rows of `node`, counted as they pass; an engine may do all its work when `opened`."""
        found = self.of(node)
        found.in_engine = in_engine
        with self._timed(found):
            rows = opened()
        return dataclasses.replace(rows, batches=self._passing(found, iter(rows.batches)))

    def _passing(
        self, found: Actual, batches: Iterator[pa.RecordBatch]
    ) -> Generator[pa.RecordBatch]:
        while True:
            with self._timed(found):
                batch = next(batches, None)
            if batch is None:
                return
            found.rows += batch.num_rows
            found.size_bytes += batch.nbytes
            found.batches += 1
            yield batch

    def _timed(self, found: Actual) -> _Turn:
        return _Turn(found, self._open)


class _Turn:
    """The time until a batch is there; turns below it in the same thread are taken off."""

    def __init__(self, found: Actual, turns: threading.local) -> None:
        self._found, self._turns = found, turns

    def __enter__(self) -> None:
        self._above: _Turn | None = getattr(self._turns, "last", None)
        self._turns.last, self.below = self, 0.0
        self._start = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        taken = time.perf_counter() - self._start
        self._found.seconds += taken - self.below
        self._turns.last = self._above
        if self._above is not None:
            self._above.below += taken
