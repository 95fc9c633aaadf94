"""What planning gives: an offset for every storage, and how good that is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from gradbase.plots import draw
from gradbase.resources.lifetimes import Interval
from gradbase.resources.placement.tables import write_table
from gradbase.resources.sizes import readable

if TYPE_CHECKING:
    from gradbase.plots.style import Picture


@dataclass(frozen=True, eq=False, repr=False)
class Plan:
    """Where each storage lies in one block of memory.

    Parameters
    ----------
    intervals : tuple of Interval
        What was placed.
    offsets : mapping from id to int, bytes
    height : int, bytes
        Of the block: the highest end of a storage, sizes rounded up to `alignment`.
    lower_bound : int, bytes
        No placement is lower.
    method : str
        What found it.
    seconds : float, seconds
        What that took.
    period : int or None, operations
        Lifetimes repeat with it.
    alignment : int, bytes
        What every offset is a multiple of.
    """

    intervals: tuple[Interval, ...]
    offsets: Mapping[str | int, int]
    height: int
    lower_bound: int
    method: str
    seconds: float
    period: int | None = None
    alignment: int = 1

    @property
    def proved(self) -> bool:
        """Whether it is known that no placement is lower."""
        return self.height == self.lower_bound

    @property
    def gap(self) -> float:
        """How much higher than the lower bound, relative to that; 0 where proved."""
        return self.height / self.lower_bound - 1 if self.lower_bound else 0.0

    def to_csv(self, path: str | Path) -> None:
        """Write rows ``id,lower,upper,size,offset``."""
        write_table(path, self.intervals, self.offsets)

    def plot(self, path: str | Path | None = None) -> Picture:
        """Draw lifetimes against offsets; with `path`, write it there (PNG, PDF, SVG)."""
        return draw("placement", _Placed(self), path)

    def __repr__(self) -> str:
        many = len(self.intervals)
        bound = "proved lowest" if self.proved else f"gap {100 * self.gap:.2f} %"
        return "\n".join(
            (
                f"Plan of {many:,} storage{'s' * (many != 1)} in {readable(self.height)}",
                f"  height       {self.height:,} bytes",
                f"  lower bound  {self.lower_bound:,} bytes ({bound})",
                f"  method       {self.method}",
                f"  seconds      {self.seconds:.3g}",
            )
        )


class _Placed:
    """A plan as columns, for its picture."""

    def __init__(self, plan: Plan) -> None:
        self.lower, self.upper, self.size, self.offset = np.array(
            [(i.lower, i.upper, i.size, plan.offsets[i.id]) for i in plan.intervals], np.int64
        ).reshape(-1, 4).T  # fmt: skip
        self.period, self.height = plan.period, plan.height
        self.lower_bound = plan.lower_bound
