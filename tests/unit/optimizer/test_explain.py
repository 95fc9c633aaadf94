"""The text of EXPLAIN."""

from __future__ import annotations

import re

import pytest

from gradbase.optimizer.driver import Trace, optimize
from gradbase.optimizer.explain import explain
from gradbase.optimizer.quantities import quantity, seconds_text
from gradbase.optimizer.stages import all_rules

from .plans import context, plan, training

QUERY = """Filter[predict(%m, proba, x0, x1) > 0.5 and s = 'a']
  Scan t (x0 float32, x1 float32, s text)"""


def explained(root, *, verbose=False, **facts):
    made, trace = context(**facts), Trace()
    return explain(optimize(root, made, trace), made, trace=trace, verbose=verbose)


def test_a_prediction_shows_estimates_choice_and_rules():
    text = explained(plan(QUERY), rows={"t": 2_000_000})
    assert re.search(r"Scan t \(x0 float32.*\) +≈ 2,000,000 rows, 48\.0 MB, [\d.]+ ms", text)
    assert re.search(r"Predict\[%m proba as __gb_1 from x0, x1 by dl \d+\] +≈ 200,000 rows", text)
    assert re.search(r"chosen: dl \d+: [\d.]+x faster for \d+ FLOPs a row", text)
    assert re.search(r"considered: dl \d+ ≈ [\d.]+ ms; udf 2048 ≈ [\d.]+ ms", text)
    assert "exactness: float32 network" in text
    assert re.search(r"total ≈ [\d.]+ ms", text)
    assert "%m = m@1#0: binary, 2 features" in text
    assert "rules that fired: order_conjuncts (bitwise), extract_predictions (bitwise)" in text


def test_verbose_shows_the_plan_after_each_rule_that_fired_and_times():
    text = explained(plan(QUERY), verbose=True, rows={"t": 1000})
    after = text.split("after extract_predictions (stage lower, once):")[1]
    assert "  Project[x0, x1, s]\n    Filter[s = 'a' and __gb_1 > 0.5]\n" in after
    assert "after push_filter_below_predict" in text
    assert re.search(r"time of each rule:\n(  \w+: .*\n)*  push_topk_below_predict: ", text)


def test_a_search_shows_groups_and_what_else_was_considered():
    text = explained(training((64, 32), 64), rows={"t": 45_211})
    assert "Search s: 32 fits, best roc_auc, grid, 2 workers x 1 threads" in text
    assert (
        "FusedFit of 16 (trials 0-15): Mlp(hidden_units=(64, 32)), adamw, batch 64, 5 epochs"
        in text
    )
    assert re.search(r"considered: 32 alone ≈ [\d.]+ s; 1 group, largest 32 ≈ ", text)
    assert text.count("read once for all fits on it") == 1


def test_choices_survive_changes_further_down():
    text = """Project[predict(%m, proba, x0, x1) as p, predict(%n, proba, x0, x1) as q]
  Scan t (x0 float32, x1 float32)"""
    assert explained(plan(text), rows={"t": 1000}).count("    chosen: dl") == 2


def test_large_searches_are_abbreviated():
    text = explained(training((512, 256), 256), rows={"t": 45_211})
    assert text.count("  Fit (trial ") == 3
    assert "the first 3 groups are shown, 29 more like them" in text
    assert "stacking would not be faster at these layer sizes" in text


def test_shared_parts_are_shown_once():
    text = explained(plan("%1 = Scan t (a int64)\nUnion[all]\n  %1\n  %1"))
    assert text.count("Scan t (a int64)") == 1
    assert "%1 (above)" in text


def test_plans_without_trace_have_no_rules():
    assert "rules" not in explain(plan("Scan t (a int64)"), context())


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0, "0 s"), (3e-7, "<1 µs"), (0.0025, "2.5 ms"), (1234.5, "1,234.5 s"), (2e-5, "20.0 µs")],
)
def test_seconds_have_a_readable_unit(seconds, text):
    assert text == seconds_text(seconds)


def test_quantities_have_a_decimal_prefix():
    assert [quantity(v, "B") for v in (0, 999, 1500, 2e9)] == ["0 B", "999 B", "1.5 kB", "2.0 GB"]


def test_every_rule_says_what_it_does():
    for rule in all_rules():
        assert len(rule.doc) > 40, rule.name
