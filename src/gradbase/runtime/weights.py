"""ML.WEIGHTS: what a linear model multiplies its inputs by.

Standardised weights belong to inputs of mean 0 and deviation 1, plain ones to the columns as they
are; the label is in its own unit either way. A row stands for each number that goes into the model:

==================  ==============================================================================
processed_input     input
==================  ==============================================================================
``age``             a column; seconds since 1970 of a date; one of several categories
``month(since)``    a part of a date
``taste[2]``        an element of a vector
``words``           each element of an array of texts; each index of (index, value) pairs
``age IS NULL``     1 where the value was missing (and then counted as the mean)
``__INTERCEPT__``   always 1
==================  ==============================================================================

An unseen category weighs 0.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from gradbase.errors import UnsupportedError
from gradbase.ir.conversion import Category, MultiHot, Numeric, Sparse, ToTensor, Vector
from gradbase.ir.grouping import keys_of_model
from gradbase.ir.inspection import Weights
from gradbase.ir.learning import Model
from gradbase.ir.tensor import Concat, Const, Embedding, Linear, OneHot, Param, Tensor
from gradbase.runtime.arrow_types import arrow_type, constants
from gradbase.runtime.context import RunContext
from gradbase.runtime.encode import constant

INTERCEPT = "__INTERCEPT__"
Floats = npt.NDArray[np.float64]


class Row(NamedTuple):
    """One row, with a weight or with those of categories; `output` is the number of the class."""

    trial: int
    name: str
    weight: float | None
    categories: list[dict[str, Any]]
    output: int


def weights_batch(node: Weights, context: RunContext) -> list[pa.Array]:
    """The columns of ML.WEIGHTS.

    Raises
    ------
    UnsupportedError
        A model is not linear.
    """
    rows = [row for m in node.models for row in _rows(m, context, standardize=node.standardize)]
    columns: list[Any] = [[r.name for r in rows], [r.weight for r in rows]]
    columns.append([r.categories for r in rows])
    types = [arrow_type(f.type) for f in node.schema]
    made = [pa.array([r.trial for r in rows], pa.int64())] * node.with_trial
    made += [pa.array(c, types[len(made) + i]) for i, c in enumerate(columns)]
    if node.models[0].task == "multiclass":
        classes = node.models[0].outputs[0].classes
        labels = constants(classes, classes[0].of)
        made.append(labels.take(pa.array([r.output for r in rows], pa.int64())))
    return made


def linear_layer(model: Model) -> Linear:
    """The one layer of a linear model; UnsupportedError for any other."""
    layer = model.outputs[0].x if model.label and model.outputs else None
    if isinstance(layer, Linear) and all(_is_input(p) for p in parts_of(layer.x)):
        return layer
    if keys_of_model(model):
        raise UnsupportedError(
            f"ML.WEIGHTS is for one model, `{model.name}` is one per group",
            hint="train a model on the rows of one group",
        )
    raise UnsupportedError(
        f"ML.WEIGHTS is for linear models; `{model.name}` has other layers",
        hint="EXPORT MODEL gives all weights of a network"
        if model.label
        else "ML.CENTROIDS, ML.PRINCIPAL_COMPONENTS",
    )


def parts_of(x: Tensor) -> tuple[Tensor, ...]:
    """The inputs that are put side by side."""
    return x.parts if isinstance(x, Concat) else (x,)


def _is_input(part: Tensor) -> bool:
    if isinstance(part, OneHot | Embedding):
        return isinstance(part.codes, ToTensor)
    return isinstance(part, ToTensor)


def _rows(model: Model, context: RunContext, *, standardize: bool) -> Iterator[Row]:
    layer = linear_layer(model)
    weight = constant(layer.weight, context.blobs).astype(np.float64)  # [outputs, inputs]
    bias = np.zeros(len(weight))
    if layer.bias is not None:
        bias = constant(layer.bias, context.blobs).astype(np.float64)
    head = model.outputs[0]
    unit, shift = (head.scale, head.shift) if head.method == "value" else (1.0, 0.0)
    solved = InputWeights(context, weight * unit, bias * unit + shift, standardize=standardize)
    entries = [entry for part in parts_of(layer.x) for entry in solved.of(part)]
    entries.append((INTERCEPT, solved.intercept, None))
    for name, values, categories in entries:
        for output in range(len(weight)):
            if categories is None:
                yield Row(model.trial, name, float(values[output]), [], output)
                continue
            column = zip(categories, values[output], strict=True)
            pairs = [{"category": c, "weight": float(v)} for c, v in column]
            yield Row(model.trial, name, None, pairs, output)


Entry = tuple[str, Floats, tuple[str | None, ...] | None]
"""Name, weights [outputs] or [outputs, categories], the categories."""


@dataclass
class InputWeights:
    """Takes the columns of a weight matrix one input after the other."""

    context: RunContext
    weight: Floats
    intercept: Floats
    standardize: bool
    at: int = 0

    def of(self, part: Tensor) -> Iterator[Entry]:
        match part:
            case OneHot(codes=ToTensor(column=name, encoding=Category() as encoding)):
                yield name, self.take(part.shape[-1]), _categories(encoding)
            case Embedding(codes=ToTensor(column=name, encoding=Category() as encoding)):
                yield self.embedded(name, encoding, part)
            case ToTensor(column=name, encoding=Numeric() as encoding):
                yield from self.numeric(name, encoding)
            case ToTensor(column=name, encoding=Vector() as encoding):
                yield from self.vector(name, encoding)
            case ToTensor(column=name, encoding=MultiHot(vocabulary=words, missing=missing) as of):
                yield name, self.take(of.width), (*words, *((None,) if missing else ()))
            case ToTensor(column=name, encoding=Sparse(size=size)):
                yield name, self.take(size), tuple(map(str, range(size)))
            case _:
                raise UnsupportedError(f"ML.WEIGHTS cannot name the input {part}")

    def take(self, width: int) -> Floats:
        """The next `width` columns, [outputs, width]."""
        self.at += width
        return self.weight[:, self.at - width : self.at]

    def numeric(self, name: str, encoding: Numeric) -> Iterator[Entry]:
        shown = name if encoding.part in ("value", "epoch_s") else f"{encoding.part}({name})"
        yield shown, self.plain(self.take(1)[:, 0], encoding.mean, encoding.scale), None
        if encoding.indicator:
            yield f"{name} IS NULL", self.take(1)[:, 0], None

    def vector(self, name: str, encoding: Vector) -> Iterator[Entry]:
        mean, scale = np.zeros(encoding.size), np.ones(encoding.size)
        if encoding.mean is not None and encoding.scale is not None:
            mean, scale = (constant(c, self.context.blobs) for c in (encoding.mean, encoding.scale))
        for i, column in enumerate(self.take(encoding.size).T):
            yield f"{name}[{i + 1}]", self.plain(column, float(mean[i]), float(scale[i])), None

    def plain(self, weights: Floats, mean: float, scale: float) -> Floats:
        """Weights of ``(x - mean) * scale``, or those of x, the rest going to the intercept."""
        if self.standardize:
            return weights
        self.intercept = self.intercept - weights * scale * mean
        return weights * scale

    def embedded(self, name: str, encoding: Category, part: Embedding) -> Entry:
        assert isinstance(part.weight, Const | Param)
        table = constant(part.weight, self.context.blobs).astype(np.float64)  # [codes, width]
        values = self.take(table.shape[1]) @ table.T
        # What an unseen category adds is added always, and taken from the others.
        self.intercept = self.intercept + values[:, 0]
        return name, values[:, 1:] - values[:, :1], _categories(encoding)


def _categories(encoding: Category) -> tuple[str | None, ...]:
    return (*encoding.vocabulary, *((None,) if encoding.missing_code else ()))
