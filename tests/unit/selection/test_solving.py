"""When a linear regression is solved exactly without being asked to."""

from __future__ import annotations

import dataclasses

import pytest

from gradbase.frontend.fits import build_dataset
from gradbase.frontend.space import Choice, LogUniform
from gradbase.frontend.training import TrainingSpec
from gradbase.ir.relational import Scan
from gradbase.ir.types import FLOAT64, TEXT, Schema, SqlType
from gradbase.selection.solving import Counts, texts_to_count, with_strategy

ROWS = Scan("t", "", Schema.of(a=FLOAT64, kind=TEXT, day=SqlType("date"), label=FLOAT64))
SPEC = TrainingSpec("linear_reg", hidden_units=())


def strategy(spec, rows=10_000, kinds=3):
    return with_strategy(
        spec, build_dataset(spec, ROWS, rows), Counts(rows, 2, {"kind": kinds})
    ).strategy


@pytest.mark.parametrize(
    ("said", "space", "expected"),
    [
        ((), {}, "normal_equation"),
        (("l2_reg", "seed", "split.method", "row_key"), {}, "normal_equation"),
        (("epochs",), {}, "batch_gradient_descent"),
        (("learn_rate",), {}, "batch_gradient_descent"),
        (("l1_reg",), {}, "batch_gradient_descent"),
        ((), {"l2_reg": LogUniform(0.1, 1.0)}, "normal_equation"),
        ((), {"batch_size": Choice((16, 32))}, "batch_gradient_descent"),
    ],
)
def test_options_that_speak_of_steps_ask_for_them(said, space, expected):
    spec = dataclasses.replace(SPEC, said=frozenset(said), space=space, procedure="random")
    assert strategy(spec) == expected


def test_what_was_asked_for_stays():
    for asked in ("normal_equation", "batch_gradient_descent"):
        assert strategy(dataclasses.replace(SPEC, strategy=asked), rows=3) == asked


def test_bigquerys_rule_ten_rows_a_column():
    """2 for a number, 6 for a date, one per text and two more."""
    width = 2 + 6 + 5
    assert strategy(SPEC, rows=10 * width) == "normal_equation"
    assert strategy(SPEC, rows=10 * width - 1) == "batch_gradient_descent"
    assert strategy(SPEC, rows=2_000, kinds=1_000) == "batch_gradient_descent"


def test_only_a_linear_regression_has_texts_to_count():
    assert texts_to_count(SPEC, ROWS.schema) == ("kind",)
    for other in (
        TrainingSpec("dnn_regressor"),
        TrainingSpec("logistic_reg", hidden_units=()),
        dataclasses.replace(SPEC, strategy="batch_gradient_descent"),
    ):
        assert texts_to_count(other, ROWS.schema) == ()
        assert strategy(other) == "batch_gradient_descent"
