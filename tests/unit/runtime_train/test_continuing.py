"""A stored perceptron taken apart is what it was put together from."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
import torch
from training_tables import context_of, dataset_of, fit_of, make_table, prepared

from gradbase.errors import DataError, UnsupportedError
from gradbase.ir.conversion import ToTable
from gradbase.ir.learning import Model
from gradbase.ir.tensor import Softmax
from gradbase.ir.types import FLOAT64
from gradbase.runtime.train.continuing import layers_of, start_of
from gradbase.runtime.train.prepare import Preparation
from gradbase.runtime.train.trainer import make_trainer


def with_vector(rows=200, classes=2):
    table = make_table(rows, classes=classes)
    draw = np.random.default_rng(1).normal(size=(rows, 20))
    return table.append_column("v", pa.FixedSizeListArray.from_arrays(draw.ravel(), 20))


def trained(table, label, task, **network):
    """(model, its arrays, the trainer's layers, the trainer's data)."""
    data = prepared(table, label, task)
    trainer = make_trainer(fit_of(dataset_of(table, label, task), **network), data)
    trainer.run_unit(0, 0)
    outputs, params = trainer.finish(0)
    model = Model("m", 1, 1, data.task, label, data.inputs.features, outputs)
    blobs = SimpleNamespace(array=lambda p: params[p.hash].reshape(p.dims))
    return model, blobs, trainer._engine.layers(0), data


@pytest.mark.parametrize("network", [{"hidden": ()}, {"hidden": (8,)}, {"hidden": (8, 5)},
                                     {"hidden": (8, 5), "wide": ("sgd", 0.1)}], ids=str)  # fmt: skip
@pytest.mark.parametrize(
    ("label", "task"), [("y", "binary"), ("y", "multiclass"), ("value", "regression")]
)
def test_weights_encodings_and_label_come_back(label, task, network):
    """One-hot columns, embeddings, vectors and dates of all shapes; bit for bit."""
    table = with_vector(classes=3 if task == "multiclass" else 2)
    table = table.drop_columns([c for c in ("y", "value") if c != label])
    model, blobs, parts, data = trained(table, label, task, **network, activation="tanh")
    start = start_of(model, blobs)
    assert data.inputs.embedded
    assert (start.inputs.dense, start.inputs.embedded) == (data.inputs.dense, data.inputs.embedded)
    assert start.inputs.params.keys() == data.inputs.params.keys()
    found = layers_of(model)
    hidden = network["hidden"]
    assert [f.hidden_units for f in found] == [hidden, ()][: len(parts)]
    assert [f.activation for f in found] == ["tanh" if hidden else "", ""][: len(parts)]
    layers = [layer for _, part in parts for layer in part]
    for found, expected in zip(start.layers, layers, strict=True):
        assert np.array_equal(found, expected.numpy())


@pytest.mark.parametrize(("label", "task"), [("y", "multiclass"), ("value", "regression")])
def test_other_rows_are_encoded_as_the_model_knows_them(label, task):
    table = with_vector(classes=3)
    table = table.drop_columns([c for c in ("y", "value") if c != label])
    model, blobs, layers, data = trained(table, label, task)
    later = table.slice(0, 60)
    node = dataset_of(later, label, task)
    context = context_of(later)
    context.blobs = blobs
    preparation = Preparation(node, context, start=model)
    again = preparation.deal(node)
    preparation.close()
    assert np.array_equal(again.x, data.x[:60])
    assert np.array_equal(again.codes, data.codes[:60])
    assert (again.target.classes, again.target.mean) == (data.target.classes, data.target.mean)
    assert np.array_equal(again.target.y, data.target.y[:60])
    [(_, first)] = make_trainer(fit_of(node, seed=99), again)._engine.layers(0)
    [(_, expected)] = layers
    assert all(torch.equal(a, b) for a, b in zip(first, expected, strict=True))


def test_a_class_that_the_model_does_not_know_is_refused():
    table = make_table(120).drop_columns(["value"])
    model, blobs, *_ = trained(table, "y", "binary")
    other = table.set_column(table.column_names.index("y"), "y", pa.array(["class0", "new"] * 60))
    context = context_of(other)
    context.blobs = blobs
    preparation = Preparation(dataset_of(other), context, start=model)
    with pytest.raises(DataError, match="holds 'new', which is none of the classes class0, class1"):
        preparation.deal(dataset_of(other))


def test_another_network_is_refused():
    table = make_table(120).drop_columns(["value"])
    model, *_ = trained(table, "y", "binary")
    other = model.replace(outputs=(ToTable(Softmax(model.outputs[0].x), "value", FLOAT64),))
    with pytest.raises(UnsupportedError, match="no multilayer perceptron of columns"):
        layers_of(other)
