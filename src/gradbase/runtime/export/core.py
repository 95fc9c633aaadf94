"""A model as one ``torch.nn.Module`` that ``torch.export`` can trace."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from gradbase.errors import UnsupportedError
from gradbase.ir.conversion import Category, MultiHot, Numeric, Sparse, ToTensor, Vector
from gradbase.ir.learning import Feature, Model
from gradbase.ir.node import Node, walk
from gradbase.ir.tensor import (
    Concat,
    Const,
    Embedding,
    Linear,
    OneHot,
    Param,
    Tensor,
    UserModule,
)
from gradbase.ir.unlabelled import Distances
from gradbase.runtime.encode import Blobs, constant
from gradbase.runtime.export.calendar import date_part
from gradbase.runtime.operators import operator

EXAMPLE_ROWS = 3
"""Rows of the example that tracing sees; not 1, which would be taken for a constant."""


class Exportable(torch.nn.Module):
    """Columns as numbers in, predictions out; encodings, operators and outputs as in a plan.

    Parameters
    ----------
    model : Model
    blobs : Blobs
        Where weights are.

    Attributes
    ----------
    features : tuple of Feature
        What `forward` takes, in this order, which is what the network reads: numbers, booleans,
        dates and timestamps (seconds since 1970, UTC) as Tensor[B] float64, NaN where missing;
        vectors as Tensor[B, n] float64; text as the codes of its `Category`, Tensor[B] int64;
        arrays of texts and (index, value) pairs as Tensor[B, width] float64.
    encodings : dict of str to Encoding
        Of the columns that matter; one of several for dates.
    categories : dict of str to Category
        How text is encoded, by column.
    methods : tuple of str
        What `forward` gives: ``value`` Tensor[B] float64; ``label`` the index of the class,
        Tensor[B] int64; ``centroid`` its number, Tensor[B] int64; ``proba`` Tensor[B] float64
        (binary) or Tensor[B, classes]; ``raw`` Tensor[B] or Tensor[B, n] as the network gives it.
    """

    def __init__(self, model: Model, blobs: Blobs | None) -> None:
        super().__init__()
        self.model, self.blobs = model, blobs
        self.features = model.reads
        self.outputs = [o for o in model.outputs if o.method not in ("probs", "nearest")]
        self.methods = tuple(o.method for o in self.outputs)
        order = list(dict.fromkeys(n for o in self.outputs for n in walk(o.x)))
        self.leaves = [n for n in order if isinstance(n, ToTensor)]
        self.encodings = {t.column: t.encoding for t in self.leaves}
        self.categories: dict[str, Category] = {
            name: of for name, of in self.encodings.items() if isinstance(of, Category)
        }
        self._constants: dict[Node, str] = {}
        for found in order:
            if isinstance(found, (Param, Const)):
                self._constants[found] = f"constant_{len(self._constants)}"
                value = torch.from_numpy(np.array(constant(found, blobs)))
                self.register_buffer(self._constants[found], value)
        # As tensors: torch's exporter to ONNX writes Python's floats as float32.
        for k, leaf in enumerate(self.leaves):
            if isinstance(leaf.encoding, Numeric):
                self.register_buffer(f"mean_{k}", _double(leaf.encoding.mean))
                self.register_buffer(f"scale_{k}", _double(leaf.encoding.scale))
        for k, output in enumerate(self.outputs):
            self.register_buffer(f"output_scale_{k}", _double(output.scale))
            self.register_buffer(f"output_shift_{k}", _double(output.shift))
        self._steps = [n for n in order if isinstance(n, Tensor)
                       and not isinstance(n, (ToTensor, Param, Const))]  # fmt: skip

    def forward(self, *columns: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """One tensor per method."""
        given = {f.name: c for f, c in zip(self.features, columns, strict=True)}
        values: dict[Node, Any] = {c: getattr(self, name) for c, name in self._constants.items()}
        for k, leaf in enumerate(self.leaves):
            values[leaf] = self._encoded(given[leaf.column], k, values)
        for step in self._steps:
            inputs = [values[c] for c in step.children if isinstance(c, Tensor)]
            values[step] = applied(step, inputs, columns[0].shape[0])
        return tuple(self._output(k, values[o.x]) for k, o in enumerate(self.outputs))

    def example(self) -> tuple[torch.Tensor, ...]:
        """Columns of a few rows."""
        return tuple(self._example(f) for f in self.features)

    def _example(self, feature: Feature) -> torch.Tensor:
        if feature.of.is_text:
            return torch.zeros(EXAMPLE_ROWS, dtype=torch.int64)
        width = self.width(feature)
        sizes = (EXAMPLE_ROWS,) if width is None else (EXAMPLE_ROWS, width)
        return torch.zeros(sizes, dtype=torch.float64)

    def width(self, feature: Feature) -> int | None:
        """Elements of an array, None for what is none."""
        match self.encodings.get(feature.name):
            case Vector(width=width) | Sparse(width=width) | MultiHot(width=width):
                return width
        return feature.of.size[0] if feature.of.is_vector else None

    def _encoded(self, column: torch.Tensor, place: int, values: dict[Node, Any]) -> torch.Tensor:
        """As `runtime.encode`, Tensor[B, width]."""
        encoding = self.leaves[place].encoding
        match encoding:
            case Category():
                return column[:, None]
            case Numeric(part=part, width=width):
                missing = torch.isnan(column)
                present = torch.where(missing, torch.zeros_like(column), column)
                number = date_part(present, part) - getattr(self, f"mean_{place}")
                standard = number * getattr(self, f"scale_{place}")
                standard = torch.where(missing, self._missing(column), standard)
                parts = [standard, missing.to(torch.float64)][:width]
                return torch.stack(parts, dim=1).to(getattr(torch, encoding.dtype))
            case Vector(mean=mean, scale=scale):
                standard = column if mean is None else column - values[mean]
                standard = standard if scale is None else standard * values[scale]
                missing = torch.isnan(column)
                return torch.where(missing, self._missing(column), standard).to(torch.float32)
            case Sparse() | MultiHot():
                return column.to(torch.float32)
        raise UnsupportedError(f"a column encoded by {type(encoding).__name__} cannot be exported")

    def _missing(self, column: torch.Tensor) -> torch.Tensor:
        """What missing values become: the mean; an imported network sees them as they are."""
        return column if self.model.imported else torch.zeros_like(column)

    def _output(self, place: int, x: torch.Tensor) -> torch.Tensor:
        """As `runtime.outputs`."""
        output = self.outputs[place]
        binary = len(output.classes) <= 2
        match output.method:
            case "value":
                wide = x[:, 0].to(torch.float64) * getattr(self, f"output_scale_{place}")
                return wide + getattr(self, f"output_shift_{place}")
            case "centroid":
                return x.argmin(dim=1) + 1
            case "label" if binary:
                return (x[:, 0] > 0).to(torch.int64)
            case "label":
                return x.argmax(dim=1)
            case "proba" if binary:
                return torch.sigmoid(x[:, 0].to(torch.float64))
            case "proba":
                return torch.softmax(x.to(torch.float64), dim=1)
            case _:
                return x[:, 0] if x.shape[1:] == (1,) else x.reshape(x.shape[0], -1)


def _double(value: float) -> torch.Tensor:
    return torch.tensor(value, dtype=torch.float64)


def applied(step: Tensor, values: list[torch.Tensor], rows: int) -> torch.Tensor:
    """An operator as torch's tracer follows it."""
    match step:
        case Linear():
            return F.linear(*values)
        case Distances(cosine=False):
            gaps = values[0][:, None] - values[1][None]
            return (gaps * gaps).sum(dim=2).sqrt()
        case OneHot(count=count):
            known = torch.arange(1, count, dtype=torch.int64)
            return (values[0] == known).to(torch.float32)
        case Embedding():
            return F.embedding(values[0][:, 0], values[1])
        case Concat():
            return torch.cat(values, dim=-1)
        case UserModule():
            raise UnsupportedError(
                f"the network needs the Python function `{step.reference}`, which no file can hold",
                hint="write forward() without Python control flow on values, and train again",
            )
        case _:
            return operator(step)(values, rows)


def traced(module: Exportable) -> Any:
    """`module` as an ``ExportedProgram`` for any number of rows."""
    rows = torch.export.Dim("rows", min=1)
    example = module.example()
    shapes: tuple[Sequence[dict[int, Any]], ...] = (tuple({0: rows} for _ in example),)
    with torch.no_grad():
        return torch.export.export(module, example, dynamic_shapes=shapes)
