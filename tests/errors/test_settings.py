"""SET gradbase.…: wrong names and values say what there is."""

from __future__ import annotations

import pytest

import gradbase as gb
from gradbase import errors


@pytest.mark.parametrize(
    ("statement", "kind", "text"),
    [
        ("SET gradbase.thread = 2", errors.BindError, "did you mean `threads`"),
        ("SET gradbase.threads = 1.5", errors.BindError, "whole number from 0"),
        ("SET gradbase.memory_limit = 'much'", errors.BindError, "not a size"),
        ("SET gradbase.exactness = 'bitwize'", errors.BindError, "did you mean `bitwise`"),
        ("SET gradbase.optimizer = 'maybe'", errors.BindError, "on or off"),
        ("SET gradbase.disabled_rules = 'fuse_fit'", errors.BindError, "did you mean `fuse_fits`"),
    ],
)
def test_a_wrong_setting_is_told(statement, kind, text):
    """Type and text of the error; the settings stay as they were."""
    with gb.connect(progress=False) as db:
        before = db.settings
        with pytest.raises(kind, match=text):
            db.sql(statement)
        assert db.settings == before


def test_a_rule_without_which_nothing_runs_cannot_be_disabled(own_shop):
    """No plan satisfies that setting: PlanError says how to go back."""
    with gb.connect(str(own_shop), progress=False) as db:
        db.sql("SET gradbase.disabled_rules = 'extract_predictions'")
        with pytest.raises(errors.PlanError, match=r"RESET gradbase\.disabled_rules"):
            db.sql("SELECT PREDICT(churn, *) FROM customers").fetchall()


def test_bugs_are_told_apart_from_users_errors():
    """A rule's broken contract is an InternalError, which no user error is."""
    assert issubclass(errors.OptimizerBug, errors.InternalError)
    assert not issubclass(errors.BindError, errors.InternalError)


def test_a_setting_that_is_no_limit_waits_for_nobody():
    """With all free memory lent out, other settings still change at once."""
    with gb.connect(progress=False) as db:
        with db.broker.lease("test", "the rest", size_bytes=db.broker.free()[1]):
            held = [lease.id for lease in db.broker.leases()]
            db.sql("SET gradbase.exactness = 'bitwise'")
            assert [lease.id for lease in db.broker.leases()] == held
        assert db.settings.exactness == "bitwise"
