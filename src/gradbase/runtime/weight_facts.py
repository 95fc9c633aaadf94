"""What the optimiser may ask of weights (`ir.facts.Weights`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from gradbase.errors import GradbaseError
from gradbase.ir.facts import Range, Settled
from gradbase.ir.imported import Trees
from gradbase.ir.tensor import Tensor, Unary
from gradbase.runtime.constants import constant_value
from gradbase.runtime.encode import Blobs
from gradbase.runtime.intervals import Array, Intervals
from gradbase.runtime.trees import Tables, pruned

_MOST_BYTES = 4 << 20
"""Larger constants are not read while a statement is planned."""


class WeightFacts:
    """Looks into constants of up to 4 MB.

    Parameters
    ----------
    blobs : Blobs
        Where weights come from.
    """

    def __init__(self, blobs: Blobs) -> None:
        self._blobs = blobs

    def idle(self, weight: Tensor) -> frozenset[int] | None:
        """The columns of `weight` [outputs, inputs] that are 0 throughout; None: too large."""
        value = self._value(weight)
        if value is None:
            return None
        return frozenset(np.flatnonzero(~(value != 0).any(dim=0).numpy()).tolist())

    def tested(self, trees: Trees) -> tuple[frozenset[int], ...] | None:
        """By tree the features at nodes that a row may come to; None: too large."""
        found = self._pruned(trees)
        if found is None:
            return None
        (roots, feature, _, left, right, *_), _ = found
        return _below(roots[0].numpy(), feature.numpy(), left.numpy(), right.numpy())

    def size(self, trees: Trees) -> tuple[int, int] | None:
        """Nodes that a row may come to, and the longest way down; None: too large."""
        found = self._pruned(trees)
        return None if found is None else (len(found[0][1]), found[1])

    def _pruned(self, trees: Trees) -> tuple[Tables, int] | None:
        whole = [self._value(t) for t in trees.children[1:] if isinstance(t, Tensor)]
        tables = tuple(t for t in whole if t is not None)
        return pruned(tables, trees.bounds) if len(tables) == len(whole) else None

    def settled(
        self, outputs: Sequence[Tensor], ranges: Mapping[str, Range], *, imported: bool
    ) -> Mapping[Unary, Settled]:
        """ReLUs below `outputs`, children first, and their places of one sign."""
        content: dict[Tensor, Array | None] = {}

        def constant(tensor: Tensor) -> Array | None:
            if tensor not in content:
                value = self._value(tensor)
                content[tensor] = None if value is None else value.double().numpy()
            return content[tensor]

        known = Intervals(ranges, constant, imported=imported).of(outputs)
        found: dict[Unary, Settled] = {}
        for t in known:
            if isinstance(t, Unary) and t.op == "relu" and len(t.shape) == 2:
                low, high = known[t.x]
                dead, linear = (
                    np.flatnonzero(high <= 0.0),
                    np.flatnonzero((low >= 0.0) & (high > 0.0)),
                )
                if len(dead) or len(linear):
                    found[t] = Settled(tuple(dead.tolist()), tuple(linear.tolist()))
        return found

    def _value(self, tensor: Tensor) -> torch.Tensor | None:
        if tensor.inputs or sum(p.size_bytes for p in tensor.params) > _MOST_BYTES:
            return None
        try:
            return constant_value(tensor, self._blobs)
        except GradbaseError:  # whoever runs the plan says what is wrong with the store
            return None


def _below(
    roots: np.ndarray, feature: np.ndarray, left: np.ndarray, right: np.ndarray
) -> tuple[frozenset[int], ...]:
    """The features of the inner nodes below each root."""
    found: list[set[int]] = [set() for _ in roots]
    tree, level = np.arange(len(roots)), roots
    while len(level):
        inner = left[level] != level
        tree, level = tree[inner], level[inner]
        for t, f in zip(tree.tolist(), feature[level].tolist(), strict=True):
            found[t].add(f)
        tree, level = np.concatenate([tree, tree]), np.concatenate([left[level], right[level]])
    return tuple(frozenset(f) for f in found)
