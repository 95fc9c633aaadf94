"""Cross-validated searches: what is compared, what is stored, what is trained at the end."""

from __future__ import annotations

import math

import pytest
from torch import nn

import gradbase as gb
from gradbase.errors import BindError, TrainingError
from gradbase.ir.metrics import MINIMISED
from gradbase.selection import folds
from gradbase.selection.outcome import Outcome
from gradbase.selection.progress import LiveBar
from gradbase.store.records import FAILED, STOPPED, SUCCEEDED, EpochRecord, over_folds

SPEC = gb.search(
    gb.mlp(hidden=[8]), lr=gb.choice(0.003, 0.03, 0.1), optimizer="adamw", epochs=3, seed=7,
    folds=4, early_stop=False, shards=2, row_key=["id"],
)  # fmt: skip


def folded(result):
    return {t.trial: t.folds for t in result.record.trials}


def test_a_trials_metric_is_the_mean_over_its_folds_by_rows(lab):
    record = lab.train(SPEC).record
    for trial in record.trials:
        assert [f.fold for f in trial.folds] == [1, 2, 3, 4]
        assert sum(f.rows for f in trial.folds) == 400
        for name, value in trial.metrics.items():
            each = [f.metrics[name] * f.rows for f in trial.folds]
            assert value == pytest.approx(sum(each) / 400, rel=1e-12)
            assert trial.deviations[name] > 0
        assert trial.eval_loss == pytest.approx(
            sum(f.eval_loss * f.rows for f in trial.folds) / 400
        )
    values = {t.trial: t.metrics["roc_auc"] for t in record.trials}
    assert values[record.best_trial] == max(values.values())


def test_the_best_trial_alone_has_a_model_and_a_run_on_all_rows(lab):
    result = lab.train(SPEC)
    for trial in result.record.trials:
        best = trial.trial == result.record.best_trial
        assert (trial.model is not None) is best
        assert [e.run for e in trial.epochs] == sorted([*range(5 if best else 4)] * 3)
        assert [e.eval_loss is None for e in trial.epochs].count(True) == 3 * best
    other = next(t.trial for t in result.record.trials if t.trial != result.record.best_trial)
    with pytest.raises(BindError, match="only the best of a search over folds is trained on all"):
        lab.store.model("m", trial=other)
    assert lab.store.record("m").trials == tuple(
        t.__class__(**{**vars(t), "model": None, "params": {}, "scores": None})
        for t in result.record.trials
    )


def test_counts_are_of_rows_that_others_learnt_from(lab):
    result = lab.train(SPEC)
    best = result.record.trial(result.record.best_trial)
    assert best.scores.negatives.sum() + best.scores.positives.sum() == 400
    above = best.scores.logit > 0
    right = best.scores.positives[above].sum() + best.scores.negatives[~above].sum()
    assert right / 400 == pytest.approx(best.metrics["accuracy"])
    assert [f.name for f in result.record.features] == ["a", "b", "colour"]
    assert (result.record.train_rows, result.record.eval_rows) == (400, 0)


@pytest.mark.parametrize("fused", [False, True])
def test_results_do_not_depend_on_workers_or_other_trials(lab, fused):
    one, three = (lab.train(SPEC, workers=n, fused=fused) for n in (1, 3))
    assert folded(one) == folded(three)
    alone = lab.train(SPEC, only=[2], fused=fused)
    assert folded(alone)[2] == folded(one)[2]
    assert sorted(one.record.trial(one.record.best_trial).params) == sorted(
        three.record.trial(three.record.best_trial).params
    )


def test_fused_and_alone_agree(lab):
    fused, alone = (folded(lab.train(SPEC, fused=f)) for f in (True, False))
    for trial, of_folds in alone.items():
        for a, b in zip(of_folds, fused[trial], strict=True):
            assert a.eval_loss == pytest.approx(b.eval_loss, abs=0.01)
            assert a.rows == b.rows


def test_a_trial_that_diverges_on_a_fold_has_failed(lab):
    spec = gb.search(gb.mlp(hidden=[8]), lr=gb.choice(0.01, 1.0), optimizer="sgd", momentum=0.9,
                     epochs=6, l2_reg=gb.choice(0.0, 1e6), folds=2, early_stop=False)  # fmt: skip
    record = lab.train(spec).record
    assert [t.status for t in record.trials] == [SUCCEEDED, FAILED, SUCCEEDED, FAILED]
    assert record.trials[1].error.startswith("fold 1: the loss of trial 2 became")
    assert record.trials[1].folds == ()
    with pytest.raises(TrainingError, match=r"all 2 trials of `m` failed:\n  trial 2, 4: fold 1:"):
        lab.train(spec, only=[2, 4])


def test_folds_stop_early_each_by_itself_and_all_rows_train_as_long_on_average(lab):
    spec = gb.search(gb.mlp(hidden=[8]), lr=0.1, epochs=30, folds=3, min_rel_progress=0.02)
    (trial,) = lab.train(spec).record.trials
    epochs = [f.epochs for f in trial.folds]
    assert max(epochs) < 30
    mean = sum(f.epochs * f.rows for f in trial.folds) / 400
    assert sum(e.run == 3 for e in trial.epochs) == round(mean)


class Wide(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(config["n_inputs"], config["width"]), nn.BatchNorm1d(config["width"]),
            nn.Tanh(), nn.Dropout(0.1), nn.Linear(config["width"], config["n_outputs"]),
        )  # fmt: skip

    def forward(self, x):
        return self.layers(x)


def test_a_module_of_ones_own_is_cross_validated_too(lab):
    spec = gb.search(Wide, width=gb.choice(4, 8), epochs=2, folds=3, seed=3)
    one, two = (lab.train(spec, workers=n) for n in (1, 2))
    assert folded(one) == folded(two)
    best = one.record.trial(one.record.best_trial)
    assert best.model is not None
    assert best.configuration["width"] in (4, 8)


def test_the_journal_says_which_fold(lab):
    from gradbase.store import journal

    lab.train(SPEC)
    (row,) = lab.runs()
    events = journal.read(lab.store.runs.path / row["run_id"] / journal.FILE)
    assert {e.get("fold", 0) for e in events if e["event"] == "epoch"} == {0, 1, 2, 3, 4}


# -- joining -------------------------------------------------------------------------------------


def test_means_leave_out_what_is_not_known():
    assert over_folds([0.5, None, math.nan, 1.0], [1, 5, 5, 3]) == pytest.approx(
        (0.875, 0.2165063509)
    )
    assert all(math.isnan(v) for v in over_folds([math.nan], [3]))


def outcomes(lab, *statuses):
    fits = lab.plan(SPEC).search.fits
    return [
        Outcome(f, s, epochs=[EpochRecord(0, 0.5, 0.5, {"roc_auc": 0.5})], error="why")
        for f, s in zip(fits, statuses, strict=False)
    ]


def test_a_trial_stopped_on_one_fold_is_stopped(lab):
    found = folds.joined(
        outcomes(lab, SUCCEEDED, STOPPED, SUCCEEDED, SUCCEEDED), dict.fromkeys(range(1, 5), 9)
    )
    assert [o.status for o in found] == [STOPPED]


def test_a_best_trial_that_fails_on_all_rows_says_so(lab):
    best, refit = outcomes(lab, SUCCEEDED, FAILED)
    with pytest.raises(
        TrainingError, match="the best on the folds, but failed when it was trained on all"
    ):
        folds.take_over(best, refit, "m")


def test_one_folds_metric_does_not_pass_for_the_best_so_far(lab):
    bar = LiveBar("m", "roc_auc")
    bar._update = lambda **changes: None
    lab.train(SPEC, listener=bar)
    assert "roc_auc" not in MINIMISED
    assert bar.best[1] in (1, 2, 3)
    assert bar.running <= 0
