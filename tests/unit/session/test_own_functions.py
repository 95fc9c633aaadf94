"""Metrics, schedules and optimisers of users: what they do, what goes wrong, what is kept of them."""

from __future__ import annotations

import pytest
import torch

import gradbase as gb
from gradbase.errors import BindError, TrainingError, UnsupportedError
from gradbase.session.resuming import replayed


def network(config):
    return torch.nn.Linear(config["n_inputs"], config["n_outputs"])


def largest(outputs, targets):
    return (outputs[:, 0] - targets).abs().max()


def halved(step, steps):
    return 0.5 if 2 * step >= steps else 1.0


def nadam(parameters, lr):
    return torch.optim.NAdam(parameters, lr=lr)


@pytest.fixture(scope="module")
def db():
    with gb.connect(progress=False) as session:
        session.sql(
            "CREATE TABLE t AS SELECT i AS id, sin(i) AS a, 3 * sin(i) + i % 5 AS y FROM range(120) r(i)"
        )
        yield session


def fit(db, what=network, **options):
    search = gb.search(what, **{"lr": 0.05, "epochs": 2, "row_key": ["id"], "split": "random",
                                "early_stop": False, **options})  # fmt: skip
    return db.table("t").fit(search, target="y", name="m", replace=True)


@pytest.mark.parametrize("what", [network, gb.mlp(hidden=[4])])
def test_the_best_trial_is_that_of_the_users_metric(db, what):
    study = fit(db, what, metric=gb.minimize(largest), lr=gb.choice(0.0001, 0.3))
    values = study.trials["minimize largest"]
    assert study.best_trial == int(values.idxmin()) + 1
    assert study.metric == "minimize largest"
    studied = fit(db, what, metric=gb.maximize(largest), lr=gb.choice(0.0001, 0.3))
    assert studied.best_trial == int(studied.trials["maximize largest"].idxmax()) + 1


@pytest.mark.parametrize("what", [network, gb.mlp(hidden=[4])])
def test_a_schedule_changes_the_learning_rate(db, what):
    study = fit(db, what, lr_schedule=gb.choice(halved, "constant"))
    rates = [[e.learn_rate for e in t.epochs] for t in study.record.trials]
    assert rates == [[0.05, 0.025], [0.05, 0.05]]


def test_an_optimiser_trains_a_module_and_is_replayed(db):
    study = fit(db, optimizer=nadam, lr_schedule=halved, metric=gb.minimize(largest))
    assert "nadam@" in study.record.code_version
    assert "largest@" in study.record.code_version
    assert replayed(db, study.best.model, [network, nadam, halved, largest]).same
    assert fit(db, optimizer=torch.optim.SGD).trials["status"].tolist() == ["SUCCEEDED"]


def broken(*_args, **_named):
    raise ZeroDivisionError("no")


def wrong(*_args, **_named):
    return "seven"


@pytest.mark.parametrize("function", [broken, wrong])
@pytest.mark.parametrize("option", ["metric", "lr_schedule", "optimizer"])
def test_what_goes_wrong_is_said(db, option, function):
    value = gb.minimize(function) if option == "metric" else function
    told = "raised ZeroDivisionError: no" if function is broken else "must return a"
    with pytest.raises(TrainingError, match=told):
        fit(db, **{option: value})


def test_a_negative_factor_is_no_schedule(db):
    with pytest.raises(TrainingError, match="returned -1 for step 0 of"):
        fit(db, lr_schedule=lambda _step, _steps: -1)


def test_a_metric_says_which_way_is_better():
    with pytest.raises(BindError, match="which way is better"):
        gb.search(network, metric=largest)


def test_functions_go_where_they_can(db):
    with pytest.raises(UnsupportedError, match="takes optimizers by name"):
        fit(db, gb.mlp(hidden=[4]), optimizer=nadam)
    for option in ({"lr_schedule": halved}, {"metric": gb.minimize(largest)}):
        with pytest.raises(UnsupportedError, match="by name, not functions"):
            fit(db, gb.mlp(hidden=[4]), group_by=["id"], **option)


def test_functions_by_name_in_sql(tmp_path, monkeypatch):
    (tmp_path / "own_steps.py").write_text(
        "import torch\n"
        "def net(config): return torch.nn.Linear(config['n_inputs'], 1)\n"
        "def cost(outputs, targets): return float((outputs[:, 0] - targets).abs().mean())\n"
        "def rate(step, steps): return 1 - step / steps\n"
        "def optimizer(parameters, lr): return torch.optim.Adam(parameters, lr=lr)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    with gb.connect(progress=False, python_modules=["own_steps"]) as db:
        db.sql("CREATE TABLE t AS SELECT i AS id, sin(i) AS a, 2.0 * i AS y FROM range(100) r(i)")
        db.sql("""CREATE MODEL m OPTIONS (model_type = 'python:own_steps:net', input_label_cols = ['y'],
                  hparam_tuning_objectives = ['minimize python:own_steps:cost'], row_key = ['id'],
                  lr_schedule = 'python:own_steps:rate', optimizer = 'python:own_steps:optimizer', max_epochs = 1)
                  AS SELECT * FROM t""")
        [row] = db.sql(
            "SELECT hparam_tuning_evaluation_metrics FROM ML.TRIAL_INFO(MODEL m)"
        ).fetchall()
        assert row[0].keys() == {"minimize cost"}
        (tmp_path / "own_steps.py").write_text((tmp_path / "own_steps.py").read_text() + "#\n")
        assert db.model("m").replay().same
