"""Trees of scikit-learn as tensor operators: every row walks down all trees at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from gradbase.importing.aten import aten, cast
from gradbase.importing.columns import Inputs
from gradbase.ir.shapes import BATCH
from gradbase.ir.tensor import Binary, Tensor
from gradbase.runtime.train.features import constant

Floats = npt.NDArray[np.float64]


def walked(inputs: Inputs, trees: Sequence[Any], values: Sequence[Floats], x: Tensor) -> Tensor:
    """The sum of what trees say of `x` [B, n]: Tensor[B, outputs] float64.

    Numbers are compared as float32, as scikit-learn does; NaN goes where it went in training.

    Parameters
    ----------
    trees : sequence of sklearn.tree._tree.Tree
    values : sequence of Array[nodes, outputs]
        What the nodes of each tree say.
    """
    starts = np.cumsum([0, *(t.node_count for t in trees)])[:-1]
    nodes = _Nodes(inputs, trees, starts)
    numbers = cast(cast(x, "float32"), "float64")
    roots = constant(starts.astype(np.int64)[None], inputs.params)
    width = len(trees)
    at = aten("expand.default", (roots,), [[{"B": 1}, width]], (BATCH, width), "int64")
    for _ in range(max(t.max_depth for t in trees)):
        at = nodes.step(numbers, at)
    value = constant(np.concatenate(values).astype(np.float64), inputs.params)
    outputs = value.shape[1]
    said = aten("index.Tensor", (value, at), [[{"$": 1}]], (BATCH, width, outputs), "float64")
    return aten("sum.dim_IntList", (said,), [[1]], (BATCH, outputs), "float64")


class _Nodes:
    """The nodes of all trees, numbered one tree after the other."""

    def __init__(self, inputs: Inputs, trees: Sequence[Any], starts: npt.NDArray[np.int64]) -> None:
        def kept(parts: list[npt.NDArray[Any]], dtype: type) -> Tensor:
            return constant(np.concatenate(parts).astype(dtype), inputs.params)

        placed = list(zip(trees, starts.tolist(), strict=True))
        self.left = kept([_next(t.children_left, start) for t, start in placed], np.int64)
        self.right = kept([_next(t.children_right, start) for t, start in placed], np.int64)
        self.feature = kept([np.maximum(t.feature, 0) for t in trees], np.int64)
        self.limit = kept([t.threshold for t in trees], np.float64)
        self.missing_left = kept([np.asarray(t.missing_go_to_left) for t in trees], np.bool_)

    def step(self, numbers: Tensor, at: Tensor) -> Tensor:
        """The nodes below `at` [B, trees]; a leaf stays where it is."""

        def of(table: Tensor) -> Tensor:
            return aten("index.Tensor", (table, at), [[{"$": 1}]], at.shape, table.dtype)

        feature = of(self.feature)
        number = aten("gather.default", (numbers, feature), [1, {"$": 1}], at.shape, "float64")
        low = aten("le.Tensor", (number, of(self.limit)), [{"$": 1}], at.shape, "bool")
        missing = aten("isnan.default", (number,), [], at.shape, "bool")
        both = (missing, of(self.missing_left))
        strayed = aten("bitwise_and.Tensor", both, [{"$": 1}], at.shape, "bool")
        left = aten("bitwise_or.Tensor", (low, strayed), [{"$": 1}], at.shape, "bool")
        sides = (left, of(self.left), of(self.right))
        return aten("where.self", sides, [{"$": 1}, {"$": 2}], at.shape, "int64")


def averaged(inputs: Inputs, trees: Sequence[Any], values: Sequence[Floats], x: Tensor) -> Tensor:
    """As `walked`, the mean."""
    total = walked(inputs, trees, values, x)
    return Binary("div", total, inputs.constant([float(len(trees))])) if len(trees) > 1 else total


def _next(children: npt.NDArray[Any], start: int) -> npt.NDArray[np.int64]:
    """Numbers of the nodes behind each node; a leaf stays where it is."""
    own = np.arange(len(children))
    return np.where(children < 0, own, children) + start
