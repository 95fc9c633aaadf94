"""The driver: stages, checks, settings, trace."""

from __future__ import annotations

import pytest

from gradbase.errors import BindError, OptimizerBug, PlanError, UnsupportedError
from gradbase.ir.learning import Predict
from gradbase.ir.node import find
from gradbase.ir.printer import print_plan
from gradbase.ir.relational import Filter, Limit, Project
from gradbase.ir.scalar import Literal
from gradbase.ir.types import BOOL
from gradbase.optimizer import driver
from gradbase.optimizer.driver import Trace, apply, check_stages, optimize, plan_nodes
from gradbase.optimizer.rule import rule
from gradbase.optimizer.stages import STAGES, Stage, all_rules

from .plans import M, context, plan, training

QUERY = """Project[id, predict(%m, proba, x0, x1) as p, predict(%m, label, x0, x1) as l]
  Filter[predict(%m, proba, x0, x1) > 0.5 and s = 'a']
    Scan t (id int64, x0 float32, x1 float32, s text, unused text)"""

OPTIMISED = """Project[id, __gb_1 as p, __gb_3 as l]
  Filter[__gb_1 > 0.5]
    Project[id, __gb_1, __gb_3]
      Predict[%m proba as __gb_1, label as __gb_3 from x0, x1 by dl 256]
        Rebatch[16384]
          Project[id, x0, x1]
            Filter[s = 'a']
              Scan t (id int64, x0 float32, x1 float32, s text)"""

PLAIN = """Project[id, __gb_2 as p, __gb_3 as l]
  Predict[%m label as __gb_3 from x0, x1 by dl 8192]
    Predict[%m proba as __gb_2 from x0, x1 by dl 8192]
      Project[id, x0, x1, s, unused]
        Filter[__gb_1 > 0.5 and s = 'a']
          Predict[%m proba as __gb_1 from x0, x1 by dl 8192]
            Scan t (id int64, x0 float32, x1 float32, s text, unused text)"""


@pytest.mark.parametrize(("optimizer", "expected"), [(True, OPTIMISED), (False, PLAIN)])
def test_a_query_is_optimised_end_to_end(optimizer, expected):
    made = optimize(plan(QUERY), context({"t": 1000}, optimizer=optimizer))
    assert print_plan(made, {M: "m"}) == expected


def test_every_rule_can_be_switched_off_alone_and_the_plan_stays_complete():
    for off in all_rules():
        if not off.mandatory:
            trace = Trace()
            made = optimize(plan(QUERY), context(disabled_rules=frozenset({off.name})), trace)
            assert off.name not in trace.fired
            assert made.schema == plan(QUERY).schema


def test_optimising_twice_changes_nothing():
    once = optimize(plan(QUERY), context())
    assert optimize(once, context()) is once


def test_the_trace_names_rules_in_order_with_times_and_plans():
    trace = Trace()
    made = optimize(plan(QUERY), context(), trace)
    assert trace.fired[:2] == ("order_conjuncts", "extract_predictions")
    assert trace.steps[-1].plan is made
    assert trace.seconds.keys() >= {"share_predictions", "push_topk_below_predict"}
    assert all(step.seconds >= 0 for step in trace.steps)


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("fuse_fit", BindError, "did you mean `fuse_fits`"),
        ("extract_predictions", PlanError, "cannot be disabled"),
    ],
)
def test_settings_may_name_only_rules_that_can_be_disabled(name, error, message):
    with pytest.raises(error, match=message):
        optimize(plan(QUERY), context(disabled_rules=frozenset({name})))


def test_rules_looser_than_the_setting_do_not_run():
    search = training((16,), 64)
    trace = Trace()
    optimize(search, context({"t": 10_000}, exactness="bitwise"), trace)
    assert "fuse_fits" not in trace.fired
    optimize(search, context({"t": 10_000}), trace)
    assert "fuse_fits" in trace.fired


@rule()
def rename_columns(n, ctx):
    """Breaks the contract on purpose."""
    return Project(n.child, ("b",), n.exprs) if isinstance(n, Project) else None


@rule()
def grow(n, ctx):
    """Never ends."""
    return Limit(n, 3) if isinstance(n, Filter) else None


@rule()
def flip(n, ctx):
    """Goes there and back."""
    if not isinstance(n, Filter):
        return None
    return n.replace(predicate=Literal(n.predicate.value is False, BOOL))


def test_a_rule_that_changes_the_schema_is_a_bug_that_names_it():
    with pytest.raises(
        OptimizerBug, match=r"rule `rename_columns` changed(.|\n)*before:(.|\n)*after:"
    ):
        apply(rename_columns, plan("Project[a]\n  Scan t (a int64)"), context())


def test_a_rule_without_end_is_a_bug(monkeypatch):
    monkeypatch.setattr(driver, "_MOST_FIRINGS", 100)
    with pytest.raises(OptimizerBug, match="`grow` does not come to an end"):
        apply(grow, plan("Filter[a is null]\n  Scan t (a int64)"), context())


def test_reaching_the_limit_of_passes_is_reported(monkeypatch, caplog):
    monkeypatch.setattr(driver, "_AT_ONE_NODE", 1)
    monkeypatch.setattr(driver, "STAGES", (Stage("turns", (flip,), passes=3),))
    trace = Trace()
    optimize(plan("Filter[true]\n  Scan t (a int64)"), context(), trace)
    assert trace.warnings == ["stage `turns` still changes the plan after 3 passes"]
    assert "still changes" in caplog.text


def test_an_incomplete_plan_is_a_bug(monkeypatch):
    monkeypatch.setattr(driver, "STAGES", STAGES[2:])
    monkeypatch.setattr(driver, "check_stages", lambda _: None)
    with pytest.raises(OptimizerBug, match="a prediction is left"):
        optimize(plan(QUERY), context())


def test_stages_respect_what_rules_require():
    check_stages(STAGES)
    with pytest.raises(OptimizerBug, match="must run after extract_predictions"):
        check_stages(STAGES[2:])


def test_a_prediction_read_twice_is_not_computed_twice():
    shared = """%1 = Predict[%m proba as p from x0, x1]
  Scan t (id int64, x0 float32, x1 float32, s text)
Union[all]
  Project[id, p]
    Filter[s = 'a']
      %1
  Project[id, x0 as p:float32, p as q]
    %1"""
    text = shared.replace(
        "  Project[id, x0 as p:float32, p as q]\n    %1", "  Project[id, p]\n    %1"
    )
    made = optimize(plan(text), context())
    assert len(set(find(made, Predict))) == 1


def test_predictions_that_an_outer_join_cannot_decide_are_refused():
    text = """Join[left on predict(%m, proba, a, b) > 0.5]
  Scan t (a float32)
  Scan u (b float32)"""
    with pytest.raises(UnsupportedError, match="left join cannot be decided") as raised:
        optimize(plan(text), context())
    assert "filter an inner join" in str(raised.value)


def test_deep_plans_need_no_recursion():
    text = "Scan t (a int64, b int64)"
    deep = plan(text)
    for number in range(1200):
        deep = Filter(deep, plan(f"Filter[`f{number}({{a}})`:bool]\n  {text}").predicate)
    made = optimize(Project(deep, ("a",), (plan(f"Project[a]\n  {text}").exprs[0],)), context())
    assert len(list(plan_nodes(made))) < 10


def test_no_rule_is_asked_twice_about_a_plan_it_left_alone(monkeypatch):
    asked = []

    def watched(rule, root, *rest, **options):
        after, times = apply(rule, root, *rest, **options)
        asked.append((rule.name, root) if after is root else None)
        return after, times

    monkeypatch.setattr(driver, "apply", watched)
    optimize(plan(QUERY), context())
    left_alone = [a for a in asked if a is not None]
    assert len(left_alone) == len(set(left_alone)) > 20
