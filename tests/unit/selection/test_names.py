"""Whatever is named goes with whatever else is: losses, metrics, optimisers, schedules, weights."""

from __future__ import annotations

import random

import pytest
import torch

import gradbase as gb
from gradbase.errors import BindError

TASKS = {
    "yes": (["cross_entropy", "focal"], ["precision", "recall", "f1_score", "log_loss", "roc_auc"]),
    "kind": (["cross_entropy", "focal"], ["accuracy", "f1_score", "log_loss", "roc_auc"]),
    "amount": (
        ["squared_error", "absolute_error", "huber", "log_cosh"],
        ["mean_absolute_error", "mean_squared_error", "median_absolute_error", "r2_score"],
    ),
}
CLASSES = {"yes": {"true": 3.0, "false": 1.0}, "kind": {"k0": 2.0, "k1": 1.0, "k2": 0.0}}
ROWS = 90
SEEDS = [*range(6), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(6, 60))]


@pytest.fixture(scope="module")
def db():
    with gb.connect(progress=False, threads=1) as session:
        session.sql(
            "CREATE TABLE t AS SELECT i AS id, sin(i) AS a, cos(i * 3) AS b, i % 2 AS g, 1.0 + i % 7 AS w, "
            "sin(i) + cos(i * 3) > 0 AS yes, 'k' || i % 3 AS kind, sin(i) * 3 AS amount "
            f"FROM range({ROWS}) r(i)"
        )
        yield session


def perceptron(config):
    return torch.nn.Sequential(
        torch.nn.Linear(config["n_inputs"], 4),
        torch.nn.ReLU(),
        torch.nn.Linear(4, config["n_outputs"]),
    )


def convolutions(config):
    return torch.nn.Sequential(
        torch.nn.Unflatten(1, (1, -1)), torch.nn.Conv1d(1, 2, 2), torch.nn.BatchNorm1d(2),
        torch.nn.Flatten(), torch.nn.Linear(2 * (config["n_inputs"] - 1), config["n_outputs"]),
    )  # fmt: skip


def drawn(seed):
    """A search that a user might ask for: target, network, options, whether trials are stacked."""
    choose = random.Random(seed)

    def maybe(share, **options):
        return options if choose.random() < share else {}

    target = choose.choice(list(TASKS))
    losses, metrics = TASKS[target]
    networks = [gb.mlp([4], activation=choose.choice(["relu", "sigmoid", "gelu"])), gb.mlp([])]
    network = choose.choice([*networks, perceptron, convolutions])
    optimizer = choose.choice(["sgd", "adam", "adamw", "rmsprop", "adagrad"])
    options = {
        "optimizer": optimizer, "metric": choose.choice(metrics), "lr": gb.choice(0.01, 0.03),
        "lr_schedule": choose.choice(["constant", "linear", "cosine", "exponential", "step"]),
        "batch_size": choose.choice([16, 1000]), "epochs": 2,
    }  # fmt: skip
    options |= maybe(0.7, loss=choose.choice(losses)) | maybe(
        0.3, lr_warmup_epochs=choose.choice([0.5, 3])
    )
    options |= maybe(0.5, clip_norm=choose.choice([0.01, gb.choice(0.1, 10.0)]))
    options |= maybe(0.3, l2_reg=0.1) | maybe(0.2, early_stop=False) | maybe(0.4, split="random")
    if optimizer in ("sgd", "rmsprop"):
        options |= maybe(0.5, momentum=gb.choice(0.0, 0.9))
    weigh = [{}, {"weight_column": "w"}]
    if target in CLASSES:
        weigh += [{"class_weights": CLASSES[target]}, {"auto_class_weights": True}]
    options |= choose.choice(weigh)
    if network in networks:
        options |= maybe(0.4, group_by=["g"])
    return target, network, options, choose.random() < 0.6


@pytest.mark.parametrize("seed", SEEDS)
def test_what_is_named_trains(db, seed):
    target, network, options, stacked = drawn(seed)
    db.sql(f"SET gradbase.disabled_rules = '{'' if stacked else 'fuse_fits'}'")
    left_out = {*TASKS, "w"} - {target, options.get("weight_column")}
    rows = db.table(f"SELECT * EXCLUDE ({', '.join(sorted(left_out))}) FROM t")
    study = rows.fit(network, target=target, name="m", replace=True, row_key=["id"], **options)
    assert {r["status"] for r in study.rows} == {"SUCCEEDED"}, options
    assert study.metric == options["metric"]
    assert len(study.best.predict(rows)) == ROWS


def test_the_loss_says_what_is_learnt_of_a_perceptron(db):
    rows = db.table("SELECT id, a, b, w FROM t")
    for loss, task in (("huber", "regression"), ("focal", "multiclass")):
        study = rows.fit(gb.mlp([4]), target="w", name="m", replace=True, loss=loss, epochs=1)
        assert study.record.task == task


def test_a_loss_of_another_task_is_an_error(db):
    rows = db.table("SELECT id, a, b, yes FROM t")
    with pytest.raises(BindError, match="loss 'huber' is not of a classification"):
        rows.fit(perceptron, target="yes", name="m", replace=True, loss="huber", epochs=1)


def test_a_population_goes_on_from_a_trial_that_has_converged(db):
    rows = db.table("SELECT id, a, b, yes FROM t")
    study = rows.fit(
        gb.mlp([4]), target="yes", name="m", replace=True, procedure="pbt", trials=5, epochs=10,
        lr=gb.loguniform(0.001, 0.5), min_rel_progress=0.3, eval_fraction=0.2, row_key=["id"],
        batch_size=8, seed=5,
    )  # fmt: skip
    assert {r["status"] for r in study.rows} == {"SUCCEEDED"}
