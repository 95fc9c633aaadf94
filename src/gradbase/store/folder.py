"""The folder beside a database: its layout, and what the stores of one process share about it.

DuckDB lets one process write a database file, so the catalog lock is a lock of that process; the
file `lock` only guards against foreign creators of blobs (workers) while blobs are deleted.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
import threading
import weakref
from collections.abc import Generator
from pathlib import Path

from gradbase.store.files import make_folder, reported

_open: weakref.WeakValueDictionary[Path, Folder] = weakref.WeakValueDictionary()
_open_lock = threading.Lock()


class Lease:
    """Hashes that a creator has put, or relies on, before the catalog names them."""

    def __init__(self) -> None:
        self.hashes: set[str] = set()


class Folder:
    """Paths below `root`, and the state shared by all stores of this process on it.

    `lock` is the catalog lock: commits, drops and deletions of blobs hold it. `changes` counts
    writes of the catalog, so that what was read before one is read again.
    """

    def __init__(self, root: Path, *, temporary: bool = False) -> None:
        self.root = root
        self.blobs, self.halves, self.runs = root / "blobs", root / "tmp", root / "runs"
        self.lock = threading.RLock()
        self.changes = 0
        self.leases: weakref.WeakSet[Lease] = weakref.WeakSet()
        self._shared: int | None = None
        self._users = 0
        self._finalizer = (
            weakref.finalize(self, shutil.rmtree, root, ignore_errors=True) if temporary else None
        )

    @classmethod
    def at(cls, root: Path | None) -> Folder:
        """The folder `root`; a temporary one for None, removed with its last user."""
        if root is None:
            return cls(Path(tempfile.mkdtemp(prefix="gradbase-")), temporary=True)
        with _open_lock:
            found = _open.get(root)
            if found is None:
                _open[root] = found = cls(root)
            return found

    def enter(self) -> None:
        """One more store uses the folder."""
        with self.lock:
            self._users += 1

    def leave(self) -> None:
        """One store less; the last one unlocks, and removes a temporary folder."""
        with self.lock:
            self._users -= 1
            if self._users == 0:
                self._unlock()
                if self._finalizer is not None:
                    self._finalizer()

    @contextlib.contextmanager
    def lease(self) -> Generator[Lease]:
        """Protect what is put inside from deletion until the catalog names it."""
        taken = Lease()
        with self.lock:
            self.leases.add(taken)
        try:
            yield taken
        finally:
            with self.lock:
                self.leases.discard(taken)

    def prepare(self) -> None:
        """Make the folder for writing and tell other processes that blobs are being created."""
        with self.lock, reported(f"making the folder {self.root}"):
            for path in (self.blobs, self.halves):
                make_folder(path)
            if self._shared is None:
                self._shared = os.open(self.root / "lock", os.O_RDWR | os.O_CREAT, 0o644)
                fcntl.flock(self._shared, fcntl.LOCK_SH)

    @contextlib.contextmanager
    def alone(self) -> Generator[bool]:
        """Whether no other process creates blobs here; it stays so inside."""
        self.prepare()
        assert self._shared is not None
        try:
            fcntl.flock(self._shared, fcntl.LOCK_EX | fcntl.LOCK_NB)
            alone = True
        except BlockingIOError:
            alone = False
        try:
            yield alone
        finally:
            fcntl.flock(self._shared, fcntl.LOCK_SH)

    def _unlock(self) -> None:
        if self._shared is not None:
            os.close(self._shared)
            self._shared = None
