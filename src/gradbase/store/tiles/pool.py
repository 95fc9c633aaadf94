"""Pages of files in memory: pinned while they are used, evicted when others need the place."""

from __future__ import annotations

import contextlib
import mmap
import resource
import threading
from collections import OrderedDict
from collections.abc import Generator, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from gradbase.errors import InternalError, ResourceError
from gradbase.resources.broker import Broker
from gradbase.resources.sizes import readable

_SPARE_SPACE_BYTES = 128 << 20
"""Address space that is left to others where it is limited (``ulimit -v``)."""


class Pages(Protocol):
    """Where pages come from and, changed ones, go to."""

    @property
    def key(self) -> Hashable:
        """A name that no other source has."""
        ...

    @property
    def page_bytes(self) -> int: ...

    def read(self, page: int, into: memoryview) -> int:
        """Fill the start of `into`; returns how many bytes."""
        ...


class Writable(Pages, Protocol):
    """Pages that can be changed."""

    def write(self, page: int, data: memoryview) -> None:
        """Keep the content of a page."""
        ...


@dataclass
class Traffic:
    """What went through a pool for one statement.

    Parameters
    ----------
    read, hit, written : int
        Pages read from a file, found in memory, and written as they were in the way.
    read_bytes : int
    """

    read: int = 0
    hit: int = 0
    written: int = 0
    read_bytes: int = 0


@dataclass(eq=False)
class Frame:
    """A page in memory. `data` may be used between `Pool.pin` and `Pool.unpin`."""

    source: Pages
    page: int
    data: memoryview
    pins: int = 1
    changed: bool = False
    ready: threading.Event = field(default_factory=threading.Event)
    error: BaseException | None = None

    @property
    def key(self) -> tuple[Hashable, int]:
        return self.source.key, self.page


class Pool:
    """Frames of all statements of a session.

    A statement reserves what it pins at once, out of a lease of its own (`reserve`). What is free
    beyond is used for pages that may be needed again, under a lease that anyone else's request
    takes back. Least recently used pages leave first; pages unpinned with ``keep=False`` give their
    memory to the next page at once: of a file that is read from end to end again and again and does
    not fit, the beginning stays.

    Parameters
    ----------
    broker : Broker
    """

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._lock = threading.RLock()
        self._frames: OrderedDict[tuple[Hashable, int], Frame] = OrderedDict()
        self._firm = self._used = 0
        self._spare: list[mmap.mmap] = []
        self._passed: set[Hashable] = set()
        self._wanted: set[tuple[Hashable, int]] = set()
        """Pages that are to be read in the background."""
        self._lease = broker.lend("tiles", "buffer pool", self.give_back)
        self._reader: ThreadPoolExecutor | None = None

    @contextlib.contextmanager
    def reserve(self, size_bytes: int) -> Generator[None]:
        """Let the caller pin as many bytes at once; they belong to a lease that it holds."""
        with self._lock:
            self._firm += size_bytes
        try:
            yield
        finally:
            with self._lock:
                self._firm -= size_bytes
                self._shrink(self._allowed)

    def pin(self, source: Pages, page: int, traffic: Traffic | None = None) -> Frame:
        """A page, read if it is not here; waits where another thread is reading it.

        Raises
        ------
        StoreError
            The page is damaged or cannot be read.
        """
        with self._lock:
            self._wanted.discard((source.key, page))
            frame = self._frames.get((source.key, page))
            if found := frame is not None:
                frame.pins += 1
                self._frames.move_to_end(frame.key)
            else:
                frame = self._framed(source, page)
            if traffic is not None:
                traffic.hit += found
                traffic.read += not found
        if not found:
            self._load(frame, traffic)
        frame.ready.wait()
        if frame.error is not None:
            raise frame.error
        return frame

    def new(self, source: Writable, page: int) -> Frame:
        """A page that is written for the first time; its content is arbitrary."""
        with self._lock:
            assert (source.key, page) not in self._frames
            frame = self._framed(source, page)
        frame.changed = True
        frame.ready.set()
        return frame

    def unpin(self, frame: Frame, *, keep: bool = True) -> None:
        """Give a page back; it stays in memory as long as there is place."""
        with self._lock:
            frame.pins -= 1
            if not keep and not frame.pins:
                self._drop(frame)

    def again(self, source: Pages) -> bool:
        """Whether a source has been passed through before (`passed`), so that it may come again.

        Memory that a process has not had yet costs more than a page read from a file that the
        system has in memory; so a first pass leaves nothing behind.
        """
        with self._lock:
            return source.key in self._passed

    def passed(self, source: Pages) -> None:
        """Remember that all pages were read."""
        with self._lock:
            self._passed.add(source.key)

    def prefetch(self, source: Pages, pages: Sequence[int], traffic: Traffic | None = None) -> None:
        """Read pages in the background; the caller has reserved place for them."""
        with self._lock:
            missing = [p for p in pages if (source.key, p) not in self._frames]
            self._wanted.update((source.key, p) for p in missing)
            if missing and self._reader is None:
                self._reader = ThreadPoolExecutor(1, "gradbase-pages")
        for page in missing:
            assert self._reader is not None
            self._reader.submit(self._fetch, source, page, traffic)

    def forget(self, source: Pages, pages: Sequence[int]) -> None:
        """Drop pages of a source whose content is not needed any more; none may be pinned."""
        with self._lock:
            for page in pages:
                frame = self._frames.get((source.key, page))
                if frame is not None:
                    self._drop(frame)

    def give_back(self, size_bytes: int) -> None:
        """Free memory that only holds what may be needed again, up to `size_bytes`."""
        with self._lock:
            size = min(size_bytes, self._lease.size_bytes)
            self._shrink(self._allowed - size)
            self._broker.shrink(self._lease, size)

    def close(self) -> None:
        """Drop all pages and the lease."""
        if self._reader is not None:
            self._reader.shutdown()
        with self._lock:
            self._frames.clear()
            self._spare.clear()
            self._used = 0
        self._broker.release(self._lease)

    @property
    def held_bytes(self) -> int:
        """Memory of all frames."""
        with self._lock:
            return self._used

    # -- inside ------------------------------------------------------------------------------------

    @property
    def _allowed(self) -> int:
        return self._firm + self._lease.size_bytes

    def _fetch(self, source: Pages, page: int, traffic: Traffic | None) -> None:
        with self._lock:  # who needs it may have come first, and be done with it
            if (source.key, page) not in self._wanted:
                return
        # A damaged page is told by the statement that needs it.
        with contextlib.suppress(Exception):
            self.unpin(self.pin(source, page, traffic))

    def _load(self, frame: Frame, traffic: Traffic | None) -> None:
        try:
            size = frame.source.read(frame.page, frame.data)
            if traffic is not None:
                traffic.read_bytes += size
        except BaseException as error:  # noqa: BLE001 (for all who wait for it)
            frame.error = error
            with self._lock:
                self._drop(frame)
        finally:
            frame.ready.set()

    def _framed(self, source: Pages, page: int) -> Frame:
        """A pinned frame in place of whatever is needed least."""
        size = source.page_bytes
        lacking = self._used + size - self._allowed
        if lacking > 0 and _has_space(size):
            self._broker.grow(self._lease, lacking)
        frame = Frame(source, page, memoryview(self._buffer(size)))
        self._frames[frame.key] = frame
        return frame

    def _buffer(self, size: int) -> mmap.mmap:
        while True:
            for i, spare in enumerate(self._spare):
                if len(spare) == size:
                    return self._spare.pop(i)
            reserved = self._used + size <= self._allowed
            if reserved:
                with contextlib.suppress(OSError):
                    made = mmap.mmap(-1, size)  # goes back to the system when it is dropped
                    self._used += size
                    return made
            if not self._free_one():
                raise (
                    _no_space(size)
                    if reserved
                    else InternalError("more pages are pinned than were reserved")
                )

    def _shrink(self, allowed: int) -> None:
        """Evict until at most `allowed` bytes are used."""
        while self._used > allowed and self._free_one():
            pass

    def _free_one(self) -> bool:
        """Give one buffer up, or make one page's buffer spare; False where all are pinned."""
        if self._spare:
            self._used -= len(self._spare.pop())
            return True
        victim = next((f for f in self._frames.values() if not f.pins), None)
        if victim is None:
            return False
        if victim.changed:
            writable: Writable = victim.source  # type: ignore[assignment]
            writable.write(victim.page, victim.data)
        self._drop(victim)
        return True

    def _drop(self, frame: Frame) -> None:
        if self._frames.pop(frame.key, None) is not None:
            buffer: mmap.mmap = frame.data.obj  # type: ignore[assignment]
            self._spare.append(buffer)


def _has_space(size_bytes: int) -> bool:
    """Whether the process may map so much that it does not need, where its space is limited."""
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    if limit == resource.RLIM_INFINITY:
        return True
    with contextlib.suppress(OSError), Path("/proc/self/statm").open() as file:
        mapped = int(file.read().split()[0]) * mmap.PAGESIZE
        return mapped + size_bytes + _SPARE_SPACE_BYTES <= limit
    return True


def _no_space(size_bytes: int) -> ResourceError:
    return ResourceError(
        f"the system gives no memory for a page of {readable(size_bytes)}, though "
        "gradbase.memory_limit has room for it",
        hint="raise the limit of the process (ulimit -v) or lower gradbase.memory_limit",
    )
