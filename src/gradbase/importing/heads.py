"""Outputs of a file's network as columns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from gradbase.errors import BindError, ShapeError, UnsupportedError
from gradbase.importing.building import Builder, Value
from gradbase.importing.estimators import Predictor, literals
from gradbase.importing.models import heads, logit, raw_type
from gradbase.importing.onnx_learners import Labels, Mapped
from gradbase.ir.conversion import ToTable
from gradbase.ir.shapes import BATCH, elements
from gradbase.ir.tensor import Binary, Reshape, Tensor, Unary

_SMALLEST = 1e-30


@dataclass(frozen=True, eq=False)
class Outputs:
    """An output's name and what it is."""

    name: str
    value: Any


def model_outputs(
    builder: Builder, outputs: Sequence[Outputs], label: str | None, classes: Sequence[Any] | None
) -> tuple[str, tuple[ToTable, ...]]:
    """The task, and the columns of a model.

    A classifier of ``ai.onnx.ml`` gives its label, with probabilities from its scores. Else the
    first output is given as it is (raw), as the logits of `classes`, or as the value `label`.
    """
    first = outputs[0].value
    if isinstance(first, Labels | Mapped):
        if classes is not None:
            raise BindError("the file names its classes, leave `classes` out")
        return _classifier(builder, outputs)
    if not isinstance(first, Value):
        raise UnsupportedError(f"output `{outputs[0].name}` is texts, which no column is made of")
    x = _rows(builder, outputs[0])
    if classes is not None:
        found = literals(list(classes))
        made = logit(_floats(builder, x), len(found), _kept(builder))
        return _task(len(found)), heads(Predictor(made, found))
    if label is not None:
        if x.shape[-1] != 1:
            raise ShapeError(
                f"output `{outputs[0].name}` has {x.shape[-1]} numbers per row; a value to be "
                "compared "
                f"with `{label}` is one",
                hint="classes=[…] where they are logits; without both they stay as they are",
            )
        return "regression", heads(Predictor(_floats(builder, x)))
    return "raw", (ToTable(x, "raw", raw_type(x)),)


def _task(classes: int) -> str:
    return "binary" if classes == 2 else "multiclass"


def _rows(builder: Builder, output: Outputs) -> Tensor:
    """An output as Tensor[B, n]."""
    x = builder.node(output.value)
    if x.shape[:1] != (BATCH,) or any(n < 0 for n in x.shape[1:]):
        raise ShapeError(
            f"output `{output.name}` is {x.dtype}{list(x.shape)}: its first size is not the batch",
            hint="a network gives one result per row",
        )
    return x if len(x.shape) == 2 else Reshape(x, (BATCH, elements(x.shape)))


def _floats(builder: Builder, x: Tensor) -> Tensor:
    if x.dtype in ("float32", "float64"):
        return x
    return builder.node(
        builder.call("_to_copy.default", builder.input(x), dtype=("dtype", "float64"))
    )


def _classifier(builder: Builder, outputs: Sequence[Outputs]) -> tuple[str, tuple[ToTable, ...]]:
    first = outputs[0].value
    classes = literals(list(first.classes))
    scores: Value = first.scores
    for output in outputs[1:]:
        found = output.value.scores if isinstance(output.value, Mapped) else output.value
        if isinstance(found, Value) and found.shape == (BATCH, len(classes)):
            scores = found
    x = builder.node(scores)
    if x.shape != (BATCH, len(classes)):
        raise ShapeError(f"{len(classes)} classes have scores {x.dtype}{list(x.shape)}")
    if first.chances:
        small = builder.constants.tensor(lambda: np.array([_SMALLEST], x.dtype))
        x = Unary("log", Binary("maximum", x, small))
    return _task(len(classes)), heads(Predictor(logit(x, len(classes), _kept(builder)), classes))


def _kept(builder: Builder) -> Callable[[npt.NDArray[Any]], Tensor]:
    return lambda values: builder.constants.tensor(lambda: values)
