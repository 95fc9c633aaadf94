"""Optuna's distributions say what to search over; its plots show what was found."""

from __future__ import annotations

import math

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

import gradbase as gb
import shop
from gradbase.errors import BindError, DataError
from gradbase.frontend.space import (
    Choice,
    IntUniform,
    LogUniform,
    Uniform,
    as_dimension,
    space_of,
    to_plain,
)
from gradbase.selection.optuna_study import importance, to_optuna
from gradbase.selection.space import draw
from gradbase.store.records import ModelRecord, TrialRecord

PAIRS = [
    (FloatDistribution(0.0, 0.5), Uniform(0.0, 0.5)),
    (FloatDistribution(0.0, 0.5, step=0.1), Uniform(0.0, 0.5, 0.1)),
    (FloatDistribution(1e-4, 0.1, log=True), LogUniform(1e-4, 0.1)),
    (IntDistribution(16, 64), IntUniform(16, 64)),
    (IntDistribution(16, 64, step=16), IntUniform(16, 64, 16)),
    (IntDistribution(8, 512, log=True), IntUniform(8, 512, log=True)),
    (CategoricalDistribution(("adam", "sgd")), Choice(("adam", "sgd"))),
]


def record(metric="roc_auc", space=None, trials=()):
    return ModelRecord(
        name="m", model_type="dnn_classifier", task="binary", label="y", query="", seed=0,
        options={"space": {k: to_plain(d) for k, d in (space or {}).items()}}, relation_hash="",
        code_version="", engine="duckdb", trials=tuple(trials), metric=metric, best_trial=1,
    )  # fmt: skip


@pytest.mark.parametrize(("distribution", "dimension"), PAIRS, ids=str)
def test_distributions_are_dimensions_and_back(distribution, dimension):
    """The same range, scale and step both ways; every value drawn is one of the distribution."""
    assert as_dimension(distribution) == dimension
    trial = TrialRecord(1, "SUCCEEDED", {"x": draw(dimension, "x", 0, 1)}, {"roc_auc": 0.5})
    study = to_optuna(record(space={"x": dimension}, trials=[trial]))
    assert study.trials[0].distributions["x"] == distribution
    for number in range(200):
        value = draw(dimension, "x", 1, number)
        assert distribution._contains(distribution.to_internal_repr(value)), value


def test_steps_reach_both_ends():
    drawn = {draw(Uniform(0.0, 0.3, 0.1), "x", 1, k) for k in range(200)}
    assert sorted(round(v, 9) for v in drawn) == [0.0, 0.1, 0.2, 0.3]
    assert {draw(IntUniform(1, 10, 4), "x", 1, k) for k in range(100)} == {1, 5, 9}
    low = sum(draw(IntUniform(1, 100, log=True), "x", 1, k) <= 10 for k in range(2000))
    assert 900 < low < 1150


@pytest.mark.parametrize(
    "made",
    [
        lambda: gb.uniform(0, 1, step=0), lambda: gb.uniform(0, 1, step=-0.1),
        lambda: gb.randint(1, 9, step=0), lambda: gb.randint(0, 9, log=True),
        lambda: gb.randint(1, 9, step=2, log=True),
    ],
)  # fmt: skip
def test_steps_and_logarithms_that_cannot_be(made):
    with pytest.raises(BindError, match=r"step|logarithmic"):
        made()


@pytest.mark.parametrize("dimension", [d for _, d in PAIRS], ids=str)
def test_spaces_are_kept_in_the_record(dimension):
    import json

    plain = json.loads(json.dumps(to_plain(dimension)))
    assert space_of({"space": {"x": plain}}, []) == {"x": dimension}


def test_spaces_of_first_records_are_read_by_what_was_tried():
    """They hold the values of a choice, or both ends of a range."""
    options = {"space": {"a": [1, 2], "b": [0.1, 0.2]}}
    found = space_of(options, [{"a": 1, "b": 0.15}, {"a": 2, "b": 0.2}])
    assert found == {"a": Choice((1, 2)), "b": Uniform(0.1, 0.2)}


def test_trials_keep_their_ends():
    """Failed and stopped trials, a metric that is no number, losses, layers."""
    space = {"hidden_units": Choice(([8], [16, 8]))}
    losses = [(1, 0.7, 0.6), (2, 0.5, None), (3, None, None)]
    curve = [{"trial": 1, "epoch": e, "train_loss": t, "eval_loss": v} for e, t, v in losses]
    trials = [
        TrialRecord(1, "SUCCEEDED", {"hidden_units": [8]}, {}, 0.5, 0.4),
        TrialRecord(2, "FAILED", {"hidden_units": [16, 8]}, error="bad"),
        TrialRecord(3, "STOPPED", {"hidden_units": [8]}, {}, 0.5, 0.4),
        TrialRecord(4, "SUCCEEDED", {"hidden_units": [8]}, {}, math.nan, math.nan),
    ]
    study = to_optuna(record("loss", space, trials), curve)
    assert [t.state.name for t in study.trials] == ["COMPLETE", "FAIL", "PRUNED", "FAIL"]
    assert study.direction.name == "MINIMIZE"
    first, second = study.trials[:2]
    assert (first.value, first.intermediate_values) == (0.4, {1: 0.6, 2: 0.5})
    assert first.distributions["hidden_units"].choices == ("[8]", "[16, 8]")
    assert (second.user_attrs["trial"], second.user_attrs["error"]) == (2, "bad")


def test_importance_finds_what_matters_and_needs_trials():
    space = {"rate": LogUniform(1e-4, 1e-1), "noise": Uniform(0.0, 1.0), "same": Choice((1,))}
    trials = []
    for k in range(1, 41):
        drawn = {name: draw(d, name, 0, k) for name, d in space.items()}
        value = 0.9 - 0.1 * (math.log10(drawn["rate"]) + 2.5) ** 2
        trials.append(TrialRecord(k, "SUCCEEDED", drawn, {"roc_auc": value}))
    found = importance(record(space=space, trials=trials))
    assert next(iter(found)) == "rate"
    assert found["rate"] > 0.6
    assert sum(found.values()) == pytest.approx(1)
    assert set(found) == set(space)
    for few in (record(space=space, trials=trials[:1]), record(trials=trials)):
        with pytest.raises(DataError, match="importance compares trials"):
            importance(few)


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A search over Optuna's distributions wherever gb's dimensions may stand."""
    with gb.connect(progress=False) as db:
        shop.load(db)
        search = gb.search(
            gb.mlp(hidden=gb.choice([4], [8, 4]), dropout=FloatDistribution(0.0, 0.4, step=0.2)),
            lr=FloatDistribution(1e-3, 1e-1, log=True), batch_size=IntDistribution(16, 64),
            optimizer=CategoricalDistribution(("adam", "adamw")), trials=8, epochs=3,
            early_stop=False, split="random", eval_fraction=0.3,
        )  # fmt: skip
        yield db.table(shop.rows_for("churned")).fit(search, target="churned", name="m")


def test_a_search_over_optunas_distributions(study):
    assert set(study.optuna.best_params) == {
        "hidden_units", "dropout", "learn_rate", "batch_size", "optimizer"
    }  # fmt: skip
    assert study.optuna.best_trial.user_attrs["trial"] == study.best_trial
    assert study.optuna.best_value == pytest.approx(study.rows[study.best_trial - 1]["roc_auc"])
    assert [len(t.intermediate_values) for t in study.optuna.trials] == [3] * 8
    assert study.scales["learn_rate"] == "log"


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
@pytest.mark.parametrize(
    "plot",
    [
        "plot_optimization_history", "plot_parallel_coordinate", "plot_param_importances",
        "plot_intermediate_values", "plot_slice",
    ],
)  # fmt: skip
def test_optunas_plots_open_it(study, plot):
    axes = getattr(optuna.visualization.matplotlib, plot)(study.optuna)
    first = axes if not hasattr(axes, "flat") else axes.flat[0]
    assert first.has_data() or first.lines or first.collections
