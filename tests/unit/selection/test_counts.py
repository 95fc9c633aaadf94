"""What a search keeps of its evaluation rows and of the columns it learnt from."""

from __future__ import annotations

import numpy as np
import pytest

import gradbase as gb

SPEC = gb.search(
    gb.mlp(hidden=[8]), lr=gb.choice(0.003, 0.03), epochs=3, seed=7, split="random",
    eval_fraction=0.2, test_fraction=0.1, early_stop=False, batch_size=32,
)  # fmt: skip


@pytest.mark.parametrize("fused", [False, True])
def test_scores_follow_the_metrics_of_every_trial(lab, fused):
    for trial in lab.train(SPEC, fused=fused).record.trials:
        scores = trial.scores
        assert scores.negatives.sum() + scores.positives.sum() == 80
        assert np.all(np.diff(scores.logit) > 0)
        above = scores.logit > 0
        right = scores.positives[above].sum() + scores.negatives[~above].sum()
        assert right / 80 == trial.metrics["accuracy"]
        assert trial.confusion is None


def test_more_classes_are_counted_in_pairs(lab):
    for trial in lab.train(
        SPEC, label="colour", columns=("id", "a", "b", "y"), classes=3
    ).record.trials:
        assert trial.scores is None
        expected, predicted, cases = trial.confusion.T
        assert cases.sum() == 80
        assert cases[expected == predicted].sum() / 80 == trial.metrics["accuracy"]


def test_nothing_held_out_counts_the_training_rows(lab):
    record = lab.train(gb.search(gb.mlp(hidden=[4]), epochs=2, split="no_split")).record
    assert record.trials[0].scores.negatives.sum() + record.trials[0].scores.positives.sum() == 400
    assert (record.train_rows, record.eval_rows, record.test_rows) == (400, 0, 0)


def test_a_regression_has_no_counts(lab):
    for trial in lab.train(SPEC, label="y", columns=("id", "a", "b")).record.trials:
        assert (trial.scores, trial.confusion) == (None, None)


def test_each_trial_that_ends_early_has_its_own_scores(lab):
    """Those of the epoch it ended with, while others go on."""
    spec = gb.search(
        gb.mlp(hidden=[8]), lr=gb.choice(0.0001, 0.03), epochs=9, seed=7, split="random",
        eval_fraction=0.2, batch_size=32, min_rel_progress=0.03,
    )  # fmt: skip
    trials = lab.train(spec, fused=True).record.trials
    assert len({len(t.epochs) for t in trials}) == 2
    for trial in trials:
        above = trial.scores.logit > 0
        right = trial.scores.positives[above].sum() + trial.scores.negatives[~above].sum()
        assert right / 80 == trial.metrics["accuracy"]


def test_columns_are_described_as_they_are_in_the_training_rows(lab):
    record = lab.train(SPEC).record
    found = {f.name: f for f in record.features}
    assert list(found) == ["a", "b", "colour"]
    assert record.train_rows == 280
    assert found["colour"].category_count == 3
    assert found["a"].minimum < found["a"].median < found["a"].maximum
    assert lab.store.record("m").features == record.features
