"""A trained perceptron taken apart again: what a training that continues it starts from."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from gradbase.errors import UnsupportedError
from gradbase.ir.conversion import Category, ToTable, ToTensor, Vector
from gradbase.ir.learning import Model
from gradbase.ir.tensor import Binary, Concat, Embedding, Linear, OneHot, Param, Tensor, Unary
from gradbase.runtime.encode import Blobs, constant
from gradbase.runtime.train.features import Inputs

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Layers:
    """The operators of a perceptron, as `finish.perceptron` builds them.

    Parameters
    ----------
    linear : tuple of Linear
        From the first to the last.
    activation : str
        Between them, '' where there is one only.
    dense, embedded : tuple
        What the first one reads.
    """

    linear: tuple[Linear, ...]
    activation: str
    dense: tuple[ToTensor, ...]
    embedded: tuple[Embedding, ...]

    @property
    def hidden_units(self) -> tuple[int, ...]:
        """Outputs of all layers but the last."""
        return tuple(layer.weight.shape[0] for layer in self.linear[:-1])


@dataclass(frozen=True)
class Start:
    """Encodings, label and weights of the model that is continued.

    `layers` are float32 arrays in the order of ``MlpShape.true_blocks``, part after part.
    """

    inputs: Inputs
    head: ToTable
    layers: tuple[Array, ...]


def layers_of(model: Model) -> tuple[Layers, ...]:
    """The perceptron of a model, or hidden layers and the linear part of a wide and deep one.

    Raises
    ------
    UnsupportedError
        Its network is another one.
    """
    match model.outputs[0].x:
        case Binary(op="add", a=deep, b=wide):
            return _layers(model, deep), _layers(model, wide)
        case x:
            return (_layers(model, x),)


def _layers(model: Model, x: Tensor) -> Layers:
    linear: list[Linear] = []
    activations: set[str] = set()
    while isinstance(x, Linear):
        linear.insert(0, x)
        if not isinstance(x.x, Unary):
            break
        activations.add(x.x.op)
        x = x.x.x
    parts = _parts(linear[0].x) if linear else ()
    dense = tuple(_dense(p) for p in parts if not isinstance(p, Embedding))
    embedded = tuple(p for p in parts if isinstance(p, Embedding))
    if not parts or None in dense or len(activations) > 1:
        raise UnsupportedError(
            f"model `{model.name}` is no multilayer perceptron of columns, it cannot be continued",
            hint="train it again without warm_start",
        )
    found = tuple(d for d in dense if d is not None)
    return Layers(tuple(linear), activations.pop() if activations else "", found, embedded)


def start_of(model: Model, blobs: Blobs) -> Start:
    """What a training that continues `model` starts from; reads its weights."""
    towers = layers_of(model)
    first = towers[0]
    codes = tuple(e.codes for e in first.embedded if isinstance(e.codes, ToTensor))
    inputs = Inputs(model.features, first.dense, codes, _constants(first.dense, blobs), ())
    arrays = itertools.chain.from_iterable(_arrays(tower, blobs) for tower in towers)
    return Start(inputs, model.outputs[0], tuple(arrays))


def _arrays(found: Layers, blobs: Blobs) -> list[Array]:
    """The parameters in the order of ``MlpShape.true_blocks``."""
    turned = [np.ascontiguousarray(constant(layer.weight, blobs).T) for layer in found.linear]
    biases = [constant(layer.bias, blobs) for layer in found.linear if layer.bias is not None]
    wide = sum(e.weight.shape[1] for e in found.embedded)
    dense = len(turned[0]) - wide
    layers = [np.concatenate([turned[0][:dense], biases[0][None]])]
    if found.embedded:
        layers += [turned[0][dense:], *(constant(e.weight, blobs) for e in found.embedded)]
    layers += itertools.chain.from_iterable(zip(turned[1:], biases[1:], strict=True))
    return layers


def _parts(x: Tensor) -> tuple[Tensor, ...]:
    return x.parts if isinstance(x, Concat) else (x,)


def _dense(part: Tensor) -> ToTensor | None:
    """The column behind a part of the input matrix."""
    match part:
        case OneHot(codes=ToTensor(encoding=Category()) as codes):
            return codes
        case ToTensor():
            return part
    return None


def _constants(dense: tuple[ToTensor, ...], blobs: Blobs) -> dict[str, Array]:
    """Arrays of the encodings, by hash."""
    vectors = (t.encoding for t in dense if isinstance(t.encoding, Vector))
    tensors = itertools.chain.from_iterable((v.mean, v.scale) for v in vectors)
    return {t.hash: constant(t, blobs) for t in tensors if isinstance(t, Param)}
