"""From a specification and a relation to the nodes of a search."""

from __future__ import annotations

import dataclasses

import pytest

from gradbase.errors import BindError
from gradbase.frontend.fits import build_dataset, build_fits, task_of
from gradbase.frontend.space import Choice
from gradbase.frontend.training import SplitSpec, TrainingSpec
from gradbase.ir.learning import ClassWeight, Mlp, Optimizer, PythonNetwork, Split
from gradbase.ir.relational import Scan
from gradbase.ir.types import FLOAT64, INT64, TEXT, Schema, SqlType

ROWS = Scan("t", "", Schema.of(id=INT64, a=FLOAT64, B=TEXT, day=SqlType("date"), Label=TEXT))


def test_features_are_the_columns_without_label_key_and_split_column():
    spec = TrainingSpec(
        "dnn_classifier",
        task="classification",
        row_key=("ID",),
        split=SplitSpec("seq", 0.3, column="DAY"),
        seed=7,
        shards=2,
    )

    data = build_dataset(spec, ROWS, 1000)

    assert (data.features, data.label, data.row_key) == (("a", "B"), "Label", ("id",))
    assert data.split == Split("seq", 0.3, 0.0, "day")
    assert (data.task, data.seed, data.shards) == ("classification", 7, 2)


def test_instance_weights_are_no_feature():
    spec = TrainingSpec(
        "dnn_classifier", weight_column="A", class_weights=(("no", 1.0), ("yes", 2.0)), patience=4
    )

    data = build_dataset(spec, ROWS, 1000)

    assert (data.features, data.weight) == (("id", "B", "day"), "a")
    assert data.columns == ("id", "B", "day", "Label", "a")
    assert data.class_weights == (ClassWeight("no", 1.0), ClassWeight("yes", 2.0))
    spec = dataclasses.replace(spec, hidden_units=(4,))
    assert build_fits(spec, data, [{}])[0].patience == 4


def test_the_normal_equation_takes_one_step():
    spec = TrainingSpec(
        "linear_reg", hidden_units=(), strategy="normal_equation", l2_reg=0.5, fit_intercept=False
    )

    (fit,) = build_fits(spec, build_dataset(spec, ROWS, 1000), [{}])

    assert fit.optimizer == Optimizer("normal_equation", 0.0, 0.5)
    assert (fit.epochs, fit.network) == (1, Mlp((), intercept=False))


def test_an_automatic_split_depends_on_the_rows():
    spec = TrainingSpec("dnn_classifier", label="Label")

    assert build_dataset(spec, ROWS, 499).split == Split("none", 0.0, 0.0)
    assert build_dataset(spec, ROWS, 1000).split == Split("random", 0.2, 0.0)
    assert build_dataset(spec, ROWS, 1000, task="binary").task == "binary"


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        (
            TrainingSpec("linear_reg", label="lable"),
            r"label column `lable`(.|\n)*did you mean `Label`",
        ),
        (TrainingSpec("linear_reg", label="zzz"), r"set input_label_cols"),
        (TrainingSpec("linear_reg", weight_column="b"), r"`B` has type text, weights are numbers"),
        (TrainingSpec("linear_reg", weight_column="label"), r"`Label` is the label"),
        (TrainingSpec("linear_reg", weight_column="bb"), r"instance_weight_col column `bb`"),
        (TrainingSpec("linear_reg", row_key=("idd",)), r"row_key column `idd`"),
        (TrainingSpec("linear_reg", row_key=("id", "a", "B", "day")), r"no column to learn from"),
    ],
)
def test_columns_that_are_not_there(spec, text):
    with pytest.raises(BindError, match=text):
        build_dataset(spec, ROWS, 1000)


def test_configurations_override_the_specification():
    spec = TrainingSpec(
        "dnn_classifier", hidden_units=(8,), dropout=0.1, l2_reg=0.01, space={"x": Choice((1,))}
    )
    data = build_dataset(spec, ROWS, 1000)

    first, second = build_fits(
        spec,
        data,
        [
            {},
            {
                "hidden_units": [4, 2],
                "learn_rate": 0.1,
                "batch_size": 64,
                "seed": 3,
                "optimizer": "sgd",
            },
        ],
    )

    assert (first.trial, first.network) == (1, Mlp((8,), "relu", 0.1))
    assert first.optimizer == Optimizer("adam", 0.001, 0.01, 0.0)
    assert (second.trial, second.network) == (2, Mlp((4, 2), "relu", 0.1))
    assert second.optimizer == Optimizer("sgd", 0.1, 0.01, 0.0)
    assert (second.batch_size, second.seed, second.data) == (64, 3, first.data)


def test_hidden_units_must_be_known_by_then():
    spec = TrainingSpec("dnn_classifier")

    with pytest.raises(BindError, match="hidden_units is not set"):
        build_fits(spec, build_dataset(spec, ROWS, 1000), [{}])


def test_a_python_network_sees_its_own_configuration_only():
    network = PythonNetwork("pkg:net", "{}", "abc")
    spec = TrainingSpec("python:pkg:net", network=network, extra={"depth": 2, "sizes": (1, 2)})

    (fit,) = build_fits(spec, build_dataset(spec, ROWS, 1000), [{"width": 4, "learn_rate": 0.1}])

    assert fit.network == PythonNetwork(
        "pkg:net", '{"depth": 2, "sizes": [1, 2], "width": 4}', "abc"
    )
    assert fit.optimizer.learn_rate == 0.1


@pytest.mark.parametrize(
    ("kind", "task"),
    [("float32", "regression"), ("text", "classification"), ("int64", "classification")],
)
def test_a_label_type_says_the_task_where_nobody_does(kind, task):
    assert task_of(SqlType(kind)) == task
