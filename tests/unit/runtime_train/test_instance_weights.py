"""Weights of rows and classes: read, checked, relative to the training rows."""

from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
import pytest
import torch
from given_networks import Given
from training_tables import dataset_of, fit_of, make_table, prepared

from gradbase.errors import BindError, DataError
from gradbase.ir.learning import ClassWeight, Optimizer, PythonNetwork, Split
from gradbase.runtime.train.trainer import make_trainer

ALL = Split("none", 0.0, 0.0)


def table(weights, labels=None):
    count = len(weights)
    labels = ["a", "b"] * (count // 2) if labels is None else labels
    return pa.table({"x": np.arange(float(count)), "y": labels, "w": pa.array(weights)})


def test_weights_are_no_feature_and_relative_to_the_training_rows():
    """Also where they are decimals or integers, and whoever is evaluated."""
    for values in ([1.0, 3.0] * 20, [1, 3] * 20, pa.array([1, 3] * 20).cast(pa.decimal128(20, 1))):
        data = prepared(table(values), weight="w")
        assert [f.name for f in data.inputs.features] == ["x"]
        assert data.weights[data.parts.train].mean() == pytest.approx(1, abs=1e-12)
        assert sorted({round(w, 9) for w in data.weights / data.weights.min()}) == [1, 3]


def test_the_scale_of_weights_does_not_matter():
    one, other = (prepared(table([a, 3 * a] * 20), weight="w", split=ALL) for a in (1.0, 7.3))
    assert np.allclose(one.weights, other.weights, rtol=1e-14, atol=0)


BAD = [
    ([1.0, None, 1.0, 1.0], None, "`w` is missing in row 2"),
    ([1.0, 1.0, math.nan, 1.0], None, "`w` is missing in row 3"),
    ([1.0, -0.5, 1.0, 1.0], None, "`w` is negative in row 2"),
    ([1.0, 1.0, 1.0, math.inf], None, "`w` is infinite in row 4"),
    ([0.0, 0.0, 0.0, 0.0], None, "`w` is 0 in all 4 training rows"),
    ([None, 1.0, 1.0, None], [None, "a", "b", "b"], "`w` is missing in row 4"),
]


@pytest.mark.parametrize(("weights", "labels", "text"), BAD, ids=[b[2] for b in BAD])
def test_weights_that_cannot_be_used(weights, labels, text):
    with pytest.raises(DataError, match=text):
        prepared(table(weights, labels), weight="w", split=ALL)


def test_a_row_without_label_needs_no_weight():
    data = prepared(table([None, 1.0, 1.0, 2.0], [None, "a", "b", "b"]), weight="w", split=ALL)
    assert data.weights.tolist() == pytest.approx([0.75, 0.75, 1.5])


def test_equal_weights_are_none():
    """To the last bit of what is trained."""
    rows = make_table(120).drop_columns(["value"]).append_column("id", pa.array(range(120)))
    weighted = rows.append_column("w", pa.array([0.1] * 120))
    states = []
    for given, options in ((rows, {}), (weighted, {"weight": "w"})):
        trainer = make_trainer(fit_of(dataset_of(given, **options)), prepared(
            given, row_key=("id",), **options))  # fmt: skip
        trainer.run_unit(0, 0)
        states.append(trainer.state(0)["weights"])
    assert torch.equal(*states)


# -- classes -----------------------------------------------------------------------------------


def classes(labels, *given):
    weights = tuple(ClassWeight(text, weight) for text, weight in given)
    rows = pa.table({"x": np.arange(float(len(labels))), "y": pa.array(labels)})
    return prepared(rows, task="multiclass", split=ALL, class_weights=weights).target


@pytest.mark.parametrize(
    ("labels", "given", "expected"),
    [
        (["b", "a", "b", "a"], [("b", 3.0), ("a", 1.0)], (1.0, 3.0)),
        ([True, False] * 2, [("true", 3.0), ("FALSE", 1.0)], (1.0, 3.0)),
        ([10, 2, 3, 2], [("10", 5.0), ("2", 1.0), ("3.0", 0.0)], (1.0, 0.0, 5.0)),
        ([1.5, 2.0] * 2, [("2", 4.0), ("1.5", 1.0)], (1.0, 4.0)),
        (["1", "2"] * 2, [("1", 4.0), ("2", 1.0)], (4.0, 1.0)),
    ],
)
def test_class_weights_find_their_class_by_its_text(labels, given, expected):
    assert classes(labels, *given).class_weights == expected


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ([("no", 1.0)], r"lacks yes of label `y`(.|\n)*STRUCT\('yes', 1.0\)"),
        (
            [("no", 1.0), ("yes", 1.0), ("yess", 2.0)],
            r"names 'yess', which is no class(.|\n)*`yes`",
        ),
    ],
)
def test_class_weights_fit_the_classes(given, text):
    with pytest.raises(BindError, match=text):
        classes(["no", "yes"] * 2, *given)


# -- a module's own loop -------------------------------------------------------------------------

LOSSES = {
    "binary": lambda z, y: torch.nn.functional.binary_cross_entropy_with_logits(
        z[:, 0], y, reduction="none"
    ),
    "multiclass": lambda z, y: torch.nn.functional.cross_entropy(z, y, reduction="none"),
}


@pytest.mark.parametrize("way", ["rows", "classes", "l1"])
@pytest.mark.parametrize("count", [2, 3])
def test_a_module_is_weighted_as_in_a_plain_loop(way, count):
    rows = make_table(150, classes=count).drop_columns(["value"])
    options = {"task": "binary" if count == 2 else "multiclass", "embeddings": False}
    if way == "rows":
        rows = rows.append_column("w", pa.array([float(i % 4) for i in range(150)]))
        options["weight"] = "w"
    if way == "classes":
        options["class_weights"] = tuple(ClassWeight(f"class{i}", 1.0 + i) for i in range(count))
    data = prepared(rows, **options)
    options.pop("embeddings")
    l1 = 0.5 if way == "l1" else 0.0
    fit = fit_of(dataset_of(rows, **options)).replace(
        network=PythonNetwork("m:f", "{}", "h"), optimizer=Optimizer("sgd", 0.05, l1_reg=l1)
    )
    trainer = make_trainer(fit, data, Given(torch.nn.Linear))
    trainer.run_unit(0, 0)
    module = Given(torch.nn.Linear).build(
        None, n_inputs=data.inputs.width, n_outputs=data.outputs, seed=3
    )
    optimizer = torch.optim.SGD(module.parameters(), 0.05)
    for batch in data.batches(0, 0, 32):
        losses = LOSSES[data.task](module(batch.x[:, :-1]), batch.y)
        weight = torch.ones(len(batch.y)) if batch.w is None else batch.w
        if way == "classes":
            weight = 1.0 + batch.y.float()
        optimizer.zero_grad()
        (losses * weight).mean().backward()
        optimizer.step()
        with torch.no_grad():
            w = module.weight
            w.copy_(w.sign() * (w.abs() - 0.05 * l1).clamp(min=0))
    own = trainer._engine.module
    assert torch.allclose(own.weight, module.weight, rtol=1e-5, atol=1e-7)
    assert torch.allclose(own.bias, module.bias, rtol=1e-5, atol=1e-7)
