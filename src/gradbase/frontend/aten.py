"""One functional ATen operator -> one tensor operator of ours, or a `TorchOp` kept by name."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from gradbase.errors import UnsupportedError, near
from gradbase.ir.aten import ALLOWED
from gradbase.ir.shapes import BATCH, Shape
from gradbase.ir.tensor import (
    DTYPES,
    Binary,
    Concat,
    Const,
    Embedding,
    Linear,
    MatMul,
    Reshape,
    Softmax,
    Tensor,
    TorchOp,
    Unary,
)

IDENTITIES = frozenset(
    ("alias.default", "clone.default", "contiguous.default", "detach.default",
     "dropout.default", "lift_fresh_copy.default")
)  # fmt: skip
"""Operators whose result, in eval mode, equals their first argument."""

DROPPED = frozenset(
    ("_assert_async.msg", "_assert_scalar.default", "_assert_tensor_metadata.default",
     "sym_constrain_range.default", "sym_constrain_range_for_size.default")
)  # fmt: skip
"""Checks that tracing leaves behind, without a result."""

# `view` needs a memory layout that a plan does not promise: kept, it becomes `reshape`.
VIEWS = ("view.default", "_unsafe_view.default", "reshape.default")
_RESHAPES = frozenset(
    ("_unsafe_view.default", "flatten.using_ints", "reshape.default", "squeeze.default",
     "squeeze.dim", "squeeze.dims", "unflatten.int", "unsqueeze.default", "view.default")
)  # fmt: skip

_UNARY = {
    f"{name}.default": name
    for name in ("exp", "gelu", "log", "neg", "relu", "selu", "sigmoid", "silu", "sqrt", "tanh",
                 "elu", "softplus", "relu6")
}  # fmt: skip
_BINARY = {
    "add.Tensor": "add", "sub.Tensor": "sub", "mul.Tensor": "mul", "div.Tensor": "div",
    "add.Scalar": "add", "sub.Scalar": "sub", "mul.Scalar": "mul", "div.Scalar": "div",
    "maximum.default": "maximum", "minimum.default": "minimum",
}  # fmt: skip
_PLACEMENT = ("device", "layout", "memory_format", "pin_memory", "non_blocking")


@dataclass(frozen=True)
class Call:
    """One operator of a traced program.

    Parameters
    ----------
    name : str
        The ATen overload, e.g. ``add.Tensor``.
    args, kwargs : list, dict
        Nodes, plain values, ``{"B": k}``, ``{"dtype": name}``, lists of them.
    shape, kind : Shape, str
        Of the result, as traced; a size -k is k times the batch size.
    output : int
        Which of several results.
    """

    name: str
    args: list[Any]
    kwargs: dict[str, Any]
    shape: Shape
    kind: str
    output: int = 0


def translate(call: Call) -> Tensor:
    """The operator of `call`; UnsupportedError naming it where it is unknown or not pure."""
    first = call.args[0] if call.args else None
    if isinstance(first, Tensor) and (call.name in IDENTITIES or _same_dtype(call, first)):
        return first
    named = call.kwargs.keys() - set(_PLACEMENT)
    known = None if named or call.output else _known(call)
    if known is not None and known.shape == call.shape and known.dtype == call.kind:
        return known
    return _kept(call)


def _same_dtype(call: Call, first: Tensor) -> bool:
    return call.name == "_to_copy.default" and first.dtype == call.kind


def _known(call: Call) -> Tensor | None:
    if call.name in _UNARY:
        return Unary(_UNARY[call.name], call.args[0]) if len(call.args) == 1 else None
    if call.name in _RESHAPES:
        return _reshape(call)
    case = _CASES.get(call.name)
    return case(call) if case is not None else None


def _reshape(call: Call) -> Tensor | None:
    x, shape = call.args[0], call.shape
    plain = shape[:1] == (BATCH,) and all(n > 0 for n in shape[1:])
    return Reshape(x, shape) if plain and x.shape[:1] == (BATCH,) else None


def _binary(call: Call) -> Tensor | None:
    if len(call.args) != 2:
        return None  # another alpha
    a, b = (
        Const((float(v),), (), call.kind) if isinstance(v, int | float) else v for v in call.args
    )  # a number takes the tensor's dtype
    if not (isinstance(a, Tensor) and isinstance(b, Tensor)):
        return None
    return Binary(_BINARY[call.name], a, b) if a.dtype == b.dtype == call.kind else None


def _linear(call: Call) -> Tensor | None:
    x, weight = call.args[0], call.args[1]
    bias = call.args[2] if len(call.args) > 2 else None
    return Linear(x, weight, bias) if len(weight.shape) == 2 and len(x.shape) >= 2 else None


def _matmul(call: Call) -> Tensor | None:
    a, b = call.args[0], call.args[1]
    return MatMul(a, b) if min(len(a.shape), len(b.shape)) >= 2 and a.dtype == b.dtype else None


def _softmax(call: Call) -> Tensor | None:
    return Softmax(call.args[0]) if call.args[1] in (-1, len(call.shape) - 1) else None


def _concat(call: Call) -> Tensor | None:
    axis = call.args[1] if len(call.args) > 1 else 0
    parts = tuple(call.args[0])
    same = len({(p.shape[:-1], p.dtype) for p in parts}) == 1
    return Concat(parts) if same and axis in (-1, len(call.shape) - 1) else None


def _embedding(call: Call) -> Tensor | None:
    weight, codes = call.args[0], call.args[1]
    if codes.dtype != "int64" or codes.shape not in ((BATCH,), (BATCH, 1)):
        return None
    found = Embedding(Reshape(codes, (BATCH, 1)) if len(codes.shape) == 1 else codes, weight)
    return found if found.shape == call.shape else Reshape(found, call.shape)


def _hardtanh(call: Call) -> Tensor | None:
    return Unary("relu6", call.args[0]) if call.args[1:] == [0, 6] else None


_CASES: dict[str, Callable[[Call], Tensor | None]] = {
    **dict.fromkeys(_BINARY, _binary),
    "linear.default": _linear,
    "matmul.default": _matmul,
    "mm.default": _matmul,
    "bmm.default": _matmul,
    "_softmax.default": _softmax,
    "softmax.int": _softmax,
    "cat.default": _concat,
    "embedding.default": _embedding,
    "hardtanh.default": _hardtanh,
}
TRANSLATED = frozenset({*_UNARY, *_RESHAPES, *VIEWS, *_CASES})
"""Operators with a counterpart of our own, whether they may be kept by name or not."""


def _kept(call: Call) -> TorchOp:
    args, target = call.args, call.name
    if target in VIEWS:
        # With explicit sizes: -1 would be ambiguous for a batch without rows.
        args = [call.args[0], [{"B": -n} if n < 0 else n for n in call.shape]]
        target = "reshape.default"
    if target not in ALLOWED:
        raise UnsupportedError(
            f"the operator `{call.name}` has no place in a stored network",
            hint=near(call.name, ALLOWED) or "compute that part before or outside the module",
        )
    inputs: list[Tensor] = []
    coded = [_coded(a, inputs) for a in args]
    named = {k: _coded(v, inputs) for k, v in call.kwargs.items() if k not in _PLACEMENT}
    if named:
        coded.append({"**": dict(sorted(named.items()))})
    return TorchOp(target, tuple(inputs), json.dumps(coded), call.shape, call.kind, call.output)


def _coded(value: Any, inputs: list[Tensor]) -> Any:
    if isinstance(value, Tensor):
        if value not in inputs:
            inputs.append(value)
        return {"$": inputs.index(value)}
    if isinstance(value, list):
        return [_coded(v, inputs) for v in value]
    return value


def checked_dtype(name: str) -> str:
    """`name` without its ``torch.`` if the IR has that dtype; UnsupportedError if not."""
    plain = name.removeprefix("torch.")
    if plain not in DTYPES:
        raise UnsupportedError(
            f"the module computes in {plain}; plans know {', '.join(DTYPES)}",
            hint="compute in float32 inside forward()",
        )
    return plain
