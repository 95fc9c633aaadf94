"""One object hands out threads and bytes; nothing over-commits."""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
from collections.abc import Generator
from dataclasses import dataclass

from gradbase.errors import ResourceError


@dataclass(frozen=True)
class Lease:
    """Threads and bytes granted to `owner` for `purpose` since `since` (``time.time()``)."""

    id: int
    owner: str
    purpose: str
    threads: int
    size_bytes: int
    since: float


class Broker:
    """Grants leases out of a fixed number of threads and bytes, first come first served.

    A request for threads alone does not wait behind one that lacks bytes.

    Parameters
    ----------
    threads : int
    memory_bytes : int, bytes
    """

    def __init__(self, threads: int, memory_bytes: int) -> None:
        self.threads, self.memory_bytes = threads, memory_bytes
        self._granted: dict[int, Lease] = {}
        self._queue: dict[int, int] = {}
        """Who waits, by ticket, and for how many bytes."""
        self._ids = itertools.count(1)
        self._changed = threading.Condition()

    @contextlib.contextmanager
    def lease(
        self,
        owner: str,
        purpose: str,
        *,
        threads: int = 0,
        size_bytes: int = 0,
        timeout_s: float | None = None,
    ) -> Generator[Lease]:
        """Wait for the grant, give it back on exit.

        Raises
        ------
        ResourceError
            More is asked for than the broker will ever have, or `timeout_s` seconds have passed.
        """
        granted = self.acquire(
            owner, purpose, threads=threads, size_bytes=size_bytes, timeout_s=timeout_s
        )
        try:
            yield granted
        finally:
            self.release(granted)

    def acquire(
        self,
        owner: str,
        purpose: str,
        *,
        threads: int = 0,
        size_bytes: int = 0,
        timeout_s: float | None = None,
    ) -> Lease:
        """As `lease`, for a caller that calls `release` itself."""
        with self._changed:
            self._refuse_impossible(purpose, threads, size_bytes)
            ticket = next(self._ids)
            if self._queue or not self._fits(threads, size_bytes):  # else nobody is to be told
                self._queue[ticket] = size_bytes
                try:
                    self._wait(ticket, threads, size_bytes, timeout_s, purpose)
                finally:
                    del self._queue[ticket]
                    self._changed.notify_all()
            granted = Lease(ticket, owner, purpose, threads, size_bytes, time.time())
            self._granted[ticket] = granted
            return granted

    def release(self, lease: Lease) -> None:
        """Give back; a lease already given back is ignored."""
        with self._changed:
            self._granted.pop(lease.id, None)
            self._changed.notify_all()

    def leases(self) -> list[Lease]:
        """What is granted now, oldest first."""
        with self._changed:
            return sorted(self._granted.values(), key=lambda lease: lease.id)

    def held(self, owner: str) -> int:
        """Bytes granted to `owner` now."""
        with self._changed:
            return sum(g.size_bytes for g in self._granted.values() if g.owner == owner)

    def free(self) -> tuple[int, int]:
        """(threads, bytes) not granted now."""
        with self._changed:
            return self._free()

    def resize(self, threads: int, memory_bytes: int) -> None:
        """Change the totals; leases above a lowered total run out on their own."""
        with self._changed:
            self.threads, self.memory_bytes = threads, memory_bytes
            self._changed.notify_all()

    def _free(self) -> tuple[int, int]:
        granted = self._granted.values()
        return (
            self.threads - sum(g.threads for g in granted),
            self.memory_bytes - sum(g.size_bytes for g in granted),
        )

    def _fits(self, threads: int, size_bytes: int) -> bool:
        free_threads, free_bytes = self._free()
        return threads <= free_threads and size_bytes <= free_bytes

    def _refuse_impossible(self, purpose: str, threads: int, size_bytes: int) -> None:
        if threads > self.threads:
            raise ResourceError(
                f"{purpose} asked for {threads} threads, {self.threads} may be used",
                hint="SET gradbase.threads to a larger number",
            )
        if size_bytes > self.memory_bytes:
            raise ResourceError(
                f"{purpose} asked for {size_bytes:,} bytes, {self.memory_bytes:,} may be used",
                hint="SET gradbase.memory_limit to a larger size",
            )

    def _wait(
        self, ticket: int, threads: int, size_bytes: int, timeout_s: float | None, purpose: str
    ) -> None:
        def ready() -> bool:
            if not self._fits(threads, size_bytes):
                return False
            free_bytes = self._free()[1]
            # In order of arrival, so that a large request is not starved by small ones. Only who
            # asks for no bytes may pass those that lack bytes: it may be what they wait for.
            return all(t >= ticket or (size_bytes == 0 and wanted > free_bytes)
                       for t, wanted in self._queue.items())  # fmt: skip

        if not self._changed.wait_for(ready, timeout_s):
            free_threads, free_bytes = self._free()
            raise ResourceError(
                f"{purpose} waited {timeout_s:g} s for {threads} threads and {size_bytes:,} "
                f"bytes; {free_threads} threads and {free_bytes:,} bytes are free",
                hint="wait for running statements (gradbase.leases has them) or raise the limit",
            )
