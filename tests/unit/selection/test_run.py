"""Searches on a real table: what is stored, what does not change results, what may go wrong."""

from __future__ import annotations

import math
import os
import signal
import sys
import types

import pytest
import torch
from torch import nn

import gradbase as gb
from gradbase.errors import (
    BindError,
    CancelledError,
    StoreError,
    TrainingError,
    UnsupportedError,
)
from gradbase.frontend.cursor import OptionValue
from gradbase.frontend.options import resolve
from gradbase.ir.conversion import ToTensor
from gradbase.ir.learning import SUMMARY
from gradbase.ir.node import walk
from gradbase.runtime.program import Program
from gradbase.selection.progress import Silent
from gradbase.store import journal
from gradbase.store.records import FAILED, SUCCEEDED

SPEC = gb.search(
    gb.mlp(hidden=[8]), lr=gb.choice(0.003, 0.03, 0.1), l2_reg=gb.choice(0.0, 0.01),
    optimizer="adamw", epochs=3, seed=7, split="random", eval_fraction=0.2, test_fraction=0.1,
    early_stop=False, shards=2,
)  # fmt: skip


def weights(result):
    """Hashes of each trial's parameters: equal ones are equal bit for bit."""
    return {t.trial: sorted(t.params) for t in result.record.trials}


def losses(result):
    return {t.trial: [e.eval_loss for e in t.epochs] for t in result.record.trials}


def test_every_trial_is_stored_and_usable(lab):
    result = lab.train(SPEC)
    assert result.version == 1
    assert [t.status for t in result.record.trials] == [SUCCEEDED] * 6
    assert lab.store.names() == ("m",)
    best = lab.store.model("m")
    assert best.trial == result.record.best_trial
    assert lab.store.model("m", trial=3).address == "m@1#3"
    assert [f.name for f in best.features] == ["a", "b", "colour"]
    values = {t.trial: t.metrics["roc_auc"] for t in result.record.trials}
    assert values[best.trial] == max(values.values()) > 0.8
    for trial in result.record.trials:
        assert len(trial.epochs) == 3
        assert trial.test_metrics["roc_auc"] != trial.metrics["roc_auc"]
        assert trial.configuration.keys() == {"learn_rate", "l2_reg"}


def test_lineage_says_where_the_model_came_from(lab):
    lab.train(SPEC)
    lineage = lab.store.lineage("m")
    assert lineage.query == "SELECT * FROM t"
    assert lineage.seed == 7
    assert lineage.relation_hash
    assert lineage.code_version.startswith("gradbase ")


def test_the_summary_is_the_row_of_create_model(lab):
    result = lab.train(WILD)
    assert tuple(result.summary) == SUMMARY.names
    assert (result.summary["trials"], result.summary["failed"]) == (6, 3)
    assert "6 trials (3 failed)" in str(result)


@pytest.mark.parametrize("fused", [False, True])
def test_results_do_not_depend_on_workers(lab, fused):
    one, three = (lab.train(SPEC, workers=n, fused=fused) for n in (1, 3))
    assert weights(one) == weights(three)
    assert losses(one) == losses(three)


def test_unfused_trials_are_what_they_are_alone(lab):
    together = lab.train(SPEC, workers=2)
    for trial in (2, 5):
        alone = lab.train(SPEC, only=[trial])
        assert weights(alone)[trial] == weights(together)[trial]
        assert losses(alone)[trial] == losses(together)[trial]


def test_fused_trials_do_not_depend_on_each_other(lab):
    """Bitwise: in a group of six, of two, and alone in a group."""
    group = lab.train(SPEC, fused=True)
    for members in ([2, 5], [5]):
        assert weights(lab.train(SPEC, fused=True, only=members))[5] == weights(group)[5]


def test_fused_and_unfused_agree(lab):
    fused, alone = lab.train(SPEC, fused=True), lab.train(SPEC)
    for a, b in zip(fused.record.trials, alone.record.trials, strict=True):
        assert a.eval_loss == pytest.approx(b.eval_loss, abs=0.01)


WILD = gb.search(
    gb.mlp(hidden=[8]), lr=gb.choice(0.01, 1.0, 0.1), optimizer="sgd", momentum=0.9, epochs=8,
    l2_reg=gb.choice(0.0, 1e6), early_stop=False, split="random", eval_fraction=0.2,
)  # fmt: skip


@pytest.mark.parametrize("fused", [False, True])
def test_a_trial_that_diverges_fails_alone(lab, fused):
    """Its reason is stored; the others' results are those without it."""
    result = lab.train(WILD, fused=fused)
    failed = [t for t in result.record.trials if t.status == FAILED]
    assert [t.trial for t in failed] == [2, 4, 6]
    assert "the loss of trial 2 became" in failed[0].error
    assert failed[0].model is None
    without = lab.train(WILD, fused=fused, only=[1, 3, 5])
    assert {k: weights(result)[k] for k in (1, 3, 5)} == weights(without)
    with pytest.raises(BindError, match="trial 2 of model `m` cannot be used: FAILED"):
        lab.store.model("m", version=result.version, trial=2)


def test_all_trials_failing_is_an_error_with_the_reasons(lab):
    with pytest.raises(TrainingError, match=r"all 2 trials of `m` failed:\n  trial 2"):
        lab.train(WILD, only=[2, 4])
    assert lab.store.names() == ()
    assert [r["status"] for r in lab.runs()] == ["FAILED"]


def test_early_stopping_ends_each_trial_by_itself(lab):
    spec = gb.search(
        gb.mlp(hidden=[8]), lr=gb.choice(1e-6, 0.01), epochs=6, min_rel_progress=0.001,
        split="random", eval_fraction=0.2,
    )  # fmt: skip
    for fused in (False, True):
        slow, learning = lab.train(spec, fused=fused).record.trials
        assert (slow.status, len(slow.epochs)) == (SUCCEEDED, 2)
        assert len(learning.epochs) > 2
        assert slow.model is not None


def test_nothing_held_out_means_metrics_of_the_training_rows(lab):
    spec = gb.search(gb.mlp(hidden=[4]), lr=gb.choice(0.001, 0.1), epochs=2, split="no_split")
    result = lab.train(spec)
    assert result.record.best_trial == 2
    for trial in result.record.trials:
        assert trial.eval_loss is None
        assert trial.train_loss > 0
        assert 0.5 < trial.metrics["roc_auc"] <= 1


def test_regression_losses_are_in_squared_units_of_the_label(lab):
    spec = gb.search(gb.mlp(hidden=[8]), lr=0.01, epochs=4, split="random", eval_fraction=0.2)
    trial = lab.train(spec, label="y").record.trials[0]
    assert trial.eval_loss == pytest.approx(trial.metrics["mean_squared_error"], rel=1e-4)


# -- interruption ------------------------------------------------------------------------------


class Cancelling(Silent):
    """Does something after a few epochs, and keeps the last message."""

    def __init__(self, act, after=4):
        self.act, self.left, self.message = act, after, ""

    def on_epoch(self, trial, epoch, metrics):
        self.left -= 1
        if self.left == 0:
            self.act()

    def on_end(self, message):
        self.message = message


@pytest.mark.parametrize("workers", [1, 2])
def test_cancelling_leaves_nothing_but_a_journal(lab, workers):
    listener = Cancelling(lambda: lab.context.cancelled.set())  # noqa: PLW0108
    with pytest.raises(CancelledError, match=r"`m` was interrupted after .* trials had ended"):
        lab.train(SPEC, listener=listener, workers=workers)
    assert "no model was made" in listener.message
    assert lab.store.names() == ()
    (row,) = lab.runs()
    assert row["status"] == "INTERRUPTED"
    events = journal.read(lab.store.runs.path / row["run_id"] / journal.FILE)
    assert events[-1]["status"] == "INTERRUPTED"
    assert not list(lab.store.path.glob("spill/*"))


def test_ctrl_c_ends_cleanly(lab):
    listener = Cancelling(lambda: os.kill(os.getpid(), signal.SIGINT))
    with pytest.raises(CancelledError, match="no model was made"):
        lab.train(SPEC, listener=listener)
    assert lab.store.names() == ()
    assert lab.context.broker.leases() == []
    assert [r["status"] for r in lab.runs()] == ["INTERRUPTED"]


def test_progress_that_breaks_does_not_break_the_search(lab, caplog):
    def broken():
        raise OSError("the terminal is gone")

    result = lab.train(SPEC, listener=Cancelling(broken))
    assert result.version == 1
    assert "progress is no longer reported: OSError: the terminal is gone" in caplog.text


def test_a_journal_that_cannot_be_written_ends_the_search(lab, monkeypatch):
    """A full disk is nobody's trial's fault."""
    append = journal.Journal.append

    def full(self, event):
        if event["event"] == "epoch":
            raise StoreError("the disk is full")
        append(self, event)

    monkeypatch.setattr(journal.Journal, "append", full)
    with pytest.raises(StoreError, match="the disk is full"):
        lab.train(SPEC, workers=2)
    assert lab.store.names() == ()
    assert lab.context.broker.leases() == []


def test_the_journal_tells_the_whole_story(lab):
    result = lab.train(SPEC, fused=True)
    (row,) = lab.runs()
    assert (row["status"], row["version"]) == ("DONE", result.version)
    events = journal.read(lab.store.runs.path / row["run_id"] / journal.FILE)
    kinds = [e["event"] for e in events]
    assert kinds == ["start", "data", "round", *["epoch"] * 3, *["done"] * 6, "trained", "end"]
    assert "Search" in events[2]["plan"]
    assert len(events[3]["units"]) == 2
    assert events[3]["trials"].keys() == {"1", "2", "3", "4", "5", "6"}


def test_an_existing_model_is_refused_before_training(lab):
    lab.train(SPEC, only=[1])
    listener = Cancelling(lambda: pytest.fail("trained"), after=1)
    with pytest.raises(BindError, match="model `m` exists already"):
        lab.train(SPEC, only=[1], listener=listener, info={"or_replace": False})
    assert lab.train(SPEC, only=[1]).version == 2


# -- Python networks ---------------------------------------------------------------------------


def net(config):
    if config["width"] == 3:
        raise ValueError("three is unlucky")
    return nn.Sequential(
        nn.Linear(config["n_inputs"], config["width"]), nn.BatchNorm1d(config["width"]),
        nn.ReLU(), nn.Dropout(0.2), nn.Linear(config["width"], config["n_outputs"]),
    )  # fmt: skip


def python_spec(function, **space):
    return gb.search(
        function, lr=gb.choice(0.01, 0.03), epochs=2, seed=3, split="random", eval_fraction=0.2, early_stop=False,
        **space,
    )  # fmt: skip


def test_a_module_of_one_s_own_is_searched_and_stored(lab):
    spec = python_spec(net, width=gb.choice(4, 3, 8))
    one, two = lab.train(spec), lab.train(spec, workers=2)
    assert weights(one) == weights(two)
    statuses = {t.configuration["width"]: t.status for t in one.record.trials}
    assert statuses == {4: SUCCEEDED, 3: FAILED, 8: SUCCEEDED}
    unlucky = next(t for t in one.record.trials if t.configuration["width"] == 3)
    assert "raised ValueError: three is unlucky" in unlucky.error
    assert lab.store.model("m").outputs
    assert one.record.code_version.split(", ")[1].startswith("net@")


def test_the_stored_program_is_the_trained_module(lab):
    """Predictions from the store equal the module's own, in eval mode."""
    made = []

    def kept(config):
        made.append(net(config))
        return made[-1]

    lab.train(python_spec(kept, width=6), only=[1], columns=("id", "a", "b"))
    model = lab.store.model("m")
    table = lab.engine.fetch("SELECT a, b FROM t")
    batch = table.combine_chunks().to_batches()[0]
    (proba,) = Program(model, ["proba"], lab.store.blobs).runner(batch.schema.types)(batch)
    inputs = {n.column: n.encoding for n in walk(model) if isinstance(n, ToTensor)}
    x = torch.stack(
        [
            torch.from_numpy((batch[c].to_numpy() - inputs[c].mean) * inputs[c].scale).float()
            for c in ("a", "b")
        ],
        1,
    )
    with torch.no_grad():
        expected = torch.sigmoid(made[0].eval()(x)[:, 0]).numpy()
    assert proba.to_numpy() == pytest.approx(expected, abs=1e-5)


def test_a_function_of_a_named_module_is_called(lab, monkeypatch):
    module = types.ModuleType("nets_for_a_search")
    module.net = net
    monkeypatch.setitem(sys.modules, module.__name__, module)
    options = {"model_type": OptionValue("python:nets_for_a_search:net"), "width": OptionValue(5)}
    spec = resolve(options | {"max_epochs": OptionValue(1)})
    result = lab.train(
        spec, python_modules=["nets_for_a_search"],
        info={"python_modules": ["nets_for_a_search"]},
    )  # fmt: skip
    assert result.record.trials[0].status == SUCCEEDED
    with pytest.raises(BindError, match="may not be called"):
        lab.train(spec)


class Tiring(nn.Linear):
    """Raises in its second epoch of training."""

    calls = 0

    def forward(self, x):
        self.calls += self.training
        if self.calls > 12:
            raise RuntimeError("tired")
        return super().forward(x)


def test_a_module_that_raises_while_training_fails_with_its_traceback(lab):
    def net_or_tiring(config):
        kind = Tiring if config["tired"] else nn.Linear
        return kind(config["n_inputs"], config["n_outputs"])

    spec = python_spec(net_or_tiring, tired=gb.choice(False, True))
    trials = lab.train(spec).record.trials
    assert [t.status for t in trials] == [SUCCEEDED, FAILED] * 2
    assert "raised RuntimeError: tired" in trials[1].error
    assert "in forward" in trials[1].error
    assert len(trials[1].epochs) == 1
    kept = [t.traceback for t in lab.store.record("m").trials]
    assert kept[0] is None
    assert "TrainingError" in kept[1]


class Random(nn.Linear):
    def forward(self, x):
        return super().forward(x) + 1e-6 * torch.rand(1)


def test_a_network_that_cannot_be_stored_says_which_operator(lab):
    def noisy(config):
        return Random(config["n_inputs"], config["n_outputs"])

    with pytest.raises(UnsupportedError, match=r"cannot be stored: .*`rand.default`"):
        lab.train(python_spec(noisy))
    assert lab.store.names() == ()


def test_wrong_shapes_fail_every_trial_with_their_reason(lab):
    with pytest.raises(TrainingError, match=r"must return Tensor\[4, 1\] for 4 rows"):
        lab.train(python_spec(lambda config: nn.Linear(config["n_inputs"], 7)))


# -- study -------------------------------------------------------------------------------------


def test_study_shows_trials_history_and_curves(lab, tmp_path):
    from gradbase.selection.study import Study

    result = lab.train(WILD)
    study = Study(lab.store, "m", lambda *address: address)
    assert study.best == ("m", 1, result.record.best_trial)
    assert study.trial(3) == ("m", 1, 3)
    trials = study.trials
    assert list(trials.columns[:4]) == ["trial", "learn_rate", "l2_reg", "roc_auc"]
    assert list(trials["status"]) == [SUCCEEDED, FAILED] * 3
    assert trials["best"].sum() == 1
    history = study.history
    assert set(history["trial"]) >= {1, 3, 5}
    assert list(history[history["trial"] == 1]["epoch"]) == list(range(1, 9))
    assert "6 trials, 3 failed" in repr(study)
    assert "&lt;" not in study._repr_html_()
    figure = study.plot(path=tmp_path / "curves.png")
    assert (tmp_path / "curves.png").stat().st_size > 10_000
    assert "ROC AUC" in figure.axes[0].get_ylabel()
    assert not any(math.isnan(v) for v in figure.axes[0].get_ylim())


def test_a_study_of_no_model_offers_near_matches(lab):
    from gradbase.selection.study import Study

    lab.train(SPEC, only=[1], name="churn")
    with pytest.raises(BindError, match="did you mean `churn`"):
        Study(lab.store, "chrn", lambda *address: address)
