"""Which tensor operators can be computed a part of the last dimension at a time, and how.

===========  =====================================================================================
way          a part of the result needs
===========  =====================================================================================
pointwise    the same part of its inputs
concat       the same part of one or more of its inputs
linear       the whole input, or adds up over parts of it; a part of the weights either way
rowwise      numbers per row (maximum, sum, mean) gathered in a pass before, then the same part
gather       some rows of the weights
window       a part of the input that is a little larger: convolution and pooling in strips
reshape      the input as it lies in memory
whole        everything
===========  =====================================================================================
"""

from __future__ import annotations

import json
from typing import Any

from gradbase.ir.tensor import (
    Binary,
    Concat,
    Embedding,
    Linear,
    MatMul,
    Param,
    Reshape,
    Softmax,
    Tensor,
    TorchOp,
    Unary,
)

WAYS = ("pointwise", "concat", "linear", "rowwise", "gather", "window", "reshape", "whole")

_POINTWISE = frozenset(
    f"{name}.default"
    for name in ("abs", "ceil", "celu", "clamp", "clamp_min", "clamp_max", "cos", "elu", "erf",
                 "erfc", "exp", "exp2", "expm1", "floor", "gelu", "hardsigmoid", "hardswish",
                 "hardtanh", "leaky_relu", "log", "log10", "log1p", "log2", "log_sigmoid", "mish",
                 "neg", "reciprocal", "relu", "relu6", "round", "rsqrt", "selu", "sigmoid",
                 "sign", "silu", "sin", "softplus", "sqrt", "square", "tan", "tanh", "threshold",
                 "trunc")
) | frozenset(
    ("add.Scalar", "add.Tensor", "div.Scalar", "div.Tensor", "mul.Scalar", "mul.Tensor",
     "pow.Tensor_Scalar", "rsub.Scalar", "sub.Scalar", "sub.Tensor", "maximum.default",
     "minimum.default", "where.self", "eq.Scalar", "ge.Scalar", "gt.Scalar", "le.Scalar",
     "lt.Scalar", "ne.Scalar", "_to_copy.default")
)  # fmt: skip
_CONVOLUTIONS = {"conv1d.default": 1, "conv2d.default": 2, "convolution.default": 0}
_POOLS = {"max_pool2d.default": 2, "avg_pool2d.default": 2, "max_pool1d.default": 1,
          "avg_pool1d.default": 1}  # fmt: skip
_ROWWISE = ("_log_softmax.default", "log_softmax.int", "_softmax.default", "softmax.int")


def way_of(node: Tensor) -> str:
    """How `node` may be split, one of `WAYS`."""
    if not _of_rows(node):
        return "whole"
    match node:
        case Unary():
            return "pointwise"
        case Binary(a=a, b=b):
            return "pointwise" if all(_along(c, node) for c in (a, b)) else "whole"
        case Concat():
            return "concat"
        case Linear(weight=weight):
            return "linear" if len(weight.shape) == 2 and not weight.inputs else "whole"
        case MatMul(b=b):
            return "linear" if len(b.shape) == 2 and not b.inputs else "whole"
        case Softmax():
            return "rowwise"
        case Embedding(weight=weight):
            return "gather" if isinstance(weight, Param) else "whole"
        case Reshape(x=x):
            return "reshape" if _by_rows(x) and _by_rows(node) else "whole"
        case TorchOp():
            return _torch_way(node)
    return "whole"


def weight_of(node: Tensor) -> Tensor:
    """The weight of an operator that is `linear`, `gather`, or a convolution, as it is stored."""
    match node:
        case Linear(weight=weight):
            return _turned(weight) or weight
        case Embedding(weight=weight):
            return weight
        case MatMul(b=b):
            return b
        case TorchOp(target="embedding.default", inputs_=inputs):
            return inputs[0]
        case TorchOp(inputs_=inputs):
            return inputs[1]
    raise AssertionError(f"{type(node).__name__} has no weight")


def is_turned(node: Tensor) -> bool:
    """Whether the rows of a product's weight, as it is stored, are its inputs."""
    return isinstance(node, MatMul) or (
        isinstance(node, Linear) and _turned(node.weight) is not None
    )


def _turned(weight: Tensor) -> Param | None:
    """What `weight` is the transpose of."""
    match weight:
        case TorchOp(target="permute.default", inputs_=(Param() as stored,)):
            return stored if arguments_of(weight)[1] in ([1, 0], [-1, -2]) else None
        case TorchOp(target="t.default", inputs_=(Param() as stored,)):
            return stored if len(stored.dims) == 2 else None
    return None


def arguments_of(node: TorchOp) -> list[Any]:
    """Positional arguments as JSON has them, ``{"$": i}`` for tensors; keywords at the end."""
    return json.loads(node.arguments)


def _torch_way(node: TorchOp) -> str:
    target, given = node.target, arguments_of(node)
    if target in _POINTWISE:
        return "pointwise" if all(_along(c, node) for c in node.inputs_) else "whole"
    if any(isinstance(g, dict) and "**" in g for g in given) or node.output:
        return "whole"
    if target in _ROWWISE:
        return "rowwise" if given[1] in (-1, len(node.shape) - 1) else "whole"
    if target in ("layer_norm.default", "rms_norm.default"):
        constants = all(isinstance(c, Param) for c in node.inputs_[1:])
        return "rowwise" if len(given[1]) == 1 and constants else "whole"
    if target == "embedding.default":
        return "gather" if isinstance(node.inputs_[0], Param) and len(given) == 2 else "whole"
    if target in _CONVOLUTIONS:
        return "window" if _is_plain_convolution(node, given) else "whole"
    if target in _POOLS:
        plain = _by_rows(node) and len(node.shape) == 2 + _POOLS[target] and not any(given[4:])
        return "window" if plain else "whole"
    return "whole"


def _is_plain_convolution(node: TorchOp, given: list[Any]) -> bool:
    """Over rows of images, not transposed, padding in numbers."""
    spatial = len(node.shape) - 2
    if spatial not in (1, 2) or not _by_rows(node) or not isinstance(node.inputs_[1], Param):
        return False
    if len(given) > 4 and isinstance(given[4], str):
        return False
    return node.target != "convolution.default" or not given[6]


def _of_rows(node: Tensor) -> bool:
    """Whether the batch is one dimension, not the last."""
    shape = node.shape
    return len(shape) >= 2 and sum(n < 0 for n in shape) == 1 and 0 not in shape and shape[-1] > 0


def _by_rows(node: Tensor) -> bool:
    """Whether the batch comes first: what is of a row lies side by side."""
    return _of_rows(node) and node.shape[0] < 0


def _along(part: Tensor, whole: Tensor) -> bool:
    """Whether a part of `whole` needs the same part of `part`, or all of it where it is one."""
    shape = part.shape
    return not shape or shape[-1] in (1, whole.shape[-1])


def groups_of(node: TorchOp) -> int:
    """Groups of channels of a convolution."""
    given = arguments_of(node)
    at = 8 if node.target == "convolution.default" else 6
    return given[at] if len(given) > at else 1
