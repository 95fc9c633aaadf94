"""Small models to store."""

from __future__ import annotations

import datetime as dt

import numpy as np

from gradbase.ir.conversion import Category, Numeric, ToTable, ToTensor
from gradbase.ir.learning import Feature, Model
from gradbase.ir.scalar import Literal
from gradbase.ir.tensor import Concat, Linear, OneHot, Param
from gradbase.ir.types import FLOAT64, TEXT
from gradbase.store import (
    EpochRecord,
    FeatureRecord,
    ModelRecord,
    Scores,
    TrialRecord,
    bytes_of,
    hash_of,
)


def weights(seed, rows=1, columns=32):
    return np.random.default_rng(seed).standard_normal((rows, columns)).astype(np.float32)


def program(arrays):
    """A linear model over `x` and `plan`, 4 columns wide; with its parameters by hash."""
    params = {hash_of(bytes_of(a)): a for a in arrays}
    plan = OneHot(ToTensor("plan", Category(("basic", 'it\'s {a} "plan"\n'), 0)), 3)
    network = Concat((ToTensor("x", Numeric(0.5, 2.0, indicator=True)), plan))
    for blob, array in params.items():
        network = Linear(network, Param(blob, array.shape), None)
    output = ToTable(network, "label", TEXT, (Literal("no", TEXT), Literal("yes", TEXT)))
    return Model(
        "?", 0, 0, "binary", "y", (Feature("x", FLOAT64), Feature("plan", TEXT)), (output,)
    ), params


def trial(number, seed=None, **changes):
    seed = number if seed is None else seed
    model, params = program([weights(seed, 32, 4), weights(1000 + seed, 1, 32)])
    values = {
        "trial": number,
        "status": "SUCCEEDED",
        "configuration": {"learn_rate": 0.1 * number, "hidden_units": [number, 2]},
        "metrics": {"roc_auc": 0.5 + number / 100, "accuracy": 0.75},
        "train_loss": 0.3,
        "eval_loss": 0.4,
        "epochs": [
            EpochRecord(0, 0.7, 0.8, {"roc_auc": 0.5}, 0.1, 1.5),
            EpochRecord(1, 0.3, 0.4, {"roc_auc": 0.6}, 0.1, 0.25),
        ],
        "model": model,
        "params": params,
        "scores": Scores(np.array([-1.5, 0.0, 0.25]), np.array([2, 1, 0]), np.array([0, 1, 3])),
    }
    return TrialRecord(**values | changes)


def failed(number, error="the loss is not finite"):
    return TrialRecord(
        number,
        "FAILED",
        {"learn_rate": 9.0, "hidden_units": [1]},
        error=error,
        epochs=[EpochRecord(0, float("nan"), None)],
    )


FEATURES = (
    FeatureRecord("x", "float64", -1.0, 3.0, 0.5, 0.25, 0.5, None, 2),
    FeatureRecord("plan", "text", category_count=2),
)


def record(name="churn", trials=None, **changes):
    values = {
        "name": name,
        "model_type": "dnn_classifier",
        "task": "binary",
        "label": "y",
        "query": "SELECT * FROM customers",
        "sql": f"CREATE MODEL {name} …",
        "options": {"epochs": 2, "hidden_units": ((64, 32), (128,)), "learn_rate": np.float32(0.5)},
        "seed": 7,
        "relation_hash": "ab" * 32,
        "code_version": "0.1.0",
        "engine": "duckdb",
        "trials": [trial(1), trial(2)] if trials is None else trials,
        "metric": "roc_auc",
        "best_trial": 2,
        "created": dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC),
        "features": FEATURES,
        "train_rows": 20,
        "eval_rows": 7,
        "test_rows": 0,
    }
    return ModelRecord(**values | changes)
