"""How long a search may still take."""

from __future__ import annotations

import time


class Clock:
    """Runs from its making for `limit` seconds."""

    def __init__(self, limit: float) -> None:
        self._begin, self._limit = time.monotonic(), limit

    def seconds(self) -> float:
        """Since it was made."""
        return time.monotonic() - self._begin

    def keep(self, seconds: float) -> None:
        """The last seconds are for something else."""
        self._limit -= seconds

    def left(self) -> float:
        """Seconds until then, below 0 afterwards."""
        return self._limit - self.seconds()

    def expired(self) -> bool:
        """Whether the time is up."""
        return self.left() <= 0
