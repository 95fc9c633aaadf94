"""What running under a budget did, in numbers."""

from __future__ import annotations

from dataclasses import dataclass, field

from gradbase.resources.sizes import readable

__all__ = ["Report"]


@dataclass(repr=False)
class Report:
    """Filled while the step runs; read it inside or after the ``with``.

    Parameters
    ----------
    limit : int, bytes
    tier : str
        Where storages went.
    peak : int, bytes
        Most tensor storage at once: what the step made and has in memory, and what it found there
        and has touched (weights, optimiser state, inputs).
    persistent : int, bytes
        The latter part.
    minimum : int, bytes
        Least limit under which the step could have run: the part that cannot leave and the largest
        working set of a single operator.
    bytes_out, bytes_in : int, bytes
        Copied to the tier and back.
    swapped : int
        Storages that left, counted each time.
    hits, misses : int
        Returns that were begun before they were needed, and those that were not.
    stall_s : float, seconds
        Operators waited for copies.
    operations, foreseen : int
        Operators called, and those of them that were known to come.
    iterations, learnt : int
        Iterations ended, and those of them whose order was new.
    notes : list of str
        What did not go as planned, and why.
    """

    limit: int
    tier: str = ""
    peak: int = 0
    persistent: int = 0
    minimum: int = 0
    bytes_out: int = 0
    bytes_in: int = 0
    swapped: int = 0
    hits: int = 0
    misses: int = 0
    stall_s: float = 0.0
    operations: int = 0
    foreseen: int = 0
    iterations: int = 0
    learnt: int = 0
    notes: list[str] = field(default_factory=list[str])

    def note(self, text: str) -> None:
        """Add a note, once."""
        if text not in self.notes:
            self.notes.append(text)

    def __repr__(self) -> str:
        lines = [
            f"Budget of {readable(self.limit)}: peak {readable(self.peak)}",
            f"  iterations  {self.iterations}, {self.learnt} of a new order",
            f"  persistent  {readable(self.persistent)}",
            f"  minimum     {readable(self.minimum)}",
            f"  swapped     {self.swapped} times to {self.tier or 'no tier'}",
            f"  copied      {readable(self.bytes_out)} out, {readable(self.bytes_in)} in",
            f"  foreseen    {self.foreseen:,} of {self.operations:,} operations",
            f"  prefetched  {self.hits} of {self.hits + self.misses} returns",
            f"  stalls      {self.stall_s:.3g} s",
            *(f"  note: {note}" for note in self.notes),
        ]
        return "\n".join(lines)
