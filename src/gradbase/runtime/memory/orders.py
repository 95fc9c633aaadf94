"""The order of operators of an iteration that has run, learnt to know what comes next.

An iteration's storages are named by where they are made: the j-th new storage of operator i is
(i, j), in this iteration and in every later one that goes the same way.
"""

from __future__ import annotations

import bisect
import functools
import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any

from gradbase.resources.lifetimes import Access, Operation, Storage, Trace

__all__ = ["Call", "Name", "Order", "Orders"]

Name = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Call:
    """One operator of an iteration.

    Parameters
    ----------
    signature : int
        Hash of the operator and of its arguments' shapes and dtypes.
    name : str
    made : tuple of int, bytes
        Sizes of the storages it makes.
    grown : int, bytes
        By which it enlarges storages in place.
    touched : tuple of (Name, bool)
        Storages of this iteration that it uses, and whether it overwrites them.
    working_set : int, bytes
        Of storages that can leave: what it touches and makes.
    seconds : float, seconds
    """

    signature: int
    name: str
    made: tuple[int, ...]
    grown: int
    touched: tuple[tuple[Name, bool], ...]
    working_set: int
    seconds: float

    def after(self, prefix: int) -> int:
        """Hash of a way that hashes to `prefix`, and of this call."""
        return hash((prefix, self.signature, self.made))


@dataclass(frozen=True, eq=False)
class Order:
    """An iteration.

    Parameters
    ----------
    calls : tuple of Call
    freed : dict of Name to int
        Operator before which a storage was freed; those that lived on are missing.
    carried : tuple of (int, int)
        (bytes, operator before which it was freed) of what earlier iterations left behind.
    fixed : int, bytes
        What was there all the time and cannot leave.
    plans : dict
        Kept by who plans with this order.
    """

    calls: tuple[Call, ...]
    freed: dict[Name, int]
    carried: tuple[tuple[int, int], ...]
    fixed: int
    plans: dict[Any, Any] = field(default_factory=dict[Any, Any])

    @functools.cached_property
    def hashes(self) -> list[int]:
        """Of the calls before each position and of all: equal prefixes have equal hashes."""
        found = [0]
        for call in self.calls:
            found.append(call.after(found[-1]))
        return found

    @functools.cached_property
    def _uses(self) -> dict[Name, list[int]]:
        found: dict[Name, list[int]] = {}
        for position, call in enumerate(self.calls):
            for name, _ in call.touched:
                found.setdefault(name, []).append(position)
        return found

    def next_use(self, name: Name, position: int) -> float:
        """First operator from `position` on that uses the storage; infinite where none does."""
        uses = self._uses.get(name, [])
        i = bisect.bisect_left(uses, position)
        return uses[i] if i < len(uses) else float("inf")

    @property
    def minimum(self) -> int:
        """Least limit under which the iteration runs, bytes."""
        return self.fixed + max((c.working_set for c in self.calls), default=0)

    @functools.cached_property
    def names(self) -> dict[int, Name]:
        """Storage of `trace` (its id) to name."""
        made = ((i, j) for i, call in enumerate(self.calls) for j in range(len(call.made)))
        return dict(enumerate(made, start=1))

    @functools.cached_property
    def trace(self) -> Trace:
        """The same as a trace for a planner: a straight line, what is carried in or out stays."""
        end = len(self.calls)
        ids = {name: i for i, name in self.names.items()}
        storages = [Storage(0, self.fixed, 0, end, persistent=True)]
        accesses: list[Access] = []
        for name, i in ids.items():
            size = self.calls[name[0]].made[name[1]]
            storages.append(Storage(i, size, name[0], self.freed.get(name, end)))
        for size, freed in self.carried:
            storages.append(Storage(len(storages), size, 0, max(freed, 1)))
        for position, call in enumerate(self.calls):
            made = [Access(position, ids[position, j], "write") for j in range(len(call.made))]
            accesses += made
            for name, written in call.touched:
                if name[0] < position:
                    accesses.append(Access(position, ids[name], "read"))
                    if written:
                        accesses.append(Access(position, ids[name], "write"))
        operations = tuple(
            Operation(i, c.name, seconds=c.seconds) for i, c in enumerate(self.calls)
        )
        return Trace(tuple(storages), operations, tuple(accesses), end)


class Orders:
    """The orders that this process has learnt, most recently followed last; a few are kept."""

    def __init__(self, most: int = 16) -> None:
        self._most = most
        self._known: OrderedDict[int, Order] = OrderedDict()
        self._lock = threading.Lock()

    def add(self, order: Order) -> None:
        """Keep; an order of the same operators is replaced."""
        with self._lock:
            self._known[order.hashes[-1]] = order
            self._known.move_to_end(order.hashes[-1])
            while len(self._known) > self._most:
                self._known.popitem(last=False)

    def find(self, prefix: int, position: int, signature: int) -> Order | None:
        """One whose first `position` operators hash to `prefix` and whose next is `signature`."""
        with self._lock:
            for key in reversed(self._known):
                order = self._known[key]
                if (
                    position < len(order.calls)
                    and order.hashes[position] == prefix
                    and order.calls[position].signature == signature
                ):
                    self._known.move_to_end(key)
                    return order
        return None
