"""A trained network as the outputs of a model: IR nodes and the constants they name."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from gradbase.ir.conversion import RECONSTRUCTION_ERRORS, Category, ToTable
from gradbase.ir.networks import Autoencoder
from gradbase.ir.tensor import Binary, Concat, Embedding, Linear, OneHot, Tensor, Unary
from gradbase.ir.types import FLOAT64, array_of, list_of, struct_of
from gradbase.runtime.train.features import Inputs, constant
from gradbase.runtime.train.labels import Target
from gradbase.runtime.train.networks import MlpShape

Params = dict[str, npt.NDArray[Any]]


def matrix(inputs: Inputs) -> list[Tensor]:
    """The parts of the input matrix (without its constant column), in order."""
    return [
        OneHot(t, t.encoding.codes) if isinstance(t.encoding, Category) else t for t in inputs.dense
    ]


def joined(parts: list[Tensor]) -> Tensor:
    """`parts` side by side."""
    return parts[0] if len(parts) == 1 else Concat(tuple(parts))


def added(parts: list[Tensor]) -> Tensor:
    """The sum of `parts`."""
    return functools.reduce(lambda x, y: Binary("add", x, y), parts)


def perceptron(
    shape: MlpShape, layers: list[torch.Tensor], inputs: Inputs, params: Params
) -> Tensor:
    """The network with parameters `layers` (in the order of ``shape.blocks``) as a node."""
    arrays = [layer.detach().to(torch.float32).numpy() for layer in layers]
    first, parts = arrays[0], matrix(inputs)
    weight, bias = first[:-1], first[-1]
    if shape.embeddings:
        weight = np.concatenate([weight, arrays[1]])
        tables = (constant(a.copy(), params) for a in arrays[2 : 2 + len(shape.embeddings)])
        parts += [Embedding(t, table) for t, table in zip(inputs.embedded, tables, strict=True)]
    x = _linear(joined(parts), weight, bias, params)
    for at in range(shape.first_dense_layer, len(arrays), 2):
        x = _linear(Unary(shape.activation, x), arrays[at], arrays[at + 1], params)
    return x


def _linear(x: Tensor, weight: npt.NDArray[Any], bias: npt.NDArray[Any], params: Params) -> Tensor:
    """`weight` is (in, out) here and (out, in) in a plan."""
    turned = constant(np.ascontiguousarray(weight.T), params)
    return Linear(x, turned, constant(bias.copy(), params))


def tables(x: Tensor, target: Target) -> tuple[ToTable, ...]:
    """The columns that a model over the network's output `x` can give."""
    if target.task == "regression":
        return (ToTable(x, "value", FLOAT64, scale=target.scale, shift=target.mean),)
    of, classes = target.classes[0].of, target.classes
    proba = FLOAT64 if target.task == "binary" else list_of(FLOAT64)
    probs = list_of(struct_of(label=of, prob=FLOAT64))
    return (
        ToTable(x, "label", of, classes),
        ToTable(x, "proba", proba, classes),
        ToTable(x, "probs", probs, classes),
    )


def coded(x: Tensor, network: Autoencoder, inputs: Inputs, params: Params) -> tuple[ToTable, ...]:
    """The columns of an autoencoder whose last layer is `x`."""
    latent = x
    for _ in range(len(network.hidden_units) - network.bottleneck):
        assert isinstance(latent, Linear)
        activated = latent.x
        assert isinstance(activated, Unary)
        latent = activated.x
    latent = Unary(network.activation, latent)
    given = joined(matrix(inputs))
    errors = zip(RECONSTRUCTION_ERRORS, _errors(given, x, params), strict=True)
    return (
        ToTable(x, "reconstruction", array_of(FLOAT64, x.shape[-1])),
        ToTable(latent, "raw", array_of(FLOAT64, latent.shape[-1])),
        *(ToTable(error, method, FLOAT64) for method, error in errors),
    )


def _errors(given: Tensor, found: Tensor, params: Params) -> Iterator[Tensor]:
    """Means over the columns, Tensor[BATCH, 1]; logarithms take numbers below 0 for 0."""
    columns = given.shape[-1]
    mean = constant(np.full((1, columns), 1 / columns, np.float32), params)
    one = constant(np.ones(1, np.float32), params)
    off = Binary("sub", found, given)
    logs = (Unary("log", Binary("add", Unary("relu", t), one)) for t in (found, given))
    off_logs = Binary("sub", *logs)
    yield Linear(Binary("maximum", off, Unary("neg", off)), mean)
    yield Linear(Binary("mul", off, off), mean)
    yield Linear(Binary("mul", off_logs, off_logs), mean)


def vector_constants(inputs: Inputs) -> Params:
    """Constants of the encodings, to be stored with the model."""
    return dict(inputs.params)
