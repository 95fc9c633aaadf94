"""Computing a dropped storage again instead of copying it."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from gradbase.resources.lifetimes import Storage, Trace
from gradbase.resources.swapping.step import TICKS_PER_S, Gap

MOST_OPERATIONS = 8

# Operations whose result may differ when they run again. Whether attention draws random numbers
# cannot be seen from its name.
_RANDOM = re.compile(
    r"rand|dropout|bernoulli|normal_|normal\b|multinomial|uniform|exponential|geometric|cauchy"
    r"|poisson|binomial|rrelu|attention|c10d|item|_local_scalar"
)


@dataclass(frozen=True)
class Replay:
    """How to compute a storage again.

    Parameters
    ----------
    operations : tuple of int
        To run again, in order.
    inputs : frozenset of int
        Storages that must be in memory meanwhile.
    ticks : int, picoseconds
    extra : int, bytes
        Of what the operations make besides.
    """

    operations: tuple[int, ...]
    inputs: frozenset[int]
    ticks: int
    extra: int


def deterministic(name: str) -> bool:
    """Whether an operation of that name gives the same result when it runs again.

    Examples
    --------
    >>> deterministic("aten.native_layer_norm"), deterministic("aten.native_dropout")
    (True, False)
    """
    return _RANDOM.search(name) is None


class Replays:
    """Finds, for the gaps of a trace, the operations that would bring a storage back.

    A storage is computed again by every operation that wrote it until the gap. What these read must
    be in memory at the end of the gap, unchanged since they ran, or be computed again itself, with
    at most `MOST_OPERATIONS` operations together. Operations that draw random numbers, or write
    anything but storages they make themselves, are never run again.
    """

    def __init__(self, trace: Trace) -> None:
        self._trace = trace
        self._storages = {s.id: s for s in trace.storages}
        self._reads: dict[int, set[int]] = defaultdict(set)
        self._writes: dict[int, set[int]] = defaultdict(set)
        self._writers: dict[int, list[int]] = defaultdict(list)
        for a in trace.accesses:
            if a.kind == "read":
                self._reads[a.operation].add(a.storage)
            elif a.storage not in self._writes[a.operation]:
                self._writes[a.operation].add(a.storage)
                self._writers[a.storage].append(a.operation)

    def of(self, gap: Gap) -> Replay | None:
        """The way to compute the storage again before slot ``gap.need``, if there is one."""
        storage = self._storages[gap.storage]
        if storage.persistent or not gap.returns or gap.need >= self._trace.period:
            return None
        search = _Search(self, gap.need)
        if not search.compute(storage, gap.first - 1):
            return None
        operations = tuple(sorted(search.operations))
        made = {s for o in operations for s in self._writes[o]} - {gap.storage}
        seconds = sum(self._trace.operations[o].seconds for o in operations)
        return Replay(
            operations,
            frozenset(search.inputs),
            round(seconds * TICKS_PER_S),
            sum(self._storages[s].size for s in made),
        )

    def writers_until(self, storage: Storage, operation: int) -> list[int]:
        """Operations that had written `storage` when `operation` had run."""
        return [w for w in self._writers[storage.id] if w <= operation]

    def unchanged(self, storage: Storage, since: int, need: int) -> bool:
        """Whether `storage` is there before operation `need` as it was when `since` ran."""
        there = storage.persistent or (storage.allocated <= since and storage.freed > need)
        return there and not any(since < w < need for w in self._writers[storage.id])

    def may_rerun(self, operation: int, made: Iterable[int]) -> bool:
        """Whether running it again changes nothing that others see."""
        return deterministic(self._trace.operations[operation].name) and all(
            s in made or self._storages[s].allocated == operation for s in self._writes[operation]
        )

    def read_by(self, operation: int) -> list[Storage]:
        """Storages that an operation reads."""
        return [self._storages[s] for s in sorted(self._reads[operation])]


class _Search:
    """The operations and inputs found so far for one gap."""

    def __init__(self, replays: Replays, need: int) -> None:
        self._replays, self._need = replays, need
        self.operations: set[int] = set()
        self.inputs: set[int] = set()
        self._made: set[int] = set()

    def compute(self, storage: Storage, until: int) -> bool:
        """Add what gives `storage` as it was after operation `until`; False where it cannot be."""
        writers = self._replays.writers_until(storage, until)
        if storage.persistent or not writers or writers[0] < storage.allocated:
            return False
        self._made.add(storage.id)
        return all(self._rerun(w) for w in writers)

    def _rerun(self, operation: int) -> bool:
        if operation in self.operations:
            return True
        self.operations.add(operation)
        if len(self.operations) > MOST_OPERATIONS:
            return False
        if not self._replays.may_rerun(operation, self._made):
            return False
        return all(self._provide(s, operation) for s in self._replays.read_by(operation))

    def _provide(self, storage: Storage, operation: int) -> bool:
        if storage.id in self._made:
            return True
        if self._replays.unchanged(storage, operation, self._need):
            self.inputs.add(storage.id)
            return True
        return self.compute(storage, operation - 1)
