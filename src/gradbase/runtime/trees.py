"""Tree ensembles: every row walks down all trees at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import torch

from gradbase.ir.imported import Trees

Ints = npt.NDArray[np.int64]
Tables = tuple[torch.Tensor, ...]


def trees_operator(node: Trees) -> Callable[[Sequence[torch.Tensor], int], torch.Tensor]:
    """The function of `node`; what its bounds make superfluous is cut off at the first call."""
    cut: list[tuple[Tables, int]] = []

    def run(v: Sequence[torch.Tensor], rows: int) -> torch.Tensor:
        if not cut:
            cut.append(cut_off(node, tuple(v[1:])))
        return fallen(node, v[0], *cut[0], rows)

    return run


def fallen(
    node: Trees, x: torch.Tensor, tables: Sequence[torch.Tensor], depth: int, rows: int
) -> torch.Tensor:
    """Where rows of `x` end up in trees with these `tables` of at most `depth`, added up."""
    roots, feature, limit, left, right, missing_left, value = tables
    numbers = x.to(getattr(torch, node.precision)).to(limit.dtype)
    at = roots.expand(rows, -1)
    for _ in range(depth):
        number = numbers.gather(1, feature[at])
        strayed = number.isnan() & missing_left[at]
        at = torch.where((number <= limit[at]) | strayed, left[at], right[at])
    return value[at].sum(dim=1)


def cut_off(node: Trees, tables: Tables) -> tuple[Tables, int]:
    """What a row may come to: its tables, whose features are numbered as in ``node.x``; the depth.

    Features that are not there are those that no tree tests once it is pruned.
    """
    if not (node.bounds or node.places):
        return tables, node.depth
    made, depth = pruned(tables, node.bounds)
    return (_placed(made, node.places) if node.places else made), depth


def _placed(tables: Tables, places: tuple[int, ...]) -> Tables:
    """`tables` whose features are numbered by where `places` has them; leaves test the first."""
    feature = tables[1].numpy()
    number = np.zeros(max(int(feature.max(initial=0)), *places) + 1, np.int64)
    number[list(places)] = np.arange(len(places))
    return (tables[0], torch.from_numpy(number[feature]), *tables[2:])


def pruned(tables: Tables, bounds: tuple[float, ...]) -> tuple[Tables, int]:
    """Roots and nodes without branches outside of `bounds` (see `Trees`), and the depth then."""
    roots, feature, limit, left, right, missing_left = (t.numpy() for t in tables[:6])
    low, high = np.full(len(feature), -np.inf), np.full(len(feature), np.inf)
    for place, least, most in zip(bounds[0::3], bounds[1::3], bounds[2::3], strict=True):
        low[feature == int(place)], high[feature == int(place)] = least, most
    inner = left != np.arange(len(left))
    never_nan = np.isfinite(high)  # a limit may be infinite: only NaN goes right there
    always_left = inner & (high <= limit) & never_nan
    always_right = inner & (low > limit) & (never_nan | ~missing_left)
    # A node with one way only is left out: whoever leads to it leads to where that way ends.
    goes = np.where(always_left, left, np.where(always_right, right, np.arange(len(left))))
    while not np.array_equal(goes, goes[goes]):
        goes = goes[goes]
    roots, left, right = goes[roots], goes[left], goes[right]
    kept, depth = _reached(roots[0], left, right)
    number = np.zeros(len(left), np.int64)
    number[kept] = np.arange(len(kept))
    made = [number[roots], feature[kept], limit[kept], number[left[kept]], number[right[kept]]]
    whole = tuple(torch.from_numpy(np.ascontiguousarray(m)) for m in made)
    return (*whole, tables[5][kept], tables[6][kept]), depth


def _reached(roots: Ints, left: Ints, right: Ints) -> tuple[Ints, int]:
    """The nodes below `roots`, in order, and the longest way down."""
    level, found, depth = np.unique(roots), [np.unique(roots)], 0
    while True:
        inner = level[left[level] != level]
        if not len(inner):
            return np.unique(np.concatenate(found)), depth
        level = np.concatenate([left[inner], right[inner]])
        found.append(level)
        depth += 1
