"""Neighbouring linear operators of a network become one layer."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

from gradbase.ir.learning import Predict
from gradbase.ir.node import Node, walk
from gradbase.ir.shapes import BATCH
from gradbase.ir.tensor import (
    Binary,
    Concat,
    Const,
    Linear,
    MatMul,
    Reshape,
    Tensor,
    TorchOp,
    Unary,
)
from gradbase.optimizer.analyses.networks import times, with_outputs
from gradbase.optimizer.context import Choice, Context
from gradbase.optimizer.rule import rule

_EVERYTHING = 2**31
"""Where a slice of rows ends that has no end."""
_BATCH_NORM = "_native_batch_norm_legit_no_training.default"


@rule(
    requires=("extract_predictions",),
    exactness="tolerance",
    source="indb inference 2.2 R6; weights are multiplied when a program is compiled",
)
def fuse_layers(n: Node, ctx: Context) -> Node | None:
    """Predict with one layer instead of: a layer on a layer, a scaler before or a batch norm after.

    Of columns side by side of which some are taken only these are put side by side (two towers).
    Weights stay symbolic: what follows from constants alone is computed once, with the program. Two
    layers become one only where that has fewer multiplications, and nothing else reads the first.
    """
    if not isinstance(n, Predict) or n.representation:
        return None
    readers = Counter(
        c for m in n.methods for t in walk(n.model.output(m)) for c in set(t.children)
    )

    def change(t: Node) -> Node | None:
        match t:
            case Linear(x=Linear() as inner) if readers[t.x] <= 1:
                return _both(t, inner)
            case Linear(x=Binary() as scaled):
                return _scaled(t, scaled)
            case TorchOp(target="slice.Tensor", inputs_=(x,)):
                return _sliced(t, x)
            case TorchOp(target=target, inputs_=(Linear() as layer, *_)) if target == _BATCH_NORM:
                return _normalised(t, layer) if readers[layer] <= 1 else None
        return None

    outputs = with_outputs(n.model, n.methods, change)
    if outputs == tuple(n.model.output(m) for m in dict.fromkeys(n.methods)):
        return None
    changed = n.replace(model=n.model.replace(outputs=outputs))
    saved = n.model.flops - changed.model.flops
    ctx.chose(n, changed, Choice("fused", f"{saved:,.0f} FLOPs a row less"))
    return changed


def _constant(t: Tensor | None) -> bool:
    return t is not None and not t.inputs


def _plus(a: Tensor | None, b: Tensor) -> Tensor:
    return b if a is None else Binary("add", a, b)


def _sliced(taken: TorchOp, x: Tensor) -> Tensor | None:
    """All rows, or neighbouring columns of some put side by side."""
    arguments: list[Any] = json.loads(taken.arguments)
    plain = len(arguments) == 4 or (len(arguments) == 5 and arguments[4] == 1)
    if not plain or not all(isinstance(a, int) for a in arguments[1:]):
        return None
    dim, start, stop = arguments[1:4]
    if dim == 0 and x.shape[:1] == (BATCH,):
        return x if start == 0 and stop >= _EVERYTHING else None
    if not isinstance(x, Concat) or len(x.shape) != 2 or dim not in (1, -1) or start < 0:
        return None
    found: list[Tensor] = []
    at = 0
    for part in x.parts:
        if start <= at and at + part.shape[-1] <= stop:
            found.append(part)
        at += part.shape[-1]
    if not found or sum(p.shape[-1] for p in found) != taken.shape[-1]:
        return None
    return found[0] if len(found) == 1 else Concat(tuple(found))


def _both(outer: Linear, inner: Linear) -> Linear | None:
    """A layer on a layer."""
    inputs, hidden, outputs = inner.weight.shape[1], inner.weight.shape[0], outer.weight.shape[0]
    fewer = inputs * outputs <= inputs * hidden + hidden * outputs
    whole = all(w.inputs == () for w in (outer.weight, inner.weight))
    if not fewer or not whole or len(inner.x.shape) != 2:
        return None
    bias = outer.bias
    if inner.bias is not None:
        bias = _plus(bias, times(outer.weight, inner.bias))
    return Linear(inner.x, MatMul(outer.weight, inner.weight), bias)


def _scaled(layer: Linear, scaled: Binary) -> Linear | None:
    """A layer on ``x op vector``."""
    x, vector = scaled.a, scaled.b
    if not _constant(vector) and scaled.op in ("add", "mul"):
        x, vector = vector, x
    inputs = layer.weight.shape[1]
    sizes = ((inputs,), (1, inputs), *(((),) if scaled.op in ("mul", "div") else ()))
    if (
        not _constant(vector)
        or _constant(x)
        or vector.shape not in sizes
        or x.shape != (BATCH, inputs)
    ):
        return None
    if layer.weight.inputs or scaled.dtype != layer.weight.dtype:
        return None
    flat = Reshape(vector, (inputs,)) if len(vector.shape) == 2 else vector
    match scaled.op:
        case "mul" | "div":
            return Linear(x, Binary(scaled.op, layer.weight, flat), layer.bias)
        case "add" | "sub":
            shift = times(layer.weight, flat)
            shift = Unary("neg", shift) if scaled.op == "sub" else shift
            return Linear(x, layer.weight, _plus(layer.bias, shift))
    return None


def _normalised(norm: TorchOp, layer: Linear) -> Linear | None:
    """A batch norm, by the statistics of the training, behind a layer."""
    arguments: list[Any] = json.loads(norm.arguments)
    found = [norm.inputs_[a["$"]] for a in arguments[1:5] if isinstance(a, dict) and "$" in a]
    outputs = layer.weight.shape[0]
    plain = len(found) == 4 and all(_constant(t) and t.shape == (outputs,) for t in found)
    if not plain or norm.output or len(norm.shape) != 2 or layer.weight.inputs:
        return None
    weight, bias, mean, variance = found
    safe = Binary("add", variance, Const((float(arguments[6]),), (), variance.dtype))
    scale = Binary("div", weight, Unary("sqrt", safe))
    centre = mean if layer.bias is None else Binary("sub", mean, layer.bias)
    shift = Binary("sub", bias, Binary("mul", centre, scale))
    columns = Reshape(scale, (outputs, 1))
    return Linear(layer.x, Binary("mul", layer.weight, columns), shift)
