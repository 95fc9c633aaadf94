"""One torch function per tensor operator, chosen once when a program is compiled.

A function takes the values of the operator's inputs and the number of rows. Values are
Tensor[rows, …]; matrices are kept transposed in memory ([width, rows] seen as [rows, width]), as
columns come from Arrow.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F

from gradbase.errors import UnsupportedError
from gradbase.ir import aten
from gradbase.ir.factored import Looked, Picked
from gradbase.ir.imported import Trees
from gradbase.ir.shapes import Shape
from gradbase.ir.tensor import (
    Binary,
    Concat,
    Embedding,
    Linear,
    MatMul,
    OneHot,
    Reshape,
    Softmax,
    Tensor,
    TorchOp,
    Unary,
)
from gradbase.ir.unlabelled import Distances
from gradbase.runtime.trees import trees_operator

Values = Sequence[torch.Tensor]
Operator = Callable[[Values, int], torch.Tensor]

_UNARY: Mapping[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "relu": torch.relu,
    "relu6": F.relu6,
    "elu": F.elu,
    "selu": torch.selu,
    "gelu": F.gelu,
    "silu": F.silu,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "exp": torch.exp,
    "log": torch.log,
    "neg": torch.neg,
    "sqrt": torch.sqrt,
    "softplus": F.softplus,
}
_UNARY_IN_PLACE: Mapping[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "relu": torch.relu_,
    "selu": torch.selu_,
    "sigmoid": torch.sigmoid_,
    "tanh": torch.tanh_,
    "exp": torch.exp_,
    "neg": torch.neg_,
}
_BINARY: Mapping[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "add": torch.add,
    "sub": torch.sub,
    "mul": torch.mul,
    "div": torch.div,
    "maximum": torch.maximum,
    "minimum": torch.minimum,
}


def operator(node: Tensor, *, in_place: bool = False) -> Operator:
    """The function of `node`; with `in_place` it may overwrite its first input.

    Raises
    ------
    UnsupportedError
        The operator cannot be run, by name.
    """
    match node:
        case Unary(op=op):
            unary = _UNARY_IN_PLACE.get(op, _UNARY[op]) if in_place else _UNARY[op]
            return lambda v, _rows: unary(v[0])
        case Binary(op=op):
            binary = _BINARY[op]
            return lambda v, _rows: binary(v[0], v[1])
        case Linear():
            return _linear()
        case MatMul():
            return lambda v, _rows: torch.matmul(v[0], v[1])
        case Softmax():
            return lambda v, _rows: torch.softmax(v[0], dim=-1)
        case Concat():
            return lambda v, _rows: torch.cat(tuple(v), dim=-1)
        case Distances(cosine=cosine):
            return _cosines if cosine else _distances
        case OneHot(count=count):
            return lambda v, _rows: one_hot(v[0][:, 0], count).T
        case Embedding():
            return lambda v, _rows: v[1].index_select(0, v[0][:, 0])
        case Reshape(dims=dims):
            return lambda v, rows: v[0].reshape(sizes(dims, rows))
        case Looked():
            return _looked(len(node.codes), node.x is not None)
        case Picked(places=places, dim=dim):
            return lambda v, _rows: v[0].index_select(dim, torch.tensor(places))
        case Trees():
            return trees_operator(node)
        case TorchOp():
            return aten_operator(node)
    raise UnsupportedError(f"operator {type(node).__name__} cannot be run by torch")


def sizes(dims: Shape, rows: int) -> tuple[int, ...]:
    """`dims` with each size -k as k times `rows`."""
    return tuple(-n * rows if n < 0 else n for n in dims)


def one_hot(codes: torch.Tensor, count: int) -> torch.Tensor:
    """Codes Tensor[rows] to Tensor[count - 1, rows] float32; code 0 gives zeros."""
    made = torch.zeros((count, len(codes)))
    made.scatter_(0, codes[None, :], 1.0)
    return made[1:]


def _linear() -> Operator:
    buffer = Buffer()

    def run(v: Values, _rows: int) -> torch.Tensor:
        x, weight, bias = v[0], v[1], v[2] if len(v) > 2 else None
        if x.dim() != 2 or x.dtype != torch.float32:
            return F.linear(x, weight, bias)
        out = buffer.take(weight.shape[0], x.shape[0])  # some networks merge rows with another size
        return affine(weight, x.T, bias, out).T

    return run


def affine(
    weight: torch.Tensor, x: torch.Tensor, bias: torch.Tensor | None, out: torch.Tensor
) -> torch.Tensor:
    """``weight @ x + bias`` into `out` [outputs, rows]; x [inputs, rows]."""
    if bias is None:
        return torch.mm(weight, x, out=out)
    return torch.addmm(bias[:, None], weight, x, out=out)


class Buffer:
    """Memory for a matrix that is filled again and again, by one thread."""

    def __init__(self, dtype: torch.dtype = torch.float32) -> None:
        self._flat = torch.empty(0, dtype=dtype)
        self._view = self._flat.view(0, 0)

    def take(self, width: int, rows: int) -> torch.Tensor:
        """Tensor[width, rows], contiguous, with what happens to be in it."""
        if self._view.shape != (width, rows):
            if self._flat.numel() < width * rows:
                self._flat = torch.empty(width * rows, dtype=self._flat.dtype)
            self._view = self._flat[: width * rows].view(width, rows)
        return self._view


# -- ATen --------------------------------------------------------------------------------------


def aten_operator(node: TorchOp) -> Operator:
    """The function of a `TorchOp`; the format of its arguments: `gradbase.ir.aten`."""
    if node.target not in aten.ALLOWED:
        raise UnsupportedError(
            f"ATen operator `{node.target}` is not among those a model may use",
            hint="write the network with operators listed in gradbase.ir.aten",
        )
    name, _, overload = node.target.partition(".")
    function = getattr(getattr(torch.ops.aten, name), overload)
    template = json.loads(node.arguments)
    last: Any = template[-1] if template else None
    keywords: dict[str, Any] = {}
    if isinstance(last, dict) and "**" in last:
        template, keywords = template[:-1], last["**"]

    def run(v: Values, rows: int) -> torch.Tensor:
        positional = [_argument(a, v, rows) for a in template]
        named = {k: _argument(a, v, rows) for k, a in keywords.items()}
        result = function(*positional, **named)
        return result[node.output] if isinstance(result, (tuple, list)) else result

    return run


def _argument(element: Any, values: Values, rows: int) -> Any:
    """What an element of ``TorchOp.arguments`` stands for."""
    match element:
        case {"$": index}:
            return values[index]
        case {"B": factor}:
            return rows * (1 if factor is None else factor)
        case {"dtype": name}:
            return getattr(torch, name)
        case list():
            return [_argument(e, values, rows) for e in element]
    return element


def _distances(values: Values, _rows: int) -> torch.Tensor:
    """Without the matrix product, which cancels where rows are close to centroids."""
    return torch.cdist(values[0], values[1], compute_mode="donot_use_mm_for_euclid_dist")


def _cosines(values: Values, _rows: int) -> torch.Tensor:
    x, centroids = (F.normalize(v, dim=1) for v in values)
    return (1 - x @ centroids.T).clamp_(min=0)


def _looked(tables: int, has_rows: bool) -> Operator:
    """Rows of tables are gathered into one buffer, to which the product is added."""
    buffer = Buffer()

    def run(v: Values, rows: int) -> torch.Tensor:
        codes, of = v[:tables], v[tables : 2 * tables]
        if of[0].dtype == torch.float32:
            out = torch.index_select(
                of[0], 0, codes[0][:, 0], out=buffer.take(rows, of[0].shape[1])
            )
        else:
            out = of[0].index_select(0, codes[0][:, 0])
        for code, table in zip(codes[1:], of[1:], strict=True):
            out += table.index_select(0, code[:, 0])
        return out.addmm_(v[-2], v[-1].T) if has_rows else out

    return run
