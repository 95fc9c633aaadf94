"""Tree ensembles of ``ai.onnx.ml`` as `Trees`."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from gradbase.errors import DataError, UnsupportedError
from gradbase.importing.building import Builder, Value
from gradbase.importing.onnx_calls import Call
from gradbase.ir.imported import Trees

Ints = npt.NDArray[np.int64]


def summed(c: Call, prefix: str, outputs: int) -> Value:
    """What all trees say, Tensor[B, outputs] float64; `prefix` is ``target`` or ``class``."""
    places = _Places(c)
    of = {k: _list(c, f"{prefix}_{k}") for k in ("treeids", "nodeids", "ids", "weights")}
    rows = places.find(of["treeids"], of["nodeids"])
    targets = of["ids"]
    if len({len(v) for v in of.values()}) != 1 or (
        len(targets) and not 0 <= targets.min() <= targets.max() < outputs
    ):
        raise DataError(
            f"the leaves of {c.step.name or c.step.op} speak of {outputs} outputs wrongly"
        )
    value = np.zeros((places.count, outputs))
    np.add.at(value, (rows, targets), of["weights"].astype(np.float64))
    return ensemble(c.b, c.get(0), places, value)


def ensemble(b: Builder, x: Value, places: _Places, value: npt.NDArray[np.float64]) -> Value:
    """The operator; the input's numbers are compared in their own precision."""
    import torch

    if x.rank != 2:
        raise UnsupportedError(f"trees over a tensor of rank {x.rank}")
    precision = "float64" if x.dtype == "float64" else "float32"
    width = x.shape[1]
    if places.feature.max(initial=0) >= width or places.feature.min(initial=0) < 0:
        raise DataError(f"a tree asks for number {places.feature.max()} of rows of {width}")
    wide = x if x.dtype == "float64" else b.call("_to_copy.default", x, dtype=("dtype", "float64"))

    def kept(array: npt.NDArray[Any]) -> Any:
        return b.constants.tensor(lambda: array)

    node = Trees(
        b.node(wide), kept(places.roots), kept(places.feature), kept(places.limit(precision)),
        kept(places.left), kept(places.right), kept(places.missing_left), kept(value),
        places.depth, precision,
    )  # fmt: skip
    made = b.input(node)
    assert made.pair[0].dtype == torch.float64
    return made


def _list(c: Call, name: str) -> npt.NDArray[Any]:
    return np.asarray(c.attribute(name, []))


class _Places:
    """The nodes of all trees in one numbering."""

    def __init__(self, c: Call) -> None:
        trees, nodes = _list(c, "nodes_treeids"), _list(c, "nodes_nodeids")
        self.count = len(nodes)
        modes: list[str] = c.attribute("nodes_modes", [])
        lists = {
            k: _list(c, f"nodes_{k}")
            for k in ("featureids", "truenodeids", "falsenodeids", "values")
        }
        if not self.count or {len(trees), len(modes), *(len(v) for v in lists.values())} != {
            self.count
        }:
            raise DataError(f"the lists of {c.step.name or c.step.op} differ in length")
        self._numbers = {
            k: i for i, k in enumerate(zip(trees.tolist(), nodes.tolist(), strict=True))
        }
        own = np.arange(self.count)
        self.modes = np.array(modes)
        branch = self.modes != "LEAF"
        true, false = own.copy(), own.copy()
        true[branch] = self.find(trees[branch], lists["truenodeids"][branch])
        false[branch] = self.find(trees[branch], lists["falsenodeids"][branch])
        tracks = _list(c, "nodes_missing_value_tracks_true")
        tracks = tracks.astype(bool) if len(tracks) == self.count else np.zeros(self.count, bool)
        if (true[branch] == own[branch]).any() or (false[branch] == own[branch]).any():
            raise DataError("the trees are cyclic: a node is its own child")
        swapped = np.isin(self.modes, ("BRANCH_GT", "BRANCH_GTE"))
        known = ("LEAF", "BRANCH_LEQ", "BRANCH_LT", "BRANCH_GT", "BRANCH_GTE")
        if not np.isin(self.modes, known).all():
            raise UnsupportedError(f"trees that branch by {sorted(set(modes) - {*known})}")
        self.left, self.right = np.where(swapped, false, true), np.where(swapped, true, false)
        # Where a comparison that is false for NaN has been turned round, NaN stays on its side.
        self.missing_left = np.where(swapped, ~tracks, tracks)
        self.feature = np.where(branch, lists["featureids"], 0).astype(np.int64)
        self._limits = lists["values"].astype(np.float64)
        self.roots = self._roots(branch)[None]
        self.depth = self._depth()

    def find(self, trees: npt.NDArray[Any], nodes: npt.NDArray[Any]) -> Ints:
        """Numbers of the nodes; DataError where there is none."""
        pairs = zip(trees.tolist(), nodes.tolist(), strict=True)
        try:
            return np.array([self._numbers[p] for p in pairs], np.int64)
        except KeyError as error:
            raise DataError(f"a tree speaks of node {error}, which it does not have") from None

    def limit(self, precision: str) -> npt.NDArray[np.float64]:
        """``<`` is ``<=`` of the next smaller number of the precision."""
        kind = np.float64 if precision == "float64" else np.float32
        exact = self._limits.astype(kind)
        below = np.nextafter(exact, kind(-np.inf))
        strict = np.isin(self.modes, ("BRANCH_LT", "BRANCH_GTE"))
        return np.where(strict, below, exact).astype(np.float64)

    def _roots(self, branch: npt.NDArray[np.bool_]) -> Ints:
        reached = np.zeros(self.count, bool)
        reached[self.left[branch]] = reached[self.right[branch]] = True
        found = np.flatnonzero(~reached)
        if not len(found):
            raise DataError("the trees have no root: they are cyclic")
        return found

    def _depth(self) -> int:
        """The longest way down; DataError where two ways meet or one never ends."""
        level, seen, depth = self.roots[0], 0, 0
        while len(level):
            seen += len(level)
            if seen > self.count:
                raise DataError("the trees are cyclic")
            inner = level[self.left[level] != level]
            level = np.concatenate([self.left[inner], self.right[inner]])
            depth += 1
        return depth - 1
