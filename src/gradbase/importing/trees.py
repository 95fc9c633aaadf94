"""Trees of scikit-learn as one `Trees` operator."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from gradbase.importing.columns import Inputs
from gradbase.ir.imported import Trees
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
    placed = list(zip(trees, starts.tolist(), strict=True))

    def kept(parts: Sequence[npt.NDArray[Any]], dtype: type) -> Tensor:
        return constant(np.concatenate(parts).astype(dtype), inputs.params)

    return Trees(
        x,
        kept([starts[None]], np.int64),
        kept([np.maximum(t.feature, 0) for t in trees], np.int64),
        kept([t.threshold for t in trees], np.float64),
        kept([_next(t.children_left, start) for t, start in placed], np.int64),
        kept([_next(t.children_right, start) for t, start in placed], np.int64),
        kept([np.asarray(t.missing_go_to_left) for t in trees], np.bool_),
        kept(values, np.float64),
        max(t.max_depth for t in trees),
    )


def averaged(inputs: Inputs, trees: Sequence[Any], values: Sequence[Floats], x: Tensor) -> Tensor:
    """As `walked`, the mean."""
    total = walked(inputs, trees, values, x)
    return Binary("div", total, inputs.constant([float(len(trees))])) if len(trees) > 1 else total


def _next(children: npt.NDArray[Any], start: int) -> npt.NDArray[np.int64]:
    """Numbers of the nodes behind each node; a leaf stays where it is."""
    own = np.arange(len(children))
    return np.where(children < 0, own, children) + start
