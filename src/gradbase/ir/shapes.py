"""Shapes of tensors: tuples of sizes, the first of what depends on rows being `BATCH`."""

from __future__ import annotations

import math

from gradbase.errors import ShapeError

BATCH = -1
Shape = tuple[int, ...]


def elements(shape: Shape) -> int:
    """Number of elements per row (the batch dimension counts 1; a size -k, k batches, counts k)."""
    return math.prod(abs(n) for n in shape)


def broadcast(a: Shape, b: Shape) -> Shape:
    """NumPy's broadcast of two shapes."""
    longest = max(len(a), len(b))
    left = (1,) * (longest - len(a)) + a
    right = (1,) * (longest - len(b)) + b
    if any(x != y and 1 not in (x, y) for x, y in zip(left, right, strict=True)):
        raise ShapeError(f"shapes {list(a)} and {list(b)} do not broadcast")
    return tuple(y if x == 1 else x for x, y in zip(left, right, strict=True))
