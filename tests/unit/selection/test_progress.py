"""What people see while a search runs."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from gradbase.selection import progress
from gradbase.selection.live_table import LiveTable
from gradbase.selection.progress import LiveBar, Silent, listener_for


class Search:
    name, metric = "churn", "roc_auc"


@pytest.mark.parametrize(
    ("terminal", "wanted", "kind"),
    [(True, True, LiveBar), (True, False, Silent), (False, True, Silent)],
)
def test_progress_is_drawn_for_someone_who_looks(monkeypatch, terminal, wanted, kind):
    from gradbase.ir.facts import Settings

    monkeypatch.setattr(
        "rich.console.Console", lambda **_: Console(file=io.StringIO(), force_terminal=terminal)
    )
    assert type(listener_for(Search(), Settings(progress=wanted))) is kind


def test_the_line_says_what_is_running_failed_and_best(monkeypatch):
    out = io.StringIO()
    monkeypatch.setattr(
        "rich.console.Console", lambda **_: Console(file=out, force_terminal=True, width=120)
    )
    bar = LiveBar("churn", "roc_auc")
    bar.on_data("reading", 1000)
    bar.on_start(3, 30)
    bar.on_epoch(1, 1, {"roc_auc": 0.7})
    bar.on_epoch(2, 1, {"roc_auc": 0.8})
    bar.on_epoch(3, 1, {"roc_auc": float("nan")})
    bar.on_trial_end(3, "FAILED", 9)
    assert bar.state() == "2 running, 1 failed, roc_auc 0.8 (trial 2)"
    bar.on_end("trained `churn`")
    assert "trained `churn`" in out.getvalue()
    assert "12/30" in out.getvalue()
    assert "epochs 2 running, 1 failed" in out.getvalue()


def test_less_is_better_where_the_metric_says_so():
    bar = progress.LiveBar("m", "log_loss")
    for trial, value in [(1, 0.5), (2, 0.4), (3, 0.6)]:
        bar.on_epoch(trial, 1, {"log_loss": value})
    assert bar.best == (0.4, 2)


def test_the_table_has_the_best_trials_and_what_they_do(monkeypatch):
    out = io.StringIO()
    monkeypatch.setattr(
        "rich.console.Console", lambda **_: Console(file=out, force_terminal=True, width=120)
    )
    table = LiveTable("churn", "log_loss")
    table.on_start(12, 24)
    for trial in range(1, 13):
        table.on_epoch(trial, 1, {"log_loss": 1 / trial, "loss": 0.25})
    table.on_epoch(13, 1, {"log_loss": float("nan")})
    table.on_trial_end(12, "STOPPED", 1)
    assert [row[0] for row in table.rows()] == [str(t) for t in range(12, 2, -1)]
    assert table.rows()[0] == ("12", "STOPPED", "1", "0.08333", "0.25")
    assert table.rows()[1][1] == "RUNNING"
    table.on_end("trained `churn`")
    assert "log_loss" in out.getvalue()
    assert "and 3 more trials" in out.getvalue()
