"""One object hands out threads and bytes; nothing over-commits."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import threading
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass

from gradbase.errors import ResourceError

_PATIENCE_S = 0.1
"""How long a request waits before it asks again for what is held in reserve."""

GiveBack = Callable[[int], None]
"""Asked for so many bytes, a holder `shrink`s its lease by as many as it can do without."""


@dataclass
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

    A request for threads alone does not wait behind those that wait for bytes. What is held in
    reserve only (`lend`: weights of idle models, pages that may be needed again) makes way for any
    request.

    Parameters
    ----------
    threads : int
    memory_bytes : int, bytes
    """

    def __init__(self, threads: int, memory_bytes: int) -> None:
        self.threads, self.memory_bytes = threads, memory_bytes
        self._granted: dict[int, Lease] = {}
        self._queue: dict[int, tuple[int, int]] = {}
        """Who waits, by ticket, and for how many threads and bytes."""
        self._lent: dict[int, GiveBack] = {}
        """Who holds bytes in reserve, by lease; the first are asked first."""
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
        least_threads: int | None = None,
        timeout_s: float | None = None,
    ) -> Lease:
        """As `lease`, for a caller that calls `release` itself.

        With `least_threads` the lease has as many threads as are free, up to `threads`: waiting
        until all are free at once would leave some idle meanwhile.
        """
        least = threads if least_threads is None else min(least_threads, threads)
        with self._changed:
            self._refuse_impossible(purpose, least, size_bytes)
            asked = Lease(next(self._ids), owner, purpose, threads, size_bytes, 0.0)
            if not self._queue and self._fits(least, size_bytes):  # nobody is to be told
                return self._grant(asked)
            self._queue[asked.id] = (least, size_bytes)
        try:
            return self._wait(asked, least, timeout_s)
        finally:
            with self._changed:
                del self._queue[asked.id]
                self._changed.notify_all()

    def lend(self, owner: str, purpose: str, give_back: GiveBack, *, first: bool = False) -> Lease:
        """A lease without bytes, to `grow` with what nobody else needs.

        Whenever a request lacks bytes, `give_back` is called with how many, from the thread that
        asks and without locks of the broker; those lent to as `first` are asked before others.
        """
        with self._changed:
            ticket = next(self._ids)
            self._lent = (
                {ticket: give_back, **self._lent} if first else {**self._lent, ticket: give_back}
            )
            return self._grant(Lease(ticket, owner, purpose, 0, 0, 0.0))

    def grow(self, lease: Lease, size_bytes: int) -> bool:
        """Add bytes to a lease if they are free and nobody waits for any; whether it was done."""
        with self._changed:
            waiting = any(wanted for _, wanted in self._queue.values())
            if waiting or size_bytes > self._free()[1] or lease.id not in self._granted:
                return False
            lease.size_bytes += size_bytes
            return True

    def shrink(self, lease: Lease, size_bytes: int) -> None:
        """Take bytes from a lease."""
        with self._changed:
            lease.size_bytes -= min(size_bytes, lease.size_bytes)
            self._changed.notify_all()

    def release(self, lease: Lease) -> None:
        """Give back; a lease already given back is ignored."""
        with self._changed:
            self._granted.pop(lease.id, None)
            self._lent.pop(lease.id, None)
            self._changed.notify_all()

    def leases(self) -> list[Lease]:
        """What is granted now, oldest first; without what is held in reserve."""
        return [lease for lease in self._all() if lease.id not in self._lent]

    def reserves(self) -> list[Lease]:
        """What is held in reserve now and makes way for any request."""
        return [g for g in self._all() if g.id in self._lent and g.size_bytes]

    def _all(self) -> list[Lease]:
        with self._changed:
            found = sorted(self._granted.values(), key=lambda lease: lease.id)
            return [dataclasses.replace(lease) for lease in found]

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

    def _grant(self, asked: Lease) -> Lease:
        """What is asked for, with the threads that are free of those."""
        asked.threads = min(asked.threads, max(self._free()[0], 0))
        asked.since = time.time()
        self._granted[asked.id] = asked
        return asked

    def _wait(self, asked: Lease, least: int, timeout_s: float | None) -> Lease:
        end = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            self._reclaim(asked.size_bytes)
            left = None if end is None else end - time.monotonic()
            patience = _PATIENCE_S if left is None else min(left, _PATIENCE_S)
            with self._changed:
                if self._changed.wait_for(lambda: self._is_next(asked, least), patience):
                    return self._grant(asked)
                free_threads, free_bytes = self._free()
            if left is not None and left <= _PATIENCE_S:
                raise ResourceError(
                    f"{asked.purpose} waited {timeout_s:g} s for {least} threads and "
                    f"{asked.size_bytes:,} bytes; {free_threads} threads and {free_bytes:,} "
                    "bytes are free",
                    hint="wait for running statements (gradbase.leases has them) or raise the "
                    "limit",
                )

    def _is_next(self, asked: Lease, least: int) -> bool:
        if not self._fits(least, asked.size_bytes):
            return False
        # In order of arrival, so that a large request is not starved by small ones. Only who asks
        # for other things may pass, and who asks for no bytes those that lack bytes or wait behind
        # such: it may be what they wait for.
        lacking, free_bytes = False, self._free()[1]
        for ticket, (threads, size_bytes) in self._queue.items():
            if ticket >= asked.id:
                break
            lacking = lacking or size_bytes > free_bytes
            both = (threads and asked.threads) or (size_bytes and asked.size_bytes)
            if both and not (lacking and size_bytes and not asked.size_bytes):
                return False
        return True

    def _reclaim(self, size_bytes: int) -> None:
        """Have bytes given back that are held in reserve, until `size_bytes` are free."""
        with self._changed:
            lent = list(self._lent.values())
        for give_back in lent:
            lacking = size_bytes - self.free()[1]
            if lacking <= 0:
                return
            give_back(lacking)
