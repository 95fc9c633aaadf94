"""Allocators that do not know the future, to compare placements with."""

from __future__ import annotations

import bisect
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from gradbase.memory import Interval

ITERATIONS = 3
MIB = 1 << 20
Key = tuple[str | int, int]  # a storage and its iteration


@dataclass(eq=False)
class Block:
    """A piece of a segment, with the pieces beside it."""

    address: int
    size: int
    left: Block | None = None
    right: Block | None = None
    free: bool = True


class Pool:
    """Segments cut into blocks: the smallest free block that fits is used, the lowest of these."""

    def __init__(self, start: int = 0) -> None:
        self._top = start
        self._free: list[tuple[int, int]] = []  # (size, address), ascending
        self._blocks: dict[int, Block] = {}

    def reserve(self, size: int) -> None:
        """One more segment."""
        self._keep(Block(self._top, size))
        self._top += size

    def take(self, size: int, whole: int) -> Block | None:
        """A free block; the rest of it is cut off unless it is below `whole`."""
        k = bisect.bisect_left(self._free, (size, -1))
        if k == len(self._free):
            return None
        block = self._blocks.pop(self._free.pop(k)[1])
        block.free = False
        if block.size - size >= whole:
            rest = Block(block.address + size, block.size - size, block, block.right)
            if block.right:
                block.right.left = rest
            block.right, block.size = rest, size
            self._keep(rest)
        return block

    def give_back(self, block: Block) -> None:
        """Free it, joined with free neighbours."""
        if block.left and block.left.free:
            self._forget(block.left)
            block.address, block.size = block.left.address, block.left.size + block.size
            block.left = block.left.left
            if block.left:
                block.left.right = block
        if block.right and block.right.free:
            self._forget(block.right)
            block.size += block.right.size
            block.right = block.right.right
            if block.right:
                block.right.left = block
        self._keep(block)

    def _keep(self, block: Block) -> None:
        block.free = True
        bisect.insort(self._free, (block.size, block.address))
        self._blocks[block.address] = block

    def _forget(self, block: Block) -> None:
        del self._free[bisect.bisect_left(self._free, (block.size, block.address))]
        del self._blocks[block.address]


@dataclass
class Served:
    """What an allocator took, bytes, and where it put each storage of each iteration."""

    size: int = 0
    lives: list[Interval] = field(default_factory=list[Interval])
    offsets: dict[str | int, int] = field(default_factory=dict[str | int, int])


def online_best_fit(intervals: Sequence[Interval], period: int | None) -> Served:
    """One growing pool with best fit and joining, as CnMem (arXiv 1903.06631)."""
    served, pool = Served(), Pool()
    pool.reserve(1 << 60)  # the endless rest is the worst fit: holes below the top are used first

    def serve(size: int) -> tuple[Pool, Block]:
        block = pool.take(_up(size, 512), 1)
        assert block is not None
        served.size = max(served.size, block.address + block.size)
        return pool, block

    return _run(intervals, period, serve, served)


def caching_allocator(intervals: Sequence[Interval], period: int | None) -> Served:
    """What PyTorch's CUDA allocator reserves (a model of it, with its default settings).

    Sizes are multiples of 512 bytes. Up to 1 MiB comes from segments of 2 MiB; below 10 MiB from
    segments of 20 MiB; more from segments of its own, in multiples of 2 MiB. Segments stay.
    """
    served, small, large = Served(), Pool(), Pool(1 << 60)

    def serve(size: int) -> tuple[Pool, Block]:
        rounded = _up(size, 512)
        pool, whole = (small, 512) if rounded <= MIB else (large, MIB + 1)
        block = pool.take(rounded, whole)
        if block is None:
            segment = 2 * MIB if rounded <= MIB else 20 * MIB
            segment = segment if rounded < 10 * MIB else _up(rounded, 2 * MIB)
            pool.reserve(segment)
            served.size += segment
            block = pool.take(rounded, whole)
        assert block is not None
        return pool, block

    return _run(intervals, period, serve, served)


def _run(
    intervals: Sequence[Interval],
    period: int | None,
    serve: Callable[[int], tuple[Pool, Block]],
    served: Served,
) -> Served:
    held: dict[Key, tuple[Pool, Block]] = {}
    for (name, k), i in _events(intervals, period):
        if i is None:
            pool, block = held.pop((name, k))
            pool.give_back(block)
            continue
        held[name, k] = serve(i.size)
        shift = k * (period or 0)
        life = Interval(f"{name} in {k}", i.lower + shift, i.upper + shift, i.size)
        served.lives.append(life)
        served.offsets[life.id] = held[name, k][1].address
    return served


def _events(
    intervals: Sequence[Interval], period: int | None
) -> Iterable[tuple[Key, Interval | None]]:
    """(what, its life) of each allocation and (what, None) of each release; some iterations."""
    moments: list[tuple[int, int, int, Key, Interval | None]] = []
    for k in range(ITERATIONS if period else 1):
        shift = k * (period or 0)
        for order, i in enumerate(intervals):
            moments.append((i.lower + shift, 1, order, (i.id, k), i))
            moments.append((i.upper + shift, 0, order, (i.id, k), None))
    moments.sort(key=lambda moment: moment[:3])
    return ((key, life) for *_, key, life in moments)


def _up(size: int, multiple: int) -> int:
    return -(-size // multiple) * multiple
