"""Keeps the tensor storage of a running step under a limit.

Like the pages of an operating system, but by storage and operator: before an operator runs, what it
touches is brought back and room is made for what it will allocate. That alone is correct for any
step; plans only make it early enough. A storage leaves by losing its memory (``resize_(0)``) while
every tensor, view and autograd node that shares it stays as it is, and comes back into the same.
"""

from __future__ import annotations

import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Sequence

from torch import UntypedStorage

from gradbase.errors import ResourceError
from gradbase.runtime.memory.report import Report
from gradbase.runtime.memory.tiers import Copy, Tier, Transfer

__all__ = ["Block", "Pager"]


class Block:
    """One storage.

    `made` in the step, or there before. `movable`: made, and nobody holds a raw pointer to it.
    `copy`: its bytes in the tier, equal to those in memory. `back`: the transfer that is bringing
    it back. `leaving`: it goes as soon as its copy is complete.
    """

    __slots__ = (
        "away",
        "back",
        "copy",
        "key",
        "leaving",
        "made",
        "movable",
        "name",
        "size",
        "storage",
        "used",
    )

    def __init__(self, storage: UntypedStorage, *, made: bool) -> None:
        self.key: int = storage._cdata
        self.size = storage.nbytes()
        self.made = made
        self.movable = made and storage.resizable()
        self.storage: weakref.ref[UntypedStorage] = weakref.ref(storage)
        self.name: tuple[int, tuple[int, int]] | None = None  # iteration, and `orders.Name` in it
        self.used = 0
        self.away = self.leaving = False
        self.copy: Copy | None = None
        self.back: Transfer | None = None


class Pager:
    """Blocks of one device, their load, and the tier they leave to.

    Parameters
    ----------
    report : Report
        Its limit is the limit.
    tier : function returning Tier
        Called when the first storage leaves.
    """

    def __init__(self, report: Report, tier: Callable[[], Tier]) -> None:
        self.report, self.load = report, 0
        self.stuck = 0  # bytes that were made and cannot leave
        self._fixed = 0  # bytes that cannot leave, known from before
        self._peak = 0  # of `load`; the report's counts what is expected, too
        self.clock = self.away = 0  # operators; blocks that have no memory
        self.blocks: dict[int, Block] = {}
        self.freed: deque[Block] = deque()  # filled whenever a storage dies, on any thread
        self.cramped = False  # the last operator found too little room, and nothing left to go
        self._open = tier
        self._tier: Tier | None = None
        self._leaving: deque[Block] = deque()
        self._coming: deque[Block] = deque()

    @property
    def tier(self) -> Tier:
        """Opened on first use."""
        if self._tier is None:
            self._tier = self._open()
            self.report.tier = self._tier.name
        return self._tier

    @property
    def over(self) -> int:
        """Bytes above the limit; negative where there is room.

        What cannot leave counts from the start once it is known, seen again or not.
        """
        return self.load + self._unseen - self.report.limit

    @property
    def _unseen(self) -> int:
        return max(0, self._fixed - self.report.persistent - self.stuck)

    def expect_fixed(self, size: int) -> None:
        """Iterations of this kind find or make `size` bytes that cannot leave."""
        self._fixed = size

    def expect_nothing(self) -> None:
        """It is another kind of iteration: what was expected, but not seen, is not there."""
        if self._unseen:
            self.report.peak = self._peak
        self._fixed = 0

    def adopt(self, storage: UntypedStorage, *, made: bool) -> Block:
        """Watch a storage that an operator has made, or that was there when first touched."""
        block = Block(storage, made=made)
        key = block.key

        def gone(_: object) -> None:
            if self.blocks.get(key) is block:
                del self.blocks[key]
            self.freed.append(block)

        block.storage = weakref.ref(storage, gone)
        self.blocks[key] = block
        self.load += block.size
        if made:
            self._note_peak()
            self.stuck += 0 if block.movable else block.size
            block.used = self.clock
        else:  # in memory all along: room for it is made with the next operator's
            self.report.persistent += block.size
        return block

    def resized(self, block: Block, size: int) -> None:
        """An operator has changed the size of a storage in place."""
        self.load += size - block.size
        block.size = size
        self._note_peak()

    def settle(self) -> list[Block]:
        """Account for what has been freed since the last call; those blocks."""
        found: list[Block] = []
        while self.freed:
            block = self.freed.popleft()
            found.append(block)
            if block.away:
                self.away -= 1
            else:
                self.load -= block.size
            if not block.made:
                self.report.persistent -= block.size
            elif not block.movable:
                self.stuck -= block.size
            self._forget(block)
        while self._leaving:
            block = self._leaving[0]
            if self._may_go(block) and block.copy is not None:
                if not block.copy.transfer.done():
                    break
                if self._copied(block):
                    self._release(block)
            self._leaving.popleft()
        return found

    def leave(self, block: Block) -> None:
        """Begin to copy a block out; once that is complete it goes, unless it was used before."""
        if block.away or not block.movable or block.storage() is None:
            return
        try:
            self._copy_out(block)
        except ResourceError as error:
            self.report.note(str(error))  # it stays; that is an error only when there is no room
            return
        block.leaving = True
        self._leaving.append(block)

    def _copied(self, block: Block) -> bool:
        """Whether a planned copy that has ended is good."""
        assert block.copy is not None
        try:
            block.copy.transfer.wait()
        except ResourceError as error:
            self.report.note(str(error))
            self._forget(block)
            return False
        return True

    def expect(self, block: Block) -> None:
        """Bring a block back as soon as there is room."""
        if block.away and block.back is None:
            self._coming.append(block)

    def use(self, blocks: Sequence[Block], written: Iterable[Block], need: int, rank: Rank) -> None:
        """Before an operator: bring `blocks` back and make room for `need` bytes more.

        `rank` orders the blocks that may leave; the highest goes first.
        """
        touched = {id(block) for block in blocks}
        self.cramped = False
        self.clock += 1
        for block in blocks:
            block.leaving, block.used = False, self.clock
            if block.away and block.back is None:
                self.report.misses += 1
                self._make_room(block.size, touched, rank)
                self._copy_back(block)
            elif block.back is not None:
                self.report.hits += 1
        for block in blocks:
            self._arrive(block)
        for block in written:
            self._forget(block)
        self._make_room(need, touched, rank)
        while self._coming:
            block = self._coming[0]
            absent = block.away and block.storage() is not None
            if absent and self.over + need + block.size > 0:
                break
            self._coming.popleft()
            if absent:
                self._copy_back(block)
        self._note_peak()

    def restore(self, blocks: Iterable[Block]) -> None:
        """Bring blocks back, whatever the limit."""
        wanted = [b for b in blocks if b.storage() is not None]
        for block in wanted:
            block.leaving = False
            if block.away and block.back is None:
                self._copy_back(block)
        for block in wanted:
            self._arrive(block)

    def pin(self, block: Block) -> None:
        """Never let a block, which is in memory, leave again."""
        self._forget(block)
        block.movable = False
        self.stuck += block.size

    def close(self) -> None:
        """Bring everything back and close the tier."""
        try:
            self.restore(list(self.blocks.values()))
        finally:
            if self._tier is not None:
                self._tier.close()

    def _note_peak(self) -> None:
        self._peak = max(self._peak, self.load)
        self.report.peak = max(self.report.peak, self.load + self._unseen)

    def _make_room(self, need: int, touched: set[int], rank: Rank) -> None:
        """Release blocks until `need` more bytes fit."""
        if self.over + need <= 0:
            return
        for block in [b for b in self._leaving if self._may_go(b)]:  # they are on their way already
            if self.over + need <= 0:
                return
            self._evict(block)
        while self.over + need > 0:
            may = [b for b in list(self.blocks.values()) if _can_go(b) and id(b) not in touched]
            if not may:
                self.cramped = True
                return
            self._evict(max(may, key=rank))

    def _may_go(self, block: Block) -> bool:
        return block.leaving and not block.away and block.storage() is not None

    def _evict(self, block: Block) -> None:
        self._arrive(block)
        self._copy_out(block)
        assert block.copy is not None
        self._wait(block.copy.transfer)
        self._release(block)

    def _copy_out(self, block: Block) -> None:
        storage = block.storage()
        if block.copy is None and storage is not None:
            block.copy = self.tier.out(storage)
            self.report.bytes_out += block.size

    def _release(self, block: Block) -> None:
        block.leaving = False
        storage = block.storage()
        if storage is None:
            return
        storage.resize_(0)
        block.away = True
        self.away += 1
        self.load -= block.size
        self.report.swapped += 1

    def _copy_back(self, block: Block) -> None:
        storage = block.storage()
        if storage is None:
            return
        assert block.copy is not None
        storage.resize_(block.size)
        block.away = False
        self.away -= 1
        self.load += block.size
        block.back = self.tier.back(block.copy, storage)
        self.report.bytes_in += block.size

    def _arrive(self, block: Block) -> None:
        if block.back is not None:
            self._wait(block.back)
            block.back = None

    def _wait(self, transfer: Transfer) -> None:
        begun = time.perf_counter()
        transfer.wait()
        self.report.stall_s += time.perf_counter() - begun

    def _forget(self, block: Block) -> None:
        if block.copy is not None:
            self.tier.forget(block.copy)
            block.copy = None


Rank = Callable[[Block], float]


def _can_go(block: Block) -> bool:
    return block.movable and not block.away and block.size > 0 and block.storage() is not None
