"""Tensor operators: a network is a DAG of these, from `ToTensor` to `ToTable` (`conversion`).

Shapes are tuples; the first dimension of anything that depends on rows is `BATCH`. Constants of
more than 16 elements are `Param`s, named by the hash of their bytes: plans print without weights.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from gradbase.errors import ShapeError
from gradbase.ir.node import Node, find, node
from gradbase.ir.shapes import BATCH, Shape, broadcast, elements

if TYPE_CHECKING:
    from gradbase.ir.conversion import ToTensor

DTYPES = {"float32": 4, "float64": 8, "int64": 8, "int32": 4, "bool": 1, "uint8": 1}
UNARY = (
    "relu", "relu6", "elu", "selu", "gelu", "silu", "sigmoid", "tanh", "exp", "log", "neg",
    "sqrt", "softplus",
)  # fmt: skip
BINARY = ("add", "sub", "mul", "div", "maximum", "minimum")


class Tensor(Node):
    """A value with `shape` and `dtype`; `flops` are per row. `reads_rows`: made from columns."""

    derived = ("shape", "dtype")
    reads_rows = False

    @property
    def shape(self) -> Shape:
        raise AssertionError(f"{type(self).__name__} has no shape")

    @property
    def dtype(self) -> str:
        return "float32"

    @property
    def flops(self) -> float:
        """Floating-point operations of this operator per row."""
        return 0.0

    @functools.cached_property
    def params(self) -> tuple[Param, ...]:
        """Distinct parameters below."""
        return tuple(find(self, Param))

    @functools.cached_property
    def inputs(self) -> tuple[ToTensor, ...]:
        """The table columns read, children first."""
        from gradbase.ir.conversion import ToTensor

        return tuple(find(self, ToTensor))

    @property
    def linear_in(self) -> tuple[Tensor, ...]:
        """The arguments in which the result is linear (affine), the others held fixed."""
        return ()


# -- constants ---------------------------------------------------------------------------------


@node
class Param(Tensor):
    """A constant stored as a blob: `hash` is BLAKE3 (hex) of its little-endian C-order bytes."""

    hash: str
    dims: Shape
    kind: str = "float32"

    @property
    def shape(self) -> Shape:
        return self.dims

    @property
    def dtype(self) -> str:
        return self.kind

    @property
    def size_bytes(self) -> int:
        return elements(self.dims) * DTYPES[self.kind]


@node
class Const(Tensor):
    """A constant of at most 16 elements, row-major."""

    values: tuple[float, ...]
    dims: Shape
    kind: str = "float32"

    def __post_init__(self) -> None:
        if len(self.values) != elements(self.dims) or len(self.values) > 16:
            raise ShapeError(f"Const {self.dims} has {len(self.values)} values, at most 16")

    @property
    def shape(self) -> Shape:
        return self.dims

    @property
    def dtype(self) -> str:
        return self.kind


# -- operators ---------------------------------------------------------------------------------


@node
class Linear(Tensor):
    """``x @ weight.T + bias``; weight (out, in), bias (out,) or None."""

    x: Tensor
    weight: Tensor
    bias: Tensor | None = None

    def __post_init__(self) -> None:
        if self.x.shape[-1] != self.weight.shape[1]:
            raise ShapeError(
                f"Linear cannot multiply Tensor{list(self.x.shape)} by weight "
                f"Tensor{list(self.weight.shape)}: inner sizes {self.x.shape[-1]} and "
                f"{self.weight.shape[1]} differ"
            )

    @functools.cached_property
    def shape(self) -> Shape:  # type: ignore[override]
        return (*self.x.shape[:-1], self.weight.shape[0])

    @functools.cached_property
    def dtype(self) -> str:  # type: ignore[override]
        return self.x.dtype

    @property
    def flops(self) -> float:
        return 2.0 * elements(self.x.shape) * self.weight.shape[0]

    @property
    def linear_in(self) -> tuple[Tensor, ...]:
        return (self.x, self.weight) + ((self.bias,) if self.bias is not None else ())


@node
class MatMul(Tensor):
    """``a @ b`` with NumPy's broadcasting of leading dimensions."""

    a: Tensor
    b: Tensor

    def __post_init__(self) -> None:
        if self.a.shape[-1] != self.b.shape[-2]:
            raise ShapeError(
                f"MatMul cannot multiply Tensor{list(self.a.shape)} by Tensor{list(self.b.shape)}: "
                f"inner sizes {self.a.shape[-1]} and {self.b.shape[-2]} differ"
            )

    @functools.cached_property
    def shape(self) -> Shape:  # type: ignore[override]
        leading = broadcast(self.a.shape[:-2], self.b.shape[:-2])
        return (*leading, self.a.shape[-2], self.b.shape[-1])

    @functools.cached_property
    def dtype(self) -> str:  # type: ignore[override]
        return self.a.dtype

    @property
    def flops(self) -> float:
        return 2.0 * elements(self.shape) * self.a.shape[-1]

    @property
    def linear_in(self) -> tuple[Tensor, ...]:
        return (self.a, self.b)


@node
class Unary(Tensor):
    """Elementwise function `op` (see `UNARY`) with torch's meaning."""

    op: str
    x: Tensor

    def __post_init__(self) -> None:
        if self.op not in UNARY:
            raise ShapeError(f"`{self.op}` is no function; there are {', '.join(UNARY)}")

    @functools.cached_property
    def shape(self) -> Shape:  # type: ignore[override]
        return self.x.shape

    @functools.cached_property
    def dtype(self) -> str:  # type: ignore[override]
        return self.x.dtype

    @property
    def flops(self) -> float:
        return (1.0 if self.op.startswith("relu") else 8.0) * elements(self.shape)

    @property
    def linear_in(self) -> tuple[Tensor, ...]:
        return (self.x,) if self.op == "neg" else ()


@node
class Binary(Tensor):
    """Elementwise ``a op b`` (see `BINARY`) with NumPy's broadcasting."""

    op: str
    a: Tensor
    b: Tensor

    def __post_init__(self) -> None:
        if self.op not in BINARY:
            raise ShapeError(f"`{self.op}` is no operator; there are {', '.join(BINARY)}")
        broadcast(self.a.shape, self.b.shape)

    @functools.cached_property
    def shape(self) -> Shape:  # type: ignore[override]
        return broadcast(self.a.shape, self.b.shape)

    @functools.cached_property
    def dtype(self) -> str:  # type: ignore[override]
        return self.a.dtype

    @property
    def flops(self) -> float:
        return float(elements(self.shape))

    @property
    def linear_in(self) -> tuple[Tensor, ...]:
        match self.op:
            case "add" | "sub":
                return (self.a, self.b)
            case "mul":
                return (self.a, self.b) if self.a is not self.b else ()
            case "div":
                return (self.a,)
        return ()


@node
class Softmax(Tensor):
    """``exp(x) / sum(exp(x))`` along the last dimension."""

    x: Tensor

    @functools.cached_property
    def shape(self) -> Shape:  # type: ignore[override]
        return self.x.shape

    @functools.cached_property
    def dtype(self) -> str:  # type: ignore[override]
        return self.x.dtype

    @property
    def flops(self) -> float:
        return 10.0 * elements(self.shape)


@node
class Concat(Tensor):
    """Join along the last dimension."""

    parts: tuple[Tensor, ...]

    def __post_init__(self) -> None:
        if len({(p.shape[:-1], p.dtype) for p in self.parts}) != 1:
            shapes = [f"{p.dtype}{list(p.shape)}" for p in self.parts]
            raise ShapeError(f"Concat needs equal leading sizes and dtypes, found {shapes}")

    @functools.cached_property
    def shape(self) -> Shape:  # type: ignore[override]
        return (*self.parts[0].shape[:-1], sum(p.shape[-1] for p in self.parts))

    @functools.cached_property
    def dtype(self) -> str:  # type: ignore[override]
        return self.parts[0].dtype

    @property
    def linear_in(self) -> tuple[Tensor, ...]:
        return self.parts


@node
class OneHot(Tensor):
    """Codes Tensor[BATCH, 1] to Tensor[BATCH, codes - 1]: code 0 (unknown) gives zeros."""

    codes: Tensor
    count: int
    """Number of codes, the unknown one included."""

    @functools.cached_property
    def shape(self) -> Shape:  # type: ignore[override]
        return (BATCH, self.count - 1)


@node
class Embedding(Tensor):
    """Row ``codes`` of `weight` (codes, width); codes Tensor[BATCH, 1] -> Tensor[BATCH, width]."""

    codes: Tensor
    weight: Tensor

    @functools.cached_property
    def shape(self) -> Shape:  # type: ignore[override]
        return (BATCH, self.weight.shape[1])

    @functools.cached_property
    def dtype(self) -> str:  # type: ignore[override]
        return self.weight.dtype

    @property
    def linear_in(self) -> tuple[Tensor, ...]:
        return (self.weight,)


@node
class Reshape(Tensor):
    """Same elements, other shape; `dims` keeps BATCH first."""

    x: Tensor
    dims: Shape

    def __post_init__(self) -> None:
        if elements(self.dims) != elements(self.x.shape):
            raise ShapeError(f"cannot reshape {list(self.x.shape)} to {list(self.dims)}")

    @functools.cached_property
    def shape(self) -> Shape:  # type: ignore[override]
        return self.dims

    @functools.cached_property
    def dtype(self) -> str:  # type: ignore[override]
        return self.x.dtype

    @property
    def linear_in(self) -> tuple[Tensor, ...]:
        return (self.x,)


@node
class TorchOp(Tensor):
    """An ATen operator kept by name, e.g. ``convolution.default``; `gradbase.ir.aten` lists them.

    `arguments` is JSON: positional arguments in order; ``{"$": i}`` stands for ``inputs_[i]``, and
    ``{"B": k}`` for k times the batch size (the rest of the format: `gradbase.ir.aten`). `output`
    picks one of several results. A size -k in `dims` is k times the batch size.
    """

    target: str
    inputs_: tuple[Tensor, ...]
    arguments: str
    dims: Shape
    kind: str = "float32"
    output: int = 0

    @functools.cached_property
    def shape(self) -> Shape:  # type: ignore[override]
        return self.dims

    @functools.cached_property
    def dtype(self) -> str:  # type: ignore[override]
        return self.kind

    @property
    def flops(self) -> float:
        weights = [p for p in self.inputs_ if isinstance(p, Param) and len(p.dims) > 1]
        per_output = max((2.0 * elements(w.dims) / w.dims[0] for w in weights), default=2.0)
        return per_output * elements(self.dims)


@node
class UserModule(Tensor):
    """A user's module that could not be traced: its function is called again, its state loaded.

    `reference`, `configuration` and `code_hash` as in `PythonNetwork`; `names` are keys of the
    module's state. Tensor[B, inputs] float32 -> Tensor[B, outputs] float32.
    """

    reference: str
    configuration: str
    code_hash: str
    x: Tensor
    outputs: int
    names: tuple[str, ...]
    state: tuple[Tensor, ...]

    @functools.cached_property
    def shape(self) -> Shape:  # type: ignore[override]
        return (BATCH, self.outputs)

    @property
    def flops(self) -> float:
        return sum(2.0 * elements(p.shape) for p in self.state)  # each weight once per row
