"""Results that are read a part of their columns at a time.

Columns are the last dimension; all dimensions before it, of all rows of the batch, are one: a
result is a matrix Tensor[M, D], and a part of it Tensor[…, b - a].
"""

from __future__ import annotations

import itertools
import math
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import numpy as np
import torch

from gradbase.resources.tiling import grid_for
from gradbase.runtime.context import RunContext
from gradbase.store.tiles.pool import Frame, Pool, Traffic
from gradbase.store.tiles.scratch import Scratch


class Workers:
    """Computes parts of results in threads; each thread has its own share, always the same.

    Parameters
    ----------
    context : RunContext
    threads : int
        How many shares there are, on which rounding depends.

    Attributes
    ----------
    at_once : int
        How many shares are worked on at the same time; set before each batch.
    """

    def __init__(self, context: RunContext, threads: int) -> None:
        self.threads = self.at_once = threads
        self._context = context
        self._before = torch.get_num_threads()
        self._pool = ThreadPoolExecutor(threads, "gradbase-tiles", lambda: torch.set_num_threads(1))

    def each(self, count: int, work: Callable[[int, int], None]) -> None:
        """Call ``work(i, thread)`` for all i below `count`; thread t has t, t + threads, …"""

        def run(first: int) -> None:
            with torch.inference_mode():
                for thread in range(first, self.threads, at_once):
                    for i in range(thread, count, self.threads):
                        self._context.check_cancelled()
                        work(i, thread)

        at_once = max(1, min(self.at_once, self.threads))
        futures = [self._pool.submit(run, t) for t in range(min(at_once, count))]
        errors = [e for e in (f.exception() for f in futures) if e is not None]
        if errors:
            raise errors[0]

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown()
        # New threads start with the number set last in any thread.
        torch.set_num_threads(self._before)


class Value(Protocol):
    """A result; `shape` has its real sizes."""

    shape: tuple[int, ...]
    dtype: torch.dtype

    def part(self, start: int, stop: int) -> torch.Tensor:
        """Columns `start` to `stop`, Tensor[…, stop - start]; from any thread."""
        ...

    def cuts(self, width: int) -> Sequence[int]:
        """Where to cut the columns into parts of about `width`, with both ends."""
        ...

    def free(self) -> None:
        """Give back what it holds."""
        ...


def even_cuts(size: int, width: int, multiple: int = 0) -> list[int]:
    """Cuts after at most `width` columns each, and at all multiples of `multiple`.

    Examples
    --------
    >>> even_cuts(10, 4), even_cuts(10, 4, 5)
    ([0, 4, 8, 10], [0, 4, 5, 9, 10])
    """
    found = [0]
    while found[-1] < size:
        at = found[-1]
        end = (at // multiple + 1) * multiple if multiple else size
        found.append(min(at + width, end, size))
    return found


def pairs(cuts: Sequence[int]) -> list[tuple[int, int]]:
    """(start, stop) of the parts between cuts."""
    return list(itertools.pairwise(cuts))


class Lazy(ABC):
    """A result that is computed when a part of it is read."""

    def __init__(self, shape: Sequence[int], dtype: torch.dtype) -> None:
        self.shape, self.dtype = tuple(shape), dtype

    @abstractmethod
    def part(self, start: int, stop: int) -> torch.Tensor:
        """As `Value.part`."""

    def cuts(self, width: int) -> Sequence[int]:
        """As `Value.cuts`."""
        return even_cuts(self.shape[-1], width)

    def free(self) -> None:
        """As `Value.free`: it holds nothing."""
        return


class Held:
    """A result in memory."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self.tensor = tensor
        self.shape, self.dtype = tuple(tensor.shape), tensor.dtype

    def part(self, start: int, stop: int) -> torch.Tensor:
        return self.tensor[..., start:stop]

    def cuts(self, width: int) -> Sequence[int]:
        return even_cuts(self.shape[-1], width)

    def free(self) -> None:
        self.tensor = torch.empty(0)


class Stored:
    """A result in pages, which leave memory when others need the place.

    Parameters
    ----------
    shape, dtype : of the result
    pool : Pool
    scratch : Scratch
    traffic : Traffic
    """

    def __init__(
        self, shape: Sequence[int], dtype: torch.dtype, pool: Pool, scratch: Scratch,
        traffic: Traffic,
    ) -> None:  # fmt: skip
        self.shape, self.dtype = tuple(shape), dtype
        self._pool, self._scratch, self._traffic = pool, scratch, traffic
        self._item = torch.empty(0, dtype=dtype).element_size()
        self.rows = math.prod(self.shape[:-1])
        self._grid = grid_for(self.rows, self.shape[-1], self._item, scratch.page_bytes)
        self._pages: dict[int, int] = {}
        self._lock = threading.Lock()

    def part(self, start: int, stop: int) -> torch.Tensor:
        made = self.block(0, self.rows, start, stop)
        return made.reshape(*self.shape[:-1], stop - start)

    def cuts(self, width: int) -> Sequence[int]:
        return even_cuts(self.shape[-1], width, self._grid.tile_cols)

    def free(self) -> None:
        pages, self._pages = list(self._pages.values()), {}
        self._pool.forget(self._scratch, pages)
        for page in pages:
            self._scratch.give_back(page)

    def block(self, top: int, bottom: int, left: int, right: int) -> torch.Tensor:
        """A part of the matrix, Tensor[bottom - top, right - left]."""
        made = torch.empty((bottom - top, right - left), dtype=self.dtype)
        for tile, own, other in self._overlaps(top, bottom, left, right):
            frame = self._pool.pin(self._scratch, self._pages[tile], self._traffic)
            try:
                made[other] = self._matrix(tile, frame.data)[own]
            finally:
                self._pool.unpin(frame)
        return made

    def put(self, top: int, left: int, values: torch.Tensor) -> None:
        """Write a part of the matrix, Tensor[rows, columns]."""
        bottom, right = top + values.shape[0], left + values.shape[1]
        for tile, own, other in self._overlaps(top, bottom, left, right):
            frame = self._for_writing(tile)
            try:
                self._matrix(tile, frame.data)[own] = values[other]
                frame.changed = True
            finally:
                self._pool.unpin(frame)

    def run(self, start: int, stop: int) -> list[tuple[int, int, int, int]]:
        """Elements `start` to `stop`, as they lie in C order, as blocks."""
        width, found, at = self.shape[-1], list[tuple[int, int, int, int]](), start
        while at < stop:
            line, column = divmod(at, width)
            if column or stop - at < width:
                right = min(width, column + stop - at)
                found.append((line, line + 1, column, right))
                at += right - column
            else:
                lines = (stop - at) // width
                found.append((line, line + lines, 0, width))
                at += lines * width
        return found

    def _overlaps(self, top: int, bottom: int, left: int, right: int) -> Any:
        """Tiles of a part, with where they and it have the same elements."""
        for tile in self._grid.touching(top, bottom, left, right):
            t, b, f, r = self._grid.place(tile)
            low, high, first, last = max(t, top), min(b, bottom), max(f, left), min(r, right)
            own = (slice(low - t, high - t), slice(first - f, last - f))
            yield tile, own, (slice(low - top, high - top), slice(first - left, last - left))

    def _for_writing(self, tile: int) -> Frame:
        with self._lock:
            if tile in self._pages:
                return self._pool.pin(self._scratch, self._pages[tile], self._traffic)
            self._pages[tile] = page = self._scratch.take()
            return self._pool.new(self._scratch, page)

    def _matrix(self, tile: int, data: memoryview) -> torch.Tensor:
        top, bottom, left, right = self._grid.place(tile)
        count = (bottom - top) * (right - left)
        raw = torch.from_numpy(np.frombuffer(data, np.uint8, count * self._item))
        return raw.view(self.dtype).reshape(bottom - top, right - left)
