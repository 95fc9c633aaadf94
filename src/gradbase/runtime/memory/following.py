"""Where in its iteration a running step is, and what it will do next if it goes a known way."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from gradbase.runtime.memory.orders import Call, Name, Order, Orders
from gradbase.runtime.memory.pager import Block

__all__ = ["SURE", "Follower"]

SURE = 4  # calls; an order that agrees with fewer is of another step

_LONGEST = 200_000  # calls; what has no backward pass for so long is not learnt


class Follower:
    """Compares the operators that run with the orders learnt, and learns new ones."""

    def __init__(self, orders: Orders) -> None:
        self.orders = orders
        self.iteration = self.learnt = 0
        self.deviation: str | None = None  # why an iteration left its order; who reads it clears it
        self.relied = False  # storages were moved as an order says
        self._begin()

    def _begin(self) -> None:
        self.iteration += 1
        self.order: Order | None = None
        self.position = self._prefix = 0
        self.blocks: dict[Name, Block] = {}  # made in this iteration
        self._calls: list[Call] = []
        self._freed: dict[Name, int] = {}
        self._carried: list[tuple[int, int]] = []

    def expect(self, signature: int, name: str) -> Call | None:
        """The call that an operator of this signature is, if the way up to here is known."""
        if self.order is not None and self.position == len(self.order.calls):
            self._begin()  # once more, without an end in between
        known = None if self.order is None else self.order.calls[self.position]
        if known is None or known.signature != signature:
            found = self.orders.find(self._prefix, self.position, signature)
            if found is None and known is not None and self.position >= SURE:
                self._left(f"operator {self.position} was {name} instead of {known.name}")
            elif found is None and known is None and self.position == 0 and self.iteration > 1:
                self._left(f"it began with {name} of shapes not seen before")
            self.order = found
        return None if self.order is None else self.order.calls[self.position]

    def passed(self, call: Call, made: Iterable[Block]) -> None:
        """The call at this position has run and made these blocks; they get their names."""
        for j, block in enumerate(made):
            self._name(block, (self.position, j))
        if self.order is not None:
            known = self.order.calls[self.position]
            if known.made != call.made:
                self._left(
                    f"operator {self.position} ({call.name}) made storages of {list(call.made)} "
                    f"bytes instead of {list(known.made)}"
                )
                self.order = None
        if len(self._calls) < _LONGEST:
            self._calls.append(call)
        self._prefix = call.after(self._prefix)
        self.position += 1

    def retime(self, seconds: dict[int, float]) -> None:
        """Better times of calls of this iteration, by position."""
        for position, value in seconds.items():
            if position < len(self._calls):
                self._calls[position] = replace(self._calls[position], seconds=value)

    def freed(self, block: Block) -> None:
        """A storage is gone; the order will know when."""
        name = self.name_of(block)
        if name is not None:
            self._freed[name] = self.position
            del self.blocks[name]
        elif block.made:
            self._carried.append((block.size, self.position))

    @property
    def complete(self) -> bool:
        """Whether the iteration has gone a known way to its end."""
        return self.order is not None and self.position == len(self.order.calls)

    def end(self, alive: Iterable[Block]) -> None:
        """The iteration ends here, what is `alive` lives on: keep its order if it is a new one."""
        known = self.order
        if known is not None and self.position < len(known.calls):
            self._left(
                f"it ended before operator {self.position} ({known.calls[self.position].name})"
            )
            known = None
        if known is None and 0 < self.position < _LONGEST:
            self._learn(alive)
        if self.position:
            self._begin()

    def name_of(self, block: Block) -> Name | None:
        """Where this iteration has made the block; None if it has not."""
        name = block.name
        return name[1] if name is not None and name[0] == self.iteration else None

    def next_use(self, block: Block) -> float | None:
        """Position of the next operator that uses the block, infinite for none; None: not known."""
        name = self.name_of(block)
        if self.order is None or name is None:
            return None
        return self.order.next_use(name, self.position)

    def _left(self, why: str) -> None:
        """Another step may begin as a known one does; that is worth telling only where it was
        taken for that one."""
        if self.iteration > 1 or self.relied:
            self.deviation = why

    def _name(self, block: Block, name: Name) -> None:
        block.name = (self.iteration, name)
        self.blocks[name] = block

    def _learn(self, alive: Iterable[Block]) -> None:
        fixed, carried = 0, list(self._carried)
        for block in alive:
            if not block.movable:
                fixed += block.size
            elif self.name_of(block) is None:
                carried.append((block.size, self.position))
        self.learnt += 1
        self.orders.add(Order(tuple(self._calls), dict(self._freed), tuple(carried), fixed))
