"""Questions about the networks of models: first layers, columns, constants."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from gradbase.ir.conversion import ToTable, ToTensor
from gradbase.ir.learning import Model
from gradbase.ir.node import Node, transform, walk
from gradbase.ir.tensor import Concat, Embedding, Linear, OneHot, Tensor, TorchOp


@dataclass(frozen=True)
class FirstLayer:
    """A layer over columns side by side; its inputs for ``parts[i]`` begin at ``starts[i]``."""

    layer: Linear
    parts: tuple[Tensor, ...]
    starts: tuple[int, ...]

    def weight(self, chosen: Sequence[int]) -> Tensor:
        """The columns of the weight for the parts `chosen`."""
        runs: list[list[int]] = []
        for i in chosen:
            start, stop = self.starts[i], self.starts[i] + self.parts[i].shape[-1]
            if runs and runs[-1][1] == start:
                runs[-1][1] = stop
            else:
                runs.append([start, stop])
        whole = self.layer.weight
        if runs == [[0, whole.shape[1]]]:
            return whole
        pieces = tuple(_columns(whole, start, stop) for start, stop in runs)
        return pieces[0] if len(pieces) == 1 else Concat(pieces)

    def inputs(self, chosen: Sequence[int]) -> Tensor:
        """The parts `chosen` side by side."""
        parts = tuple(self.parts[i] for i in chosen)
        return parts[0] if len(parts) == 1 else Concat(parts)


def _columns(weight: Tensor, start: int, stop: int) -> Tensor:
    arguments = json.dumps([{"$": 0}, 1, start, stop])
    dims = (weight.shape[0], stop - start)
    return TorchOp("slice.Tensor", (weight,), arguments, dims, weight.dtype)


def first_layer(model: Model, methods: Sequence[str]) -> FirstLayer | None:
    """The layer that alone reads the columns of `model`; None: there is none such.

    Only models whose network reads the features as they are.
    """
    if model.columns:
        return None
    outputs = [model.output(m) for m in dict.fromkeys(methods)]
    readers: dict[Tensor, set[Node]] = {}
    layers: list[Linear] = []
    for output in outputs:
        for n in walk(output):
            for child in n.children:
                if isinstance(child, Tensor):
                    readers.setdefault(child, set()).add(n)
            if isinstance(n, Linear) and not n.weight.inputs and n.x.inputs:
                layers.append(n)
    for layer in dict.fromkeys(layers):
        parts = layer.x.parts if isinstance(layer.x, Concat) else (layer.x,)
        if not all(column_of(p) for p in parts) or len(layer.weight.shape) != 2:
            continue
        alone = all(_only(t, layer, readers) for t in _between(layer))
        read = {t.column for o in outputs for t in o.inputs}
        if alone and read == {column_of(p) for p in parts}:
            starts = [0]
            for part in parts:
                starts.append(starts[-1] + part.shape[-1])
            return FirstLayer(layer, parts, tuple(starts[:-1]))
    return None


def _between(layer: Linear) -> list[Tensor]:
    return [n for n in walk(layer.x) if isinstance(n, Tensor) and n.inputs]


def _only(t: Tensor, layer: Linear, readers: dict[Tensor, set[Node]]) -> bool:
    """Whether `t` is read on the way to `layer` only."""
    inside = {*_between(layer), layer}
    return readers.get(t, set()) <= inside


def column_of(part: Tensor) -> str:
    """The column that an input of a first layer is made of; '' where it is not one column."""
    match part:
        case ToTensor(column=column):
            return column
        case OneHot(codes=ToTensor(column=column)):
            return column
        case Embedding(codes=ToTensor(column=column), weight=weight) if not weight.inputs:
            return column
    return ""


def with_outputs(
    model: Model, methods: Sequence[str], change: Callable[[Node], Node | None]
) -> tuple[ToTable, ...]:
    """The outputs `methods` with `change` made to their networks."""
    made: list[ToTable] = []
    for method in dict.fromkeys(methods):
        found = transform(model.output(method), change)
        assert isinstance(found, ToTable)
        made.append(found)
    return tuple(made)
