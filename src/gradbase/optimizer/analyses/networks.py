"""Questions about the networks of models: first layers, columns, constants."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from gradbase.ir.conversion import ToTable, ToTensor
from gradbase.ir.factored import Picked
from gradbase.ir.imported import Trees
from gradbase.ir.learning import Model
from gradbase.ir.node import Node, transform, walk
from gradbase.ir.tensor import (
    Concat,
    Embedding,
    Linear,
    MatMul,
    OneHot,
    Reshape,
    Tensor,
    TorchOp,
)


@dataclass(frozen=True)
class FirstLayer:
    """A layer over columns side by side; its inputs for ``parts[i]`` begin at ``starts[i]``."""

    layer: Linear
    parts: tuple[Tensor, ...]
    starts: tuple[int, ...]

    @property
    def node(self) -> Tensor:
        return self.layer

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
        pieces = tuple(columns_between(whole, start, stop) for start, stop in runs)
        return pieces[0] if len(pieces) == 1 else Concat(pieces)

    def inputs(self, chosen: Sequence[int]) -> Tensor:
        """The parts `chosen` side by side."""
        parts = tuple(self.parts[i] for i in chosen)
        return parts[0] if len(parts) == 1 else Concat(parts)


def columns_between(weight: Tensor, start: int, stop: int) -> Tensor:
    """The columns of a constant matrix from `start` to before `stop`."""
    arguments = json.dumps([{"$": 0}, 1, start, stop])
    dims = (weight.shape[0], stop - start)
    return TorchOp("slice.Tensor", (weight,), arguments, dims, weight.dtype)


def times(weight: Tensor, vector: Tensor) -> Tensor:
    """``weight @ vector`` of constants, Tensor[outputs]."""
    column = Reshape(vector, (vector.shape[-1], 1))
    return Reshape(MatMul(weight, column), (weight.shape[0],))


@dataclass(frozen=True)
class FirstTrees:
    """Trees over columns side by side; `casts` are between, the outermost first."""

    trees: Trees
    casts: tuple[TorchOp, ...]
    parts: tuple[Tensor, ...]
    starts: tuple[int, ...]

    @property
    def node(self) -> Tensor:
        return self.trees

    def inputs(self, chosen: Sequence[int]) -> Tensor:
        """The parts `chosen` side by side, cast as all are."""
        parts = tuple(self.parts[i] for i in chosen)
        made = parts[0] if len(parts) == 1 else Concat(parts)
        for cast in reversed(self.casts):
            made = cast.replace(inputs_=(made,), dims=made.shape)
        return made

    def places(self, chosen: Sequence[int]) -> tuple[int, ...]:
        """The places of the parts `chosen` among the columns that the trees number."""
        runs = [range(self.starts[i], self.starts[i] + self.parts[i].shape[-1]) for i in chosen]
        numbers = self.trees.places or range(self.trees.x.shape[-1])
        return tuple(numbers[at] for run in runs for at in run)

    def some(self, trees: Sequence[int], parts: Sequence[int]) -> Trees:
        """The sum of what `trees` say, which test nothing but `parts`."""
        roots = Picked(self.trees.roots, tuple(trees), 1)
        return self.trees.replace(x=self.inputs(parts), roots=roots, places=self.places(parts))


Entry = FirstLayer | FirstTrees


def first_layer(model: Model, methods: Sequence[str]) -> FirstLayer | None:
    """The layer that alone reads the columns of `model`; None: there is none such."""
    match entries(model, methods):
        case (FirstLayer() as found,):
            return found
    return None


def entries(model: Model, methods: Sequence[str]) -> tuple[Entry, ...]:
    """The layers and trees that together alone read the columns of `model`; (): not they alone.

    Only of models whose network reads the features as they are.
    """
    if model.columns:
        return ()
    outputs = [model.output(m) for m in dict.fromkeys(methods)]
    readers: dict[Node, set[Node]] = {}
    found: dict[Node, Entry] = {}
    for n in (n for output in outputs for n in walk(output)):
        for child in n.children:
            if isinstance(child, Tensor):
                readers.setdefault(child, set()).add(n)
        entry = _entry(n)
        if entry is not None:
            found[n] = entry
    inside: set[Node] = {*found}
    for n in found:
        inside.update(t for t in walk(n) if isinstance(t, Tensor) and t.inputs and t is not n)
    # What is below an entry but read elsewhere too, or an output itself, is no entry's alone.
    if any(readers.get(t, set()) - inside for t in inside - {*found}):
        return ()
    read = {t.column for o in outputs for t in o.inputs}
    known = {column_of(p) for entry in found.values() for p in entry.parts}
    return tuple(found.values()) if read == known else ()


def _entry(n: Node) -> Entry | None:
    found = layer_of(n)
    if found is None or not all(column_of(p) for p in found.parts):
        return None
    return None if isinstance(found, FirstTrees) and found.trees.places else found


def layer_of(n: Node) -> Entry | None:
    """A layer or trees with what is side by side before them; None: it is something else."""
    match n:
        case Linear(x=x, weight=weight) if not weight.inputs and len(weight.shape) == 2:
            casts: list[TorchOp] = []
        case Trees(x=x):
            x, casts = _uncast(x)
        case _:
            return None
    if len(x.shape) != 2:
        return None
    parts = x.parts if isinstance(x, Concat) else (x,)
    starts = [0]
    for part in parts:
        starts.append(starts[-1] + part.shape[-1])
    if isinstance(n, Trees):
        return FirstTrees(n, tuple(casts), parts, tuple(starts[:-1]))
    return FirstLayer(n, parts, tuple(starts[:-1]))


def _uncast(x: Tensor) -> tuple[Tensor, list[TorchOp]]:
    casts: list[TorchOp] = []
    while isinstance(x, TorchOp) and x.target == "_to_copy.default":
        casts.append(x)
        x = x.inputs_[0]
    return x, casts


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
