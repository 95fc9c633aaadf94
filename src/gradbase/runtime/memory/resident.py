"""Memory that was freed but that the C library still holds for the process is given back."""

from __future__ import annotations

import contextlib
import ctypes
import os

__all__ = ["Resident"]

_SLACK = 1 << 24  # bytes; less is not worth the work


class Resident:
    """Keeps the resident memory of this process near what its budget allows.

    glibc keeps freed blocks below 32 MB for later use, so that more may stay resident than is in
    use. Giving them back costs page faults later (0.7 s per GB here): it is done only when resident
    memory has grown by more than the limit allows.
    """

    # Of the process without the storages of a step; known better after each trim.
    _base: int | None = None

    def __init__(self) -> None:
        self._trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        self._statm, self._page, self._since = -1, os.sysconf("SC_PAGE_SIZE"), 0
        if self._trim is not None:
            with contextlib.suppress(OSError):
                self._statm = os.open("/proc/self/statm", os.O_RDONLY)
        if self._statm >= 0:
            Resident._base = min(self._now(), Resident._base or self._now())

    def prepare(self, need: int, load: int, limit: int) -> None:
        """Before `need` bytes are allocated: give back what would otherwise be too much.

        Parameters
        ----------
        need, load, limit : int, bytes
            Of storages that the step makes: now, there already, and allowed.
        """
        self._since += need
        if self._trim is None or self._statm < 0 or self._since < max(limit // 32, _SLACK // 4):
            return
        self._since = 0
        now, base = self._now(), Resident._base or 0
        held = now - base - load  # freed blocks that the C library may use for what is needed
        after = now if held >= need else now + need
        if after > base + limit + max(_SLACK, limit // 16) and held > _SLACK // 4:
            self._trim(0)
            Resident._base = self._now() - load

    def close(self) -> None:
        """Stop watching."""
        if self._statm >= 0:
            os.close(self._statm)
            self._statm = -1

    def _now(self) -> int:
        return int(os.pread(self._statm, 128, 0).split()[1]) * self._page
