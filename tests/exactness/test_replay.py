"""A trial that is trained again from its search's journal has the same weights."""

from __future__ import annotations

import pytest
from test_resume import NETWORKS, db, normalised, outcome, trained  # noqa: F401 (db: a fixture)

import gradbase as gb
from gradbase.errors import BindError, DataError, StoreError, UnsupportedError

CASES = [
    ("stacked", "random", "adam"),
    ("stacked", "asha", "sgd"),
    ("stacked", "pbt", "rmsprop"),
    ("alone", "hyperband", "adagrad"),
    ("module", "asha", "adam"),
]


@pytest.mark.parametrize("case", CASES, ids="-".join)
def test_every_trial_can_be_replayed(db, case):  # noqa: F811
    kind, procedure, optimizer = case
    if kind == "alone":
        db.sql("SET gradbase.disabled_rules = 'fuse_fits'")
    trained(db, NETWORKS.get(kind, normalised), procedure, optimizer)
    history = db.study("m").history
    for trial in (1, 2, 5):
        again = db.model("m", trial=trial).replay()
        assert again.same, trial
        assert again.epochs[-1].train_loss == history[history.trial == trial].train_loss.iloc[-1]


def test_other_weights_are_told(db):  # noqa: F811
    trained(db, normalised, "random", "adam")
    stored = db.model("m", trial=2)
    other = db.model("m", trial=3)
    assert stored.replay().outputs != other.replay().outputs
    db.sql("UPDATE t SET a = a + 1 WHERE b > 0.9")
    with pytest.raises(DataError, match="have changed since the search"):
        stored.replay()


def test_what_cannot_be_replayed_says_why(db):  # noqa: F811
    db.table("t").fit(gb.mlp(hidden=[4]), target="y", name="k", folds=3, epochs=1)
    with pytest.raises(UnsupportedError, match="several trainings, one on each fold"):
        db.model("k").replay()
    db.sql("CREATE MODEL c OPTIONS (model_type = 'linear_reg', input_label_cols = ['y']) AS "
           "SELECT a, b, y FROM t")  # fmt: skip
    assert db.model("c").replay().same
    db.sql("DELETE FROM gradbase.runs")
    with pytest.raises(StoreError, match="there is no journal of the search"):
        db.model("c").replay()


def test_the_report_says_where_the_time_went(db):  # noqa: F811
    db.sql("SET gradbase.disabled_rules = 'fuse_fits'")
    trained(db, NETWORKS["alone"], "random", "adam")
    study = db.study("m")
    report = study.report()
    assert report.units == 5 * 5 * 3
    assert report.read_s > 0 < report.train_s
    assert report.validate_s > 0
    assert (report.lost, report.moved_bytes) == (0, 0)
    assert str(report).splitlines()[0].startswith("read")
    counted = db.sql("SELECT trial, epoch, count(*) FROM gradbase.units GROUP BY ALL").fetchall()
    assert sorted(counted) == [(t, e, 3) for t in range(1, 6) for e in range(5)]


def test_a_trial_that_is_none_cannot_be_replayed():
    from gradbase.selection.replaying import stretches_of

    with pytest.raises(BindError, match="no trial 3"):
        stretches_of([], 3)
