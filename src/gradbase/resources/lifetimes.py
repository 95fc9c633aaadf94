"""When each tensor's memory is needed during one iteration of a training step, as values.

Time is counted in *operations*: operation `i` of an iteration is its i-th call of the tensor
library, `0 <= i < period`. A lifetime [lower, upper) begins with the operation that makes the
storage and ends with the first operation that no longer finds it. One that begins in an iteration
and ends in the next (a gradient that the next step frees) has ``upper > period``: it is circular.
Sizes are bytes.
"""

from __future__ import annotations

import csv
import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from gradbase.resources.sizes import readable

__all__ = ["Access", "Interval", "Operation", "Storage", "Trace"]


@dataclass(frozen=True)
class Interval:
    """`size` bytes that are needed in [lower, upper), half-open, counted in operations."""

    id: str | int
    lower: int
    upper: int
    size: int

    @property
    def length(self) -> int:
        """How many operations long."""
        return self.upper - self.lower


@dataclass(frozen=True)
class Operation:
    """One call of the tensor library.

    Parameters
    ----------
    index : int
        Position in the iteration.
    name : str
        Such as ``aten.addmm``.
    layer : str
        Where it was called from: path of a module, ``SGD.step``, or "" where that is unknown.
    flops : int
        Floating-point operations (a multiplication and an addition are two); 0 where unknown.
    bytes_moved : int, bytes
        Of the tensors it reads and writes.
    seconds : float, seconds
        As measured.
    """

    index: int
    name: str
    layer: str = ""
    flops: int = 0
    bytes_moved: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class Storage:
    """The memory of one or more tensors (views share it).

    Parameters
    ----------
    id : int
    size : int, bytes
    allocated, freed : int
        Its life [allocated, freed), ``0 <= allocated < period``; ``freed > period`` where it lives
        on into the next iteration. Every iteration makes its own.
    persistent : bool
        There before the iteration and after it (weights, optimiser state, kept inputs): one for all
        iterations; its life is [0, period).
    """

    id: int
    size: int
    allocated: int
    freed: int
    persistent: bool = False


@dataclass(frozen=True)
class Access:
    """`operation` reads or writes `storage` (its id).

    For a storage that lives on into the next iteration `operation` may be ``period`` or more:
    accesses lie in [allocated, freed).
    """

    operation: int
    storage: int
    kind: Literal["read", "write"]


@dataclass(frozen=True, eq=False, repr=False)
class Trace:
    """One iteration of a training step: what it allocates, what it touches, and when.

    Parameters
    ----------
    storages : tuple of Storage
        In order of allocation.
    operations : tuple of Operation
    accesses : tuple of Access
        In order of operations; an operation that reads and writes a storage has both.
    period : int
        Number of operations of an iteration.
    notes : tuple of str
        What the reader of the numbers should know (iterations that differ, ...).
    """

    storages: tuple[Storage, ...]
    operations: tuple[Operation, ...]
    accesses: tuple[Access, ...]
    period: int
    notes: tuple[str, ...] = ()

    def intervals(self) -> list[Interval]:
        """What is to be placed: every transient storage; ``upper > period`` where it is circular.

        Storages of 0 bytes need no place.

        A storage that lives longer than an iteration is there twice or more at once; as many
        intervals [0, period) stand for it, named ``<id>.0``, ``<id>.1``, ...
        """
        found: list[Interval] = []
        for s in self.storages:
            copies = -(-(s.freed - s.allocated) // self.period) if self.period else 0
            if s.persistent or not s.size:
                continue
            if copies <= 1:
                found.append(Interval(s.id, s.allocated, s.freed, s.size))
            else:
                found += [Interval(f"{s.id}.{k}", 0, self.period, s.size) for k in range(copies)]
        return found

    def load(self) -> NDArray[np.int64]:
        """Bytes that live during each operation, persistent ones included: int64[period]."""
        return self._load.copy()

    @functools.cached_property
    def _load(self) -> NDArray[np.int64]:
        change = np.zeros(self.period + 1, np.int64)
        for s in self.storages:
            if s.persistent:
                continue
            whole, rest = divmod(s.freed - s.allocated, max(self.period, 1))
            change[0] += whole * s.size  # there at every operation
            end = s.allocated + rest
            change[s.allocated] += s.size
            if end <= self.period:
                change[end] -= s.size
            else:  # the previous iteration's is there at the start
                change[0] += s.size
                change[end - self.period] -= s.size
        return np.cumsum(change)[: self.period] + self.persistent_bytes

    @property
    def peak(self) -> int:
        """Largest load, bytes."""
        return int(self._load.max(initial=self.persistent_bytes))

    @functools.cached_property
    def persistent_bytes(self) -> int:
        """Bytes of the storages that every iteration shares."""
        return sum(s.size for s in self.storages if s.persistent)

    @property
    def lower_bound(self) -> int:
        """Bytes below which no placement of the transient storages can be: their largest load."""
        return self.peak - self.persistent_bytes

    @functools.cached_property
    def working_set(self) -> int:
        """Largest sum of transient storages that a single operation reads or writes, bytes.

        ``persistent_bytes + working_set`` is the least memory in which the step can run when every
        other transient storage is elsewhere.
        """
        size = {s.id: s.size for s in self.storages if not s.persistent}
        touched: dict[int, set[int]] = {}
        for access in self.accesses:
            if access.storage in size and self.period:
                touched.setdefault(access.operation % self.period, set()).add(access.storage)
        return max((sum(size[i] for i in ids) for ids in touched.values()), default=0)

    def to_csv(self, path: str | Path) -> None:
        """Write `intervals` as rows ``id,lower,upper,size``."""
        with Path(path).open("w", newline="") as file:
            rows = csv.writer(file, lineterminator="\n")
            rows.writerow(("id", "lower", "upper", "size"))
            rows.writerows((i.id, i.lower, i.upper, i.size) for i in self.intervals())

    def __repr__(self) -> str:
        transient = sum(not s.persistent for s in self.storages)
        lines = [
            f"Trace of {self.period} operations, {transient} transient storages",
            f"  peak         {readable(self.peak)}",
            f"  persistent   {readable(self.persistent_bytes)}",
            f"  transient    {readable(self.lower_bound)} at the peak (no placement needs less)",
            f"  working set  {readable(self.working_set)} of the largest operation",
            f"  FLOPs        {sum(o.flops for o in self.operations):,}",
            f"  seconds      {sum(o.seconds for o in self.operations):.4g}",
            *(f"  note: {note}" for note in self.notes),
        ]
        return "\n".join(lines)
