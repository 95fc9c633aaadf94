"""How a matrix is cut into tiles that fit a page."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from gradbase.errors import ResourceError

SMALLEST_PAGE, LARGEST_PAGE = 64 << 10, 4 << 20
"""Bytes of a page in files of weights: small limits need small pages, reading likes large ones."""
_LIMIT_SHARE = 128
"""A page is at most this part (one in …) of the memory limit."""
_MULTIPLE = 64
_TALL = 2
"""A weight with so many times more rows than columns is tall."""


@dataclass(frozen=True)
class Grid:
    """A matrix of `rows` x `cols` elements of `item` bytes in tiles, numbered row by row.

    Parameters
    ----------
    tile_rows, tile_cols : int
        Elements of a tile; those at the right and lower edge have what is left.
    """

    rows: int
    cols: int
    item: int
    tile_rows: int
    tile_cols: int

    @property
    def down(self) -> int:
        """Tiles in a column."""
        return math.ceil(self.rows / self.tile_rows)

    @property
    def across(self) -> int:
        """Tiles in a row."""
        return math.ceil(self.cols / self.tile_cols)

    @property
    def tiles(self) -> int:
        return self.down * self.across

    @property
    def size_bytes(self) -> int:
        return self.rows * self.cols * self.item

    def place(self, tile: int) -> tuple[int, int, int, int]:
        """(first row, row behind the last, first column, column behind the last) of a tile."""
        i, j = divmod(tile, self.across)
        top, left = i * self.tile_rows, j * self.tile_cols
        return (
            top, min(top + self.tile_rows, self.rows), left, min(left + self.tile_cols, self.cols)
        )  # fmt: skip

    def touching(self, top: int, bottom: int, left: int, right: int) -> Iterator[int]:
        """Tiles with elements in these rows and columns, row by row."""
        if top < bottom and left < right:
            for i in range(top // self.tile_rows, -(-bottom // self.tile_rows)):
                for j in range(left // self.tile_cols, -(-right // self.tile_cols)):
                    yield i * self.across + j


def page_bytes_for(memory_bytes: int) -> int:
    """Bytes of a page where statements may use `memory_bytes`: a power of two.

    Examples
    --------
    >>> page_bytes_for(1 << 30) >> 20, page_bytes_for(1 << 20) >> 10
    (4, 64)
    """
    fitting = 1 << max(memory_bytes // _LIMIT_SHARE, 1).bit_length() - 1
    return max(SMALLEST_PAGE, min(LARGEST_PAGE, fitting))


def grid_for(rows: int, cols: int, item: int, page_bytes: int) -> Grid:
    """About square tiles that fit a page: a product may go along rows or along columns.

    Raises
    ------
    ResourceError
        Not even one element fits.

    Examples
    --------
    >>> grid = grid_for(131072, 4096, 4, 4 << 20)
    >>> grid.tile_rows, grid.tile_cols, grid.tiles
    (1024, 1024, 512)
    """
    elements = page_bytes // item
    if elements < 1:
        raise ResourceError(f"a page of {page_bytes} bytes holds no element of {item} bytes")
    tile_rows = _at_most(rows, math.isqrt(elements))
    tile_cols = _at_most(cols, elements // tile_rows)
    across = math.ceil(cols / tile_cols)  # of about one width: a narrow last one wastes a page
    tile_cols = min(tile_cols, math.ceil(cols / across / _MULTIPLE) * _MULTIPLE)
    return Grid(rows, cols, item, _at_most(rows, elements // tile_cols), tile_cols)


def weight_grid(rows: int, cols: int, item: int, page_bytes: int) -> Grid:
    """Tiles of a weight: whole rows of a tall one, which lie in a file as they lie in pages.

    A product with a tall weight makes its many outputs in parts, from all of its fewer inputs.
    Other weights are cut as `grid_for` does.

    Examples
    --------
    >>> grid = weight_grid(131072, 4096, 4, 4 << 20)
    >>> grid.tile_rows, grid.tile_cols
    (256, 4096)
    >>> grid = weight_grid(4096, 4096, 4, 4 << 20)
    >>> grid.tile_rows, grid.tile_cols
    (1024, 1024)
    """
    fitting = page_bytes // max(cols * item, 1)
    if rows < _TALL * cols or fitting < _MULTIPLE:
        return grid_for(rows, cols, item, page_bytes)
    return Grid(rows, cols, item, _at_most(rows, fitting), cols)


def _at_most(all_of: int, fitting: int) -> int:
    """All if they fit, else a number that kernels like; at least 1."""
    return max(1, all_of if all_of <= fitting else fitting // _MULTIPLE * _MULTIPLE or fitting)
