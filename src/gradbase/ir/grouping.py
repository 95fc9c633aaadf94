"""One model per group: how it is trained, and what it is as a network."""

from __future__ import annotations

import functools

from gradbase.ir.learning import METRICS, Evaluate, Fit, Learn, Model
from gradbase.ir.node import find, node
from gradbase.ir.shapes import BATCH, Shape
from gradbase.ir.tensor import Tensor
from gradbase.ir.types import FLOAT64, INT64, Field, Schema

NULL, ERROR, POOLED = "null", "error", "pooled"
UNSEEN = (NULL, ERROR, POOLED)
"""What is predicted for a row whose group was not there in training: NULL, an error, or what the
model over the rows of all groups predicts."""
BY_ROWS = (0,)
"""Hidden units of a network whose width follows from the rows of its group."""


@node
class FitGroups(Learn):
    """A search on each group of rows with equal ``data.groups``; each group's best by `metric`
    becomes its part of model `name`.

    Every group's search by `procedure` begins with `fits` and has `trials` trials, which train for
    `epochs` epochs, all of them together, where none ends by itself. `data.split` with method
    ``auto_split`` is resolved by each group's own rows. `solvable` says that groups with enough
    rows are solved exactly. `groups` and `rows` (of the smallest, the median and the largest group)
    were counted when the statement was planned.
    """

    fits: tuple[Fit, ...]
    metric: str
    procedure: str
    trials: int
    epochs: int
    unseen: str
    solvable: bool
    groups: int
    rows: tuple[int, ...]


@node
class ByGroup(Tensor):
    """Each row through the network of its group, Tensor[BATCH, width] float64.

    `content` is a safetensors file with the weights, encodings and `keys` of all groups (see
    `runtime.groups.packed`). A regression's output is in units of the label, the logits of classes
    that a group does not have are far below all others; NaN: there is no prediction. `operations`
    are FLOPs per row.
    """

    reads_rows = True
    content: Tensor
    keys: tuple[str, ...]
    groups: int
    width: int
    unseen: str
    operations: float

    @functools.cached_property
    def shape(self) -> Shape:  # type: ignore[override]
        return (BATCH, self.width)

    @property
    def dtype(self) -> str:
        return "float64"

    @property
    def flops(self) -> float:
        return self.operations


@node
class EvaluateGroups(Evaluate):
    """`Evaluate` of one model per group: a row per group of `child` with its key, in the order of
    keys, how many rows it has that are predicted, and the metrics on them.

    SQL: ``ML.EVALUATE(MODEL m, (child), STRUCT(TRUE AS by_group))``.
    """

    @functools.cached_property
    def keys(self) -> tuple[str, ...]:
        """The child's columns with the keys."""
        own = [f.name for f in self.model.features]
        return tuple(self.features[own.index(k)] for k in keys_of_model(self.model))

    @functools.cached_property
    def schema(self) -> Schema:  # type: ignore[override]
        keys = (Field(k, self.child.schema.type_of(k)) for k in self.keys)
        metrics = (Field(n, FLOAT64) for n in METRICS[self.model.task])
        return Schema((*keys, Field("rows", INT64), *metrics))


def keys_of_model(model: Model) -> tuple[str, ...]:
    """The columns that tell the groups of a model apart; () of one without groups."""
    found = next(iter(find(model, ByGroup)), None)
    return () if found is None else found.keys
