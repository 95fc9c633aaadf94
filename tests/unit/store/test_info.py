"""ML.TRIAL_INFO, ML.TRAINING_INFO, ML.EVALUATE and SHOW MODELS: BigQuery ML's columns."""

from __future__ import annotations

import pytest

from gradbase.errors import BindError
from gradbase.store.info import structure_of

from .samples import failed, record, trial

EVALUATION = ["precision", "recall", "accuracy", "f1_score", "log_loss", "roc_auc"]


@pytest.fixture
def fetch(store):
    return lambda function: store.engine.fetch(store.info(function, "churn"))


def test_trial_info(store, fetch):
    """Columns in BigQuery ML's order; structs hold what was tuned and what for."""
    store.commit(record(trials=[trial(1), trial(2), failed(3)]))
    found = fetch("TRIAL_INFO")
    assert found.column_names == [
        "trial_id", "hyperparameters", "hparam_tuning_evaluation_metrics", "training_loss",
        "eval_loss", "status", "error_message", "is_optimal",
    ]  # fmt: skip
    rows = found.to_pylist()
    assert rows[1] == {
        "trial_id": 2,
        "hyperparameters": {"learn_rate": 0.2, "hidden_units": [2, 2]},
        "hparam_tuning_evaluation_metrics": {"roc_auc": 0.52},
        "training_loss": 0.3,
        "eval_loss": 0.4,
        "status": "SUCCEEDED",
        "error_message": None,
        "is_optimal": True,
    }
    assert rows[2]["status"] == "FAILED"
    assert rows[2]["error_message"] == "the loss is not finite"
    assert [r["is_optimal"] for r in rows] == [False, True, False]


def test_trial_info_of_one_untuned_trial(store, fetch):
    """Has no hyper-parameters; `loss` is the evaluation loss."""
    store.commit(record(trials=[trial(1, configuration={})], best_trial=1, metric="loss"))
    (row,) = fetch("TRIAL_INFO").to_pylist()
    assert row["hyperparameters"] is None
    assert row["hparam_tuning_evaluation_metrics"] == {"loss": 0.4}


def test_training_info(store, fetch):
    """One row per epoch, with the trial's number where there are several."""
    names = ["training_run", "iteration", "loss", "eval_loss", "learning_rate", "duration_ms"]
    store.commit(record())
    found = fetch("TRAINING_INFO")
    assert found.column_names == ["trial_id", *names]
    assert [tuple(r.values()) for r in found.to_pylist()[:2]] == [
        (1, 0, 0, 0.7, 0.8, 0.1, 1500),
        (1, 0, 1, 0.3, 0.4, 0.1, 250),
    ]
    store.commit(record(trials=[trial(1)], best_trial=1), or_replace=True)
    assert fetch("TRAINING_INFO").column_names == names


def test_evaluate(store, fetch):
    """Stored metrics: of test rows where there are some, else of evaluation rows."""
    store.commit(record(trials=[trial(1), trial(2, test_metrics={"accuracy": 0.6}), failed(3)]))
    found = fetch("EVALUATE")
    assert found.column_names == ["trial_id", *EVALUATION]
    rows = found.to_pylist()
    assert [r["trial_id"] for r in rows] == [1, 2]
    assert [r["accuracy"] for r in rows] == [0.75, 0.6]
    assert rows[0]["precision"] is None
    store.commit(record(trials=[trial(1)], best_trial=1), or_replace=True)
    found = fetch("EVALUATE")
    assert found.column_names == EVALUATION
    assert found.to_pylist()[0]["roc_auc"] == 0.51


def test_evaluate_of_a_raw_model(store):
    """It has no metrics of ours."""
    store.commit(record(task="raw"))
    with pytest.raises(BindError, match="no stored metrics"):
        store.info("EVALUATE", "churn")


def test_an_unknown_function(store):
    """Near names are offered."""
    store.commit(record())
    with pytest.raises(BindError, match=r"no stored ML\.TRAIL_INFO") as caught:
        store.info("TRAIL_INFO", "churn")
    assert "TRIAL_INFO" in caught.value.hint


def test_show_models(store):
    """One row per model: its newest version."""
    empty = store.engine.fetch(store.show_sql())
    store.commit(record())
    store.commit(record("b"))
    store.commit(record("b", [trial(1)], best_trial=1), or_replace=True)
    found = store.engine.fetch(store.show_sql())
    assert found.schema.equals(empty.schema)
    assert [(r["model"], r["version"], r["trials"], r["value"]) for r in found.to_pylist()] == [
        ("b", 2, 1, 0.51),
        ("churn", 1, 2, 0.52),
    ]


STRUCTURES = [
    ([{"a": 1}, {"a": 2.5}], '{"a": "DOUBLE"}'),
    ([{"a": "adam"}, {"b": True}], '{"a": "VARCHAR", "b": "BOOLEAN"}'),
    ([{"a": [1]}, {"a": []}, {"a": None}], '{"a": ["BIGINT"]}'),
    ([{"a": [[1], [0.5]]}], '{"a": [["DOUBLE"]]}'),
    ([{"a": 1}, {"a": "x"}], '{"a": "JSON"}'),
    ([{"a": 2**70}], '{"a": "DOUBLE"}'),
    ([{'q"': 1}], '{"q\\"": "BIGINT"}'),
]


@pytest.mark.parametrize(("configurations", "expected"), STRUCTURES)
def test_the_structure_holds_all_configurations(configurations, expected):
    """Numbers widen; what does not fit together is JSON."""
    assert structure_of(configurations) == expected
