"""Weights, read tile by tile or held in memory: one interface for both."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import torch

from gradbase.store.tiles.file import TileFile
from gradbase.store.tiles.pool import Pool, Traffic

Piece = tuple[int, int, int, int, torch.Tensor]
"""First row, row behind the last, first column, column behind the last, content."""


class Weight(Protocol):
    """A weight as a matrix: its first dimension by all others."""

    rows: int
    cols: int
    tile_rows: int
    tile_cols: int

    def pieces(self, top: int, bottom: int, left: int, right: int) -> Iterator[Piece]:
        """What lies in these rows and columns; content is there until the next one is asked for."""
        ...

    def passed(self) -> None:
        """A batch has had all of it."""
        ...


class HeldWeight:
    """A weight in memory.

    Parameters
    ----------
    tensor : Tensor[rows, …]
    """

    def __init__(self, tensor: torch.Tensor) -> None:
        self._matrix = tensor.reshape(tensor.shape[0], -1)
        self.rows, self.cols = self._matrix.shape
        self.tile_rows, self.tile_cols = self.rows, self.cols

    def pieces(self, top: int, bottom: int, left: int, right: int) -> Iterator[Piece]:
        yield top, bottom, left, right, self._matrix[top:bottom, left:right]

    def passed(self) -> None:
        """As `Weight.passed`."""


class TiledWeight:
    """A weight in a file of tiles.

    Parameters
    ----------
    file : TileFile
    pool : Pool
    traffic : Traffic
    kept : int
        So many of its first tiles should stay in memory after use, from the second pass on.
    """

    def __init__(self, file: TileFile, pool: Pool, traffic: Traffic, kept: int) -> None:
        self._file, self._pool, self._traffic, self._kept = file, pool, traffic, kept
        grid = file.grid
        self.rows, self.cols = grid.rows, grid.cols
        self.tile_rows, self.tile_cols = grid.tile_rows, grid.tile_cols

    def passed(self) -> None:
        """As `Weight.passed`."""
        self._pool.passed(self._file)

    def pieces(self, top: int, bottom: int, left: int, right: int) -> Iterator[Piece]:
        grid = self._file.grid
        wanted = list(grid.touching(top, bottom, left, right))
        kept = self._kept if self._pool.again(self._file) else 0
        for i, tile in enumerate(wanted):
            t, b, f, r = grid.place(tile)
            frame = self._pool.pin(self._file, tile, self._traffic)
            try:
                if i + 1 < len(wanted):
                    self._pool.prefetch(self._file, wanted[i + 1 : i + 2], self._traffic)
                low, high, first, last = max(t, top), min(b, bottom), max(f, left), min(r, right)
                whole = torch.from_numpy(self._file.tile(tile, frame.data))
                yield low, high, first, last, whole[low - t : high - t, first - f : last - f]
            finally:
                # What a next part of rows or columns needs too is not given up yet.
                rest = b > bottom or r > right
                self._pool.unpin(frame, keep=rest or tile < kept)


def rows_of(weight: Weight, top: int, bottom: int) -> torch.Tensor:
    """Rows of a weight as one Tensor[bottom - top, cols]."""
    made: torch.Tensor | None = None
    for low, high, first, last, piece in weight.pieces(top, bottom, 0, weight.cols):
        if made is None:
            made = torch.empty((bottom - top, weight.cols), dtype=piece.dtype)
        made[low - top : high - top, first:last] = piece
    assert made is not None
    return made
