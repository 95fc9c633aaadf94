"""Tensor operators: a network is a DAG of these, from `ToTensor` leaves to `ToTable` roots.

Shapes are tuples; the first dimension of anything that depends on rows is `BATCH`. Constants of
more than 16 elements are `Param`s, named by the hash of their bytes: plans print without weights.
"""

from __future__ import annotations

import functools
import math

from gradbase.errors import ShapeError
from gradbase.ir.node import Node, find, node
from gradbase.ir.scalar import Literal
from gradbase.ir.types import SqlType

BATCH = -1
Shape = tuple[int, ...]
DTYPES = {"float32": 4, "float64": 8, "int64": 8, "int32": 4, "bool": 1}
UNARY = (
    "relu", "relu6", "elu", "selu", "gelu", "silu", "sigmoid", "tanh", "exp", "log", "neg",
    "sqrt", "softplus",
)  # fmt: skip
BINARY = ("add", "sub", "mul", "div", "maximum", "minimum")
PARTS = ("value", "epoch_s", "year", "month", "day", "weekday", "hour", "minute")


def elements(shape: Shape) -> int:
    """Number of elements per row (the batch dimension counts 1; a size -k, k batches, counts k)."""
    return math.prod(abs(n) for n in shape)


class Tensor(Node):
    """A value with `shape` and `dtype`; `flops` are per row."""

    derived = ("shape", "dtype")

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
        return tuple(find(self, ToTensor))

    @property
    def linear_in(self) -> tuple[Tensor, ...]:
        """The arguments in which the result is linear (affine), the others held fixed."""
        return ()


# -- where a table becomes a tensor ------------------------------------------------------------


class Encoding(Node):
    """How values of one column become numbers.  NULL and NaN are both 'missing'."""

    @property
    def width(self) -> int:
        """Elements per row."""
        return 1

    @property
    def dtype(self) -> str:
        return "float32"


@node
class Numeric(Encoding):
    """Standardised number, and a 0/1 column 'was missing' where `indicator`.

    ``(x - mean) * scale`` in float64, then rounded to float32; missing gives 0 (the mean).
    `part` picks what of a date or timestamp is taken (``epoch_s``: seconds since 1970, UTC).
    Width: 1 + indicator.
    """

    mean: float
    scale: float
    indicator: bool
    part: str = "value"

    def __post_init__(self) -> None:
        assert self.part in PARTS, self.part

    @property
    def width(self) -> int:
        return 1 + self.indicator


@node
class Category(Encoding):
    """Code of a value: 0 unknown; i + 1 for `vocabulary[i]`; missing: `missing_code`.

    `vocabulary` is the values as text, in code order, as a Param of dtype ``text`` (one per line of
    JSON) or inline where at most 16. `missing_code` is 0 (as unknown) or len(vocabulary) + 1 (NULL
    was seen in training). Width 1, int64.
    """

    vocabulary: tuple[str, ...]
    missing_code: int

    @property
    def dtype(self) -> str:
        return "int64"

    @property
    def codes(self) -> int:
        """Number of codes, the unknown one included."""
        return len(self.vocabulary) + 1 + (self.missing_code > 0)


@node
class Vector(Encoding):
    """``FLOAT[n]`` taken elementwise: ``(x - mean) * scale``; a missing vector gives zeros.

    `mean` and `scale` are Params (or Consts) of shape (n,) float64; None: taken as it is.
    """

    size: int
    mean: Tensor | None = None
    scale: Tensor | None = None

    @property
    def width(self) -> int:
        return self.size


@node
class ToTensor(Tensor):
    """A column of a table as Tensor[BATCH, width] (codes: int64)."""

    column: str
    encoding: Encoding

    @property
    def shape(self) -> Shape:
        return (BATCH, self.encoding.width)

    @property
    def dtype(self) -> str:
        return self.encoding.dtype


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
class Opaque(Tensor):
    """A sub-program we have no operators for, run by torch whole; `hash` names its blob."""

    hash: str
    inputs_: tuple[Tensor, ...]
    dims: Shape
    kind: str = "float32"
    flops_per_row: float = 0.0

    @functools.cached_property
    def shape(self) -> Shape:  # type: ignore[override]
        return self.dims

    @functools.cached_property
    def dtype(self) -> str:  # type: ignore[override]
        return self.kind

    @property
    def flops(self) -> float:
        return self.flops_per_row


def broadcast(a: Shape, b: Shape) -> Shape:
    """NumPy's broadcast of two shapes."""
    longest = max(len(a), len(b))
    left = (1,) * (longest - len(a)) + a
    right = (1,) * (longest - len(b)) + b
    if any(x != y and 1 not in (x, y) for x, y in zip(left, right, strict=True)):
        raise ShapeError(f"shapes {list(a)} and {list(b)} do not broadcast")
    return tuple(y if x == 1 else x for x, y in zip(left, right, strict=True))


# -- where a tensor becomes a table ------------------------------------------------------------

METHODS = ("value", "label", "proba", "probs", "raw")


@node
class ToTable(Tensor):
    """One column made of a network's output `x`.

    ========  ================================================================================
    method    column
    ========  ================================================================================
    value     regression: ``x[:, 0] * scale + shift``, float64
    label     the class: binary ``classes[x[:, 0] > 0]`` (x a logit), else ``classes[argmax x]``;
              ties take the lower class
    proba     binary: probability of ``classes[1]``, float64; multi-class: list<float64>
    probs     list<struct<label, prob>> in the order of `classes`
    raw       a number (width 1) or ``float32[n]``
    ========  ================================================================================

    Binary models have one logit, multi-class models one per class.
    """

    x: Tensor
    method: str
    type: SqlType
    classes: tuple[Literal, ...] = ()
    scale: float = 1.0
    shift: float = 0.0

    def __post_init__(self) -> None:
        assert self.method in METHODS, self.method
        expected = 1 if len(self.classes) == 2 else len(self.classes)
        if self.classes and self.x.shape[-1] != expected:
            raise ShapeError(
                f"{len(self.classes)} classes need {expected} outputs, found {self.x.shape[-1]}"
            )

    @functools.cached_property
    def shape(self) -> Shape:  # type: ignore[override]
        return (BATCH,)
