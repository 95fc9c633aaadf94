"""Operators of ATen by name."""

from __future__ import annotations

import json
from typing import Any

from gradbase.ir.shapes import Shape
from gradbase.ir.tensor import Tensor, TorchOp


def aten(
    target: str, inputs: tuple[Tensor, ...], arguments: list[Any], dims: Shape, kind: str
) -> Tensor:
    """An operator of the first of `inputs` and `arguments` (their format: `gradbase.ir.aten`)."""
    return TorchOp(target, inputs, json.dumps([{"$": 0}, *arguments]), dims, kind)


def cast(x: Tensor, kind: str) -> Tensor:
    """`x` as another dtype."""
    named = {"**": {"dtype": {"dtype": kind}}}
    return x if x.dtype == kind else aten("_to_copy.default", (x,), [named], x.shape, kind)
