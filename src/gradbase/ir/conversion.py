"""Where tables and tensors meet: `ToTensor` (a column becomes numbers) and `ToTable` (and back)."""

from __future__ import annotations

import functools

from gradbase.errors import ShapeError
from gradbase.ir.node import Node, node, walk
from gradbase.ir.scalar import Literal
from gradbase.ir.shapes import BATCH, Shape
from gradbase.ir.tensor import Tensor
from gradbase.ir.types import SqlType

PARTS = ("value", "epoch_s", "year", "month", "day", "weekday", "hour", "minute")


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

    ``(x - mean) * scale`` in float64, then rounded to `kind`; missing gives 0 (the mean).
    `part` picks what of a date or timestamp is taken (``epoch_s``: seconds since 1970, UTC).
    Width: 1 + indicator.
    """

    mean: float
    scale: float
    indicator: bool
    part: str = "value"
    kind: str = "float32"

    def __post_init__(self) -> None:
        assert self.part in PARTS, self.part

    @property
    def width(self) -> int:
        return 1 + self.indicator

    @property
    def dtype(self) -> str:
        return self.kind


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
    """``FLOAT[n]`` taken elementwise: ``(x - mean) * scale`` as `kind`; a missing one gives zeros.

    `mean` and `scale` are Params (or Consts) of shape (n,) float64; None: taken as it is.
    """

    size: int
    mean: Tensor | None = None
    scale: Tensor | None = None
    kind: str = "float32"

    @property
    def width(self) -> int:
        return self.size

    @property
    def dtype(self) -> str:
        return self.kind


@node
class MultiHot(Encoding):
    """An array of texts: 1 at the place of each that is in it, as often as it may be.

    `vocabulary` is in order; one more place, the last, says that an element or the array is NULL
    where `missing` (NULL was seen in training). Others are left out.
    """

    vocabulary: tuple[str, ...]
    missing: bool

    @property
    def width(self) -> int:
        return len(self.vocabulary) + self.missing


@node
class Sparse(Encoding):
    """An array of (index, value) pairs: each value at its index, those of equal index added up.

    An index of `size` or more is left out; NULL gives zeros.
    """

    size: int

    @property
    def width(self) -> int:
        return self.size


@node
class ToTensor(Tensor):
    """A column of a table as Tensor[BATCH, width] (codes: int64)."""

    reads_rows = True
    column: str
    encoding: Encoding

    @property
    def shape(self) -> Shape:
        return (BATCH, self.encoding.width)

    @property
    def dtype(self) -> str:
        return self.encoding.dtype


def per_row(root: Node) -> list[Tensor]:
    """The tensors at or below `root` that depend on rows, children first."""
    found: dict[Tensor, None] = {}
    for n in walk(root):
        if isinstance(n, Tensor) and (n.reads_rows or any(c in found for c in n.children)):
            found[n] = None
    return list(found)


# -- where a tensor becomes a table ------------------------------------------------------------

RECONSTRUCTION_ERRORS = ("mean_absolute_error", "mean_squared_error", "mean_squared_log_error")
"""Outputs of autoencoders that compare a row with what they give again of it."""
METHODS = (
    "value", "label", "proba", "probs", "raw", "centroid", "nearest", "reconstruction",
    *RECONSTRUCTION_ERRORS,
)  # fmt: skip
NEAREST = 5
"""Centroids that ``nearest`` lists."""


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
    raw       a number (width 1), ``float32[n]`` or ``float64[n]``
    centroid  the number (from 1) of the smallest of the distances `x`; the first of equal ones
    nearest   list<struct<centroid_id, distance>>: the `NEAREST` smallest, nearest first
    ========  ================================================================================

    Of autoencoders ``raw`` are the latent columns, ``reconstruction`` what they make of these;
    `RECONSTRUCTION_ERRORS` are numbers. Binary models have one logit, multi-class models one per
    class.
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
