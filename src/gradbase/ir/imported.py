"""Operators of networks made elsewhere: tree ensembles, and parts that stay whole."""

from __future__ import annotations

import functools

from gradbase.errors import ShapeError
from gradbase.ir.conversion import Encoding
from gradbase.ir.node import node
from gradbase.ir.shapes import BATCH, Shape, elements
from gradbase.ir.tensor import Tensor


@node
class Trees(Tensor):
    """The sum of what decision trees say of `x` Tensor[B, n]: Tensor[B, outputs].

    Nodes of all trees are numbered one tree after the other; tree t starts at ``roots[0, t]``. At
    node i a row goes to ``left[i]`` where ``x[feature[i]] <= limit[i]`` (x rounded to `precision`),
    or where that is NaN and ``missing_left[i]``, else to ``right[i]``; a leaf is its own left and
    right, and says ``value[i]``. `depth` is the longest way down. `bounds` are triples (place in x,
    low, high) that hold in every row: branches outside of them are never taken, and where `high` is
    finite the place is never NaN. Of the places that `feature` and `bounds` number, `x` holds
    `places` in this order; () means all.
    """

    x: Tensor
    roots: Tensor
    feature: Tensor
    limit: Tensor
    left: Tensor
    right: Tensor
    missing_left: Tensor
    value: Tensor
    depth: int
    precision: str = "float32"
    bounds: tuple[float, ...] = ()
    places: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        nodes = {t.shape[0] for t in (self.feature, self.limit, self.left, self.right,
                                      self.missing_left, self.value)}  # fmt: skip
        if len(nodes) != 1 or len(self.x.shape) != 2:
            raise ShapeError(
                f"Trees over {list(self.x.shape)} with tables of {sorted(nodes)} nodes"
            )

    @functools.cached_property
    def shape(self) -> Shape:  # type: ignore[override]
        return (BATCH, self.value.shape[1])

    @functools.cached_property
    def dtype(self) -> str:  # type: ignore[override]
        return self.value.dtype

    @property
    def flops(self) -> float:
        # A node costs a few gathers, as much as some tens of multiplications.
        return 30.0 * self.roots.shape[-1] * max(self.depth, 1)

    @property
    def linear_in(self) -> tuple[Tensor, ...]:
        return (self.value,)


@node
class Opaque(Tensor):
    """A part of an ONNX network that stays whole, run by ONNX Runtime.

    `program` is the part as an ONNX model (uint8); `names[i]` its input for ``inputs_[i]``, and
    `output` the one of its outputs that this is. `operators` says what is in it, for messages. A
    program that takes `batch` rows only (0: any number) is called for as many at a time, the last
    of them padded.
    """

    program: Tensor
    inputs_: tuple[Tensor, ...]
    names: tuple[str, ...]
    output: str
    dims: Shape
    kind: str
    operators: str
    batch: int = 0

    def __post_init__(self) -> None:
        assert len(self.inputs_) == len(self.names)

    @functools.cached_property
    def shape(self) -> Shape:  # type: ignore[override]
        return self.dims

    @functools.cached_property
    def dtype(self) -> str:  # type: ignore[override]
        return self.kind

    @property
    def flops(self) -> float:
        # Weights are used about once per row; what else happens is not known.
        return 2.0 * elements(self.program.shape) / 4 + 2.0 * elements(self.shape)


@node
class Text(Encoding):
    """Texts as they are, for a part of a network that reads them itself."""

    @property
    def dtype(self) -> str:
        return "text"
