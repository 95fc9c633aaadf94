"""Predictions taken apart over a join: a part per row of a dimension, the rest per joined row.

And parts of constants, of which what is taken apart is made.
"""

from __future__ import annotations

import functools

from gradbase.errors import ShapeError
from gradbase.ir.conversion import Encoding
from gradbase.ir.learning import Model
from gradbase.ir.node import node
from gradbase.ir.relational import Relation
from gradbase.ir.shapes import BATCH, Shape, elements
from gradbase.ir.tensor import Tensor
from gradbase.ir.types import INT64, Field, Schema


@node
class Numbered(Relation):
    """`child` plus the number of each row, from 0, as column `name`; its rows are kept in order.

    SQL: ``SELECT *, row_number() OVER () - 1 AS name FROM child``.
    """

    row_independent = False
    child: Relation
    name: str

    @functools.cached_property
    def schema(self) -> Schema:  # type: ignore[override]
        return Schema((*self.child.schema.fields, Field(self.name, INT64)))


def table_name(place: int) -> str:
    """What stands for the content of table `place` where a `Param` has its hash."""
    return f"table {place}"


@node
class PredictJoined(Relation):
    """As `Predict`, where parts of the network are looked up in other tables.

    ``rows[i]`` is the child's column with the number of a row of ``tables[i]``, whose column
    ``vectors[i]`` is what is looked up, predicted by ``parts[i]``: `table_name` (i) in the model,
    whose last features are these numbers. `features` are the child's columns for the features
    before them. Where a number may be `absent` (see `RowNumber`) the first row is what the part
    makes of NULLs.
    """

    child: Relation
    tables: tuple[Relation, ...]
    model: Model
    features: tuple[str, ...]
    rows: tuple[str, ...]
    vectors: tuple[str, ...]
    parts: tuple[Model, ...]
    methods: tuple[str, ...]
    names: tuple[str, ...]
    batch_rows: int = 0

    def __post_init__(self) -> None:
        assert len(self.tables) == len(self.rows) == len(self.vectors) == len(self.parts) > 0
        assert len(self.features) + len(self.rows) == len(self.model.features)
        for name in (*self.features, *self.rows):
            self.child.schema.type_of(name)

    @property
    def reads(self) -> tuple[str, ...]:
        """The child's columns for all features of the model."""
        return (*self.features, *self.rows)

    @functools.cached_property
    def schema(self) -> Schema:  # type: ignore[override]
        added = (
            Field(n, self.model.output(m).type)
            for n, m in zip(self.names, self.methods, strict=True)
        )
        return Schema((*self.child.schema.fields, *added))


@node
class Picked(Tensor):
    """Of a constant what is at `places` along `dim`, in this order."""

    x: Tensor
    places: tuple[int, ...]
    dim: int

    def __post_init__(self) -> None:
        size = self.x.shape[self.dim]
        if not self.places or not all(0 <= p < size for p in self.places):
            raise ShapeError(f"there are {size} places, not {list(self.places)}")

    @functools.cached_property
    def shape(self) -> Shape:  # type: ignore[override]
        before, after = self.x.shape[: self.dim], self.x.shape[self.dim + 1 :]
        return (*before, len(self.places), *after)

    @functools.cached_property
    def dtype(self) -> str:  # type: ignore[override]
        return self.x.dtype

    @property
    def linear_in(self) -> tuple[Tensor, ...]:
        return (self.x,)


@node
class RowNumber(Encoding):
    """The number of a row, as it is; with `absent` one more, and 0 where there is no row (NULL)."""

    absent: bool = False

    @property
    def dtype(self) -> str:
        return "int64"


@node
class Looked(Tensor):
    """``x @ weight.T`` plus row ``codes[i]`` of each of `tables` [rows, width]: Tensor[B, width].

    `x` and `weight` are None where all that is added comes from tables.
    """

    codes: tuple[Tensor, ...]
    tables: tuple[Tensor, ...]
    x: Tensor | None = None
    weight: Tensor | None = None

    @functools.cached_property
    def shape(self) -> Shape:  # type: ignore[override]
        return (BATCH, self.tables[0].shape[1])

    @functools.cached_property
    def dtype(self) -> str:  # type: ignore[override]
        return self.tables[0].dtype

    @property
    def flops(self) -> float:
        product = 0.0 if self.x is None else 2.0 * elements(self.x.shape) * self.shape[-1]
        return product + len(self.tables) * self.shape[-1]
