"""Training in the memory there is: in halves, with batches cut, or refused with numbers."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from torch import nn

import gradbase as gb
from gradbase.errors import TrainingError

ROWS = 1200
LIMIT = 40_000_000  # a quarter of it is for one step


def table():
    random = np.random.default_rng(3)
    columns = {f"x{i}": random.normal(size=ROWS).astype(np.float32) for i in range(8)}
    return pa.table({**columns, "y": (columns["x0"] + columns["x1"] > 0).astype(np.int64)})


def wide(config):
    return nn.Sequential(
        nn.Linear(config["n_inputs"], 2000), nn.ReLU(), nn.Linear(2000, config["n_outputs"])
    )


def deep(config):
    inside = [part for _ in range(12) for part in (nn.Linear(200, 200), nn.ReLU())]
    return nn.Sequential(
        nn.Linear(config["n_inputs"], 200), *inside, nn.Linear(200, config["n_outputs"])
    )


def deep_normalised(config):
    return nn.Sequential(nn.BatchNorm1d(config["n_inputs"]), *deep(config))


def normalised(config):
    return nn.Sequential(nn.BatchNorm1d(config["n_inputs"]), *wide(config))


@pytest.fixture
def fit():
    """Train a network under a limit; the study."""
    sessions = []

    def run(what, limit, exactness="tolerance", **options):
        db = gb.connect(memory_limit_bytes=limit, progress=False)
        sessions.append(db)
        db.sql(f"SET gradbase.exactness = '{exactness}'")
        db.register("t", table())
        search = gb.search(what, batch_size=960, epochs=2, seed=3, early_stop=False, **options)
        return db.table("t").fit(search, target="y", name="m")

    yield run
    for db in sessions:
        db.close()


def test_a_batch_that_is_too_large_is_cut(fit, caplog):
    """Gradients are added up over its parts, so only rounding changes (`tolerance`)."""
    whole, cut = fit(wide, 0), fit(wide, LIMIT)
    assert "each batch is cut into" in caplog.text
    assert "to fit 10000000 bytes" in caplog.text
    for name in ("train_loss", "eval_loss"):
        assert cut.rows[0][name] == pytest.approx(whole.rows[0][name], rel=1e-4)


@pytest.mark.parametrize(("what", "exactness"), [(deep_normalised, "tolerance"), (deep, "bitwise")])
def test_storages_wait_where_a_batch_must_not_be_cut(fit, caplog, what, exactness):
    """Which changes no bit."""
    whole, within = fit(what, 0, exactness), fit(what, LIMIT, exactness)
    assert "waits in a file, to fit 10000000 bytes" in caplog.text
    for name in ("train_loss", "eval_loss"):
        assert within.rows[0][name] == whole.rows[0][name]


def test_what_an_operator_needs_at_once_is_the_least(fit):
    with pytest.raises(
        TrainingError,
        match=r"trial 1 needs [\d,]+ bytes in a step of 960 rows, 5,000,000 may be used",
    ) as error:
        fit(normalised, LIMIT // 2)
    assert "its batch cannot be cut (it normalises by statistics of the whole batch)" in str(
        error.value
    )
    assert "must be there at once" in str(error.value)


def test_weights_that_do_not_fit_are_refused_with_numbers(fit):
    with pytest.raises(TrainingError, match="must be there at once for its largest operator"):
        fit(
            lambda c: nn.Sequential(
                nn.Linear(c["n_inputs"], 200_000), nn.ReLU(), nn.Linear(200_000, 1)
            ),
            LIMIT,
        )


def test_a_stack_that_is_too_large_trains_in_smaller_ones(fit):
    """Which does not change a bit of its members."""
    space = {"lr": gb.choice(*np.geomspace(0.001, 0.1, 16).tolist()), "procedure": "grid"}
    whole = fit(gb.mlp([64]), 0, **space)
    halves = fit(gb.mlp([64]), 16_000_000, **space)
    assert [r["eval_loss"] for r in halves.rows] == [r["eval_loss"] for r in whole.rows]
    assert [r["status"] for r in halves.rows] == ["SUCCEEDED"] * 16


def test_a_perceptron_that_does_not_fit_is_refused(fit):
    with pytest.raises(TrainingError, match=r"needs [\d,]+ bytes in a step of 960 rows, 2,500,000"):
        fit(gb.mlp([512]), 10_000_000)


def test_explain_says_what_a_step_holds(fit):
    study = fit(gb.mlp([8]), 0)
    text = study.best.session.explain(
        "CREATE MODEL n OPTIONS (model_type = 'dnn_classifier', hidden_units = [64], input_label_cols = ['y']) AS FROM t"
    )
    assert "a step holds" in text
