"""Networks that are a chain of fully connected layers over encoded columns."""

from __future__ import annotations

import functools
from typing import NamedTuple

from gradbase.ir.conversion import Category, ToTensor
from gradbase.ir.tensor import Concat, Embedding, Linear, OneHot, Tensor, Unary

ACTIVATIONS = ("", "relu")
"""Functions behind a layer that a chain may have."""


class Chain(NamedTuple):
    """Layers in the order in which they run, and the function behind each of them."""

    layers: tuple[Linear, ...]
    activations: tuple[str, ...]

    @property
    def input(self) -> Tensor:
        """The encoded columns, Tensor[BATCH, width]."""
        return self.layers[0].x


@functools.lru_cache(maxsize=256)
def chain_of(root: Tensor) -> Chain | None:
    """The chain that ends in `root`; None where it is something else."""
    layers: list[Linear] = []
    activations: list[str] = []
    current = root
    while not is_assembled(current):
        activation = ""
        if isinstance(current, Unary):
            activation, current = current.op, current.x
        if not isinstance(current, Linear) or activation not in ACTIVATIONS or not _plain(current):
            return None
        layers.insert(0, current)
        activations.insert(0, activation)
        current = current.x
    return Chain(tuple(layers), tuple(activations)) if layers else None


def _plain(layer: Linear) -> bool:
    """Whether a layer multiplies a float32 matrix by constants."""
    constants = [c for c in (layer.weight, layer.bias) if c is not None]
    return (
        layer.dtype == "float32"
        and len(layer.shape) == 2
        and all(not c.inputs and c.dtype == "float32" for c in constants)
    )


def is_assembled(node: Tensor) -> bool:
    """Whether `node` is encoded columns side by side, float32: what runtimes make in one step."""
    parts = node.parts if isinstance(node, Concat) else (node,)
    return all(_is_part(p) for p in parts) and node.dtype == "float32"


def _is_part(part: Tensor) -> bool:
    match part:
        case ToTensor(encoding=encoding):
            return not isinstance(encoding, Category)
        case OneHot(codes=ToTensor()) | Embedding(codes=ToTensor(), weight=_):
            return not (isinstance(part, Embedding) and part.weight.children)
    return False
