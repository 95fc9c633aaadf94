"""A search in TensorBoard, read back by its own library, and in MLflow, of which every call is kept."""

from __future__ import annotations

import contextlib
import sys
import types

import pytest

import gradbase as gb

CALLS = (
    "set_tracking_uri", "set_experiment", "set_tags", "log_params", "log_metric", "log_metrics",
)  # fmt: skip


@pytest.fixture(scope="module")
def study():
    with gb.connect(progress=False) as db:
        db.sql(
            "CREATE TABLE t AS SELECT sin(i) AS a, cos(i) AS b, (sin(i) > 0)::INT AS y FROM range(100) r(i)"
        )
        search = gb.search(
            gb.mlp(hidden=gb.choice([4], [2, 2])), lr=0.01, epochs=2, early_stop=False
        )
        yield db.table("t").fit(search, target="y", name="m")


def test_every_trial_is_a_run_of_tensorboard(study, tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    home = study.to_tensorboard(tmp_path)
    assert home == tmp_path / "m@1"
    for row in study.rows:
        found = accumulator.EventAccumulator(str(home / f"trial-{row['trial']:04d}")).Reload()
        events = [(e.step, e.value) for e in found.Scalars("train_loss")]
        expected = [e["train_loss"] for e in study.epochs if e["trial"] == row["trial"]]
        assert events == [(i + 1, pytest.approx(v)) for i, v in enumerate(expected)]
        assert "roc_auc" in found.Tags()["scalars"]


def test_a_search_is_a_run_of_mlflow_with_one_below_it_for_each_trial(study, monkeypatch):
    calls = []

    @contextlib.contextmanager
    def start_run(run_name, nested=False):
        calls.append(("start_run", run_name, nested))
        yield types.SimpleNamespace(info=types.SimpleNamespace(run_id="r1"))

    fake = types.ModuleType("mlflow")
    fake.start_run = start_run
    for name in CALLS:
        setattr(
            fake, name, lambda *args, name=name, **more: calls.append((name, *args, *more.values()))
        )
    monkeypatch.setitem(sys.modules, "mlflow", fake)
    assert study.to_mlflow(tracking_uri="file:runs") == "r1"
    assert calls[:3] == [
        ("set_tracking_uri", "file:runs"), ("set_experiment", "m"), ("start_run", "m@1", False),
    ]  # fmt: skip
    assert [c for c in calls if c[0] == "start_run"][1:] == [
        ("start_run", "trial 1", True), ("start_run", "trial 2", True),
    ]  # fmt: skip
    assert ("log_params", {"hidden_units": "[2, 2]"}) in calls
    losses = [c[2:] for c in calls if c[:2] == ("log_metric", "train_loss")]
    assert losses == [(e["train_loss"], e["epoch"]) for e in study.epochs]


@pytest.mark.parametrize("library", ["mlflow", "tensorboardX"])
def test_a_library_that_is_missing_is_named(study, library, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, library, None)
    export = study.to_mlflow if library == "mlflow" else lambda: study.to_tensorboard(tmp_path)
    with pytest.raises(gb.errors.UnsupportedError, match=f"{library} is not installed"):
        export()
