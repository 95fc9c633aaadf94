"""Where storages go when they leave: a file for the host's memory.

A tier copies bytes in the background. It never decides what leaves: that is the pager's.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import tempfile
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from torch import UntypedStorage

from gradbase.errors import ResourceError, StoreError
from gradbase.resources.sizes import readable

__all__ = ["Copy", "FileTier", "Slab", "Tier", "Transfer"]

_ALIGNED = 4096  # a page: what the kernel copies without reading the rest first


class Transfer(Protocol):
    """A copy in progress."""

    def done(self) -> bool:
        """Whether `wait` would return at once."""
        ...

    def wait(self) -> None:
        """Return when the bytes have arrived; what comes later may rely on them."""
        ...


@dataclass(eq=False)
class Copy:
    """The bytes of one storage in a tier, or on their way there (`transfer`)."""

    place: int
    size: int
    transfer: Transfer


class Tier(Protocol):
    """Holds copies of storages of one kind of device.

    `out` and `back` begin a copy and return at once; `out` raises `ResourceError` where there is no
    room. The storage must stay as it is until the transfer is done.
    """

    name: str
    device: str  # type of the storages: "cpu", "cuda"

    def out(self, storage: UntypedStorage) -> Copy:
        """Begin copying out."""
        ...

    def back(self, copy: Copy, storage: UntypedStorage) -> Transfer:
        """Begin copying into `storage`, which has been given its memory again."""
        ...

    def forget(self, copy: Copy) -> None:
        """Nobody will ask for this copy; its transfer out may still be under way."""
        ...

    def measure(self, size: int) -> tuple[float, float]:
        """Seconds to copy `size` bytes out and back, once each."""
        ...

    def close(self) -> None:
        """Wait for transfers and free everything."""
        ...


class Slab:
    """Hands out ranges of one growing region; sizes come back every step and are reused."""

    def __init__(self) -> None:
        self._free: dict[int, list[int]] = {}
        self._top = self._used = 0
        self._lock = threading.Lock()

    def take(self, size: int) -> tuple[int, bool]:
        """(offset, whether the region must grow to ``offset + size``)."""
        room = self._room(size)
        with self._lock:
            if not self._used:  # everything is back: no holes are kept from other shapes
                self._free.clear()
                self._top = 0
            self._used += room
            offsets = self._free.get(room)
            if offsets:
                return offsets.pop(), False
            offset = self._top
            self._top += room
            return offset, True

    def give(self, offset: int, size: int) -> None:
        """The range of `take` is free again."""
        room = self._room(size)
        with self._lock:
            self._used -= room
            self._free.setdefault(room, []).append(offset)

    def _room(self, size: int) -> int:
        return -(-max(size, 1) // _ALIGNED) * _ALIGNED


class _FileTransfer:
    """A copy between memory and the file, done by a thread of the tier."""

    def __init__(self, tier: FileTier, what: str, size: int, job: Future[None]) -> None:
        self._tier, self._what, self._size, self.job = tier, what, size, job

    def done(self) -> bool:
        return self.job.done()

    def wait(self) -> None:
        try:
            self.job.result(self._tier.timeout_s)
        except FutureTimeoutError:
            raise ResourceError(
                f"{self._tier.name} is too slow: {self._what} {readable(self._size)} has not ended "
                f"after {self._tier.timeout_s:g} s",
                hint="give budget(directory=...) a folder on a faster disk",
            ) from None
        except OSError as error:
            raise self._tier.failed(self._what, self._size, error) from error


class FileTier:
    """An unnamed file in a folder: gone with the process, whatever happens.

    One thread writes and one reads. The kernel keeps pages of the file while it has memory to
    spare; they belong to no process.

    Parameters
    ----------
    directory : path, optional
        The default is the system's folder for temporary files, unless that is in memory itself.
    timeout_s : float, seconds
        A single transfer that takes longer is an error.
    """

    device = "cpu"

    def __init__(
        self, directory: str | os.PathLike[str] | None = None, timeout_s: float = 60.0
    ) -> None:
        self.directory = Path(directory) if directory is not None else default_directory()
        self.timeout_s = timeout_s
        self.name = f"the file tier in {self.directory}"
        try:
            handle, path = tempfile.mkstemp(prefix="gradbase-", suffix=".swap", dir=self.directory)
        except OSError as error:
            raise StoreError(
                f"{self.name} cannot be opened: {error.strerror}",
                hint="give budget(directory=...) a folder that exists and can be written",
            ) from error
        Path(path).unlink()
        self._handle = handle
        self._slab = Slab()
        self._writer = ThreadPoolExecutor(1, "gradbase-out")
        self._reader = ThreadPoolExecutor(1, "gradbase-in")

    def out(self, storage: UntypedStorage) -> Copy:
        size = storage.nbytes()
        offset, grows = self._slab.take(size)
        if grows:
            self._grow(offset, size)
        job = self._writer.submit(self._write, offset, storage)
        return Copy(offset, size, _FileTransfer(self, "writing", size, job))

    def back(self, copy: Copy, storage: UntypedStorage) -> Transfer:
        job = self._reader.submit(self._read, copy.place, storage)
        return _FileTransfer(self, "reading", copy.size, job)

    def forget(self, copy: Copy) -> None:
        assert isinstance(copy.transfer, _FileTransfer)
        job = copy.transfer.job
        job.cancel()  # if it has not begun
        job.add_done_callback(lambda _: self._slab.give(copy.place, copy.size))

    def close(self) -> None:
        self._writer.shutdown(wait=True, cancel_futures=True)
        self._reader.shutdown(wait=True, cancel_futures=True)
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1

    def measure(self, size: int) -> tuple[float, float]:
        storage = UntypedStorage(size)
        begun = time.perf_counter()
        copy = self.out(storage)
        copy.transfer.wait()
        written = time.perf_counter()
        self.back(copy, storage).wait()
        ended = time.perf_counter()
        self.forget(copy)
        return written - begun, ended - written

    def failed(self, what: str, size: int, error: OSError) -> ResourceError:
        """The error of a transfer that the file system refused."""
        free = "?"
        with contextlib.suppress(OSError):
            usage = os.statvfs(self.directory)
            free = readable(usage.f_bavail * usage.f_frsize)
        return ResourceError(
            f"{self.name} failed {what} {readable(size)} ({error.strerror}); {free} are free there",
            hint="give budget(directory=...) a folder with more room, or a higher limit",
        )

    def _grow(self, offset: int, size: int) -> None:
        """Claim the room before anything is written, so that a full disk is known in time."""
        try:
            os.posix_fallocate(self._handle, offset, size)
        except OSError as error:
            self._slab.give(offset, size)
            raise self.failed("taking room for", size, error) from error

    def _write(self, offset: int, storage: UntypedStorage) -> None:
        view, done = _bytes_of(storage), 0
        while done < len(view):
            done += os.pwrite(self._handle, view[done:], offset + done)

    def _read(self, offset: int, storage: UntypedStorage) -> None:
        view, done = _bytes_of(storage), 0
        while done < len(view):
            got = os.preadv(self._handle, [view[done:]], offset + done)
            if not got:
                raise OSError(5, "the file ends before the copy")
            done += got


def default_directory() -> Path:
    """The folder for temporary files, or one beside it on a disk where that is in memory."""
    usual = Path(tempfile.gettempdir())
    others = (Path("/var/tmp"), Path.home() / ".cache")  # noqa: S108 - the file has no name
    if not in_memory(usual):
        return usual
    return next((o for o in others if os.access(o, os.W_OK) and not in_memory(o)), usual)


def in_memory(directory: Path) -> bool:
    """Whether files in `directory` take memory (tmpfs, ramfs)."""
    try:
        lines = Path("/proc/self/mountinfo").read_text().splitlines()
    except OSError:
        return False
    target = str(directory.resolve())
    kinds: dict[str, str] = {}
    for line in lines:
        mount, kind = line.split()[4], line.split(" - ", 1)[1].split()[0]
        if mount in ("/", target) or target.startswith(mount + "/"):
            kinds[mount] = kind
    return kinds[max(kinds, key=len)] in ("tmpfs", "ramfs") if kinds else False


def _bytes_of(storage: UntypedStorage) -> memoryview:
    """The storage's own memory, writable; numpy's view would make it impossible to release."""
    array = (ctypes.c_char * storage.nbytes()).from_address(storage.data_ptr())
    return memoryview(array).cast("B")
