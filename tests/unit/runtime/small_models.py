"""Models built by hand, and what they compute by plain NumPy."""

from __future__ import annotations

import hashlib

import numpy as np

from gradbase.ir.conversion import Numeric, ToTable, ToTensor
from gradbase.ir.learning import Feature, Model
from gradbase.ir.scalar import Literal
from gradbase.ir.tensor import Concat, Linear, Param, Unary
from gradbase.ir.types import FLOAT32, FLOAT64, TEXT, SqlType, list_of, struct_of


class Arrays:
    """Blobs in memory."""

    def __init__(self):
        self.values = {}

    def param(self, values):
        values = np.ascontiguousarray(values)
        key = hashlib.sha256(values.tobytes() + str(values.shape).encode()).hexdigest()
        self.values[key] = values
        return Param(key, values.shape, str(values.dtype))

    def array(self, param):
        return self.values[param.hash]


def classes(labels, kind=TEXT):
    return tuple(Literal(v, kind) for v in labels)


def heads(logits, task, labels=("no", "yes"), kind=TEXT):
    """Outputs of a classifier or regressor."""
    if task == "regression":
        return (ToTable(logits, "value", FLOAT64, (), 2.0, 10.0),)
    if task == "raw":
        width = logits.shape[-1]
        return (
            ToTable(logits, "raw", FLOAT32 if width == 1 else SqlType("array", FLOAT32, (width,))),
        )
    named = classes(labels, kind)
    proba = FLOAT64 if task == "binary" else list_of(FLOAT64)
    return (
        ToTable(logits, "label", kind, named),
        ToTable(logits, "proba", proba, named),
        ToTable(logits, "probs", list_of(struct_of(label=kind, prob=FLOAT64)), named),
    )


def mlp(
    arrays, *, width=4, hidden=(8,), task="binary", outputs=1, indicator=False, mean=0.3, scale=1.5,
    name="m", labels=("no", "yes"), kind=TEXT, feature=FLOAT32, seed=0,
):  # fmt: skip
    """A network over float columns ``f0 …``."""
    random = np.random.default_rng(seed)
    encoding = Numeric(mean, scale, indicator)
    leaves = tuple(ToTensor(f"f{i}", encoding) for i in range(width))
    x = Concat(leaves)
    for out in (*hidden, outputs):
        weight = random.normal(0, 0.6, (out, x.shape[-1])).astype(np.float32)
        x = Linear(
            x, arrays.param(weight), arrays.param(random.normal(0, 0.5, out).astype(np.float32))
        )
        x = Unary("relu", x)
    x = x.x  # no relu after the last layer
    features = tuple(Feature(f"f{i}", feature) for i in range(width))
    label = "" if task == "raw" else "y"
    outputs = heads(x, task, labels, kind)
    return Model(name, 1, 0, task, label, features, outputs, imported=task == "raw")


def logits(model, arrays, encoded):
    """What an `mlp` gives for encoded rows, in float64."""
    layers = []
    x = model.outputs[0].x
    while True:
        if isinstance(x, Linear):
            layers.append((arrays.array(x.weight), arrays.array(x.bias)))
        elif isinstance(x, Concat):
            break
        x = x.x
    value = encoded.astype(np.float64)
    for i, (weight, bias) in enumerate(reversed(layers)):
        value = (np.maximum(value, 0) if i else value) @ weight.T + bias
    return value


def encoded(model, columns):
    """Rows of encoded features."""
    found = []
    for leaf, column in zip(model.outputs[0].inputs, columns, strict=True):
        e = leaf.encoding
        values = np.asarray(column, np.float64)
        missing = np.isnan(values)
        found.append(np.where(missing, 0, (values - e.mean) * e.scale))
        if e.indicator:
            found.append(missing)
    return np.stack(found, axis=1)
