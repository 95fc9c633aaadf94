"""Each rule alone, on the cases of its `.rule` file."""

from __future__ import annotations

from pathlib import Path

import pytest
from rulefile import read_cases

from gradbase.ir.printer import print_plan
from gradbase.optimizer.driver import apply, plan_nodes
from gradbase.optimizer.stages import STAGES, all_rules

HERE = Path(__file__).parent
RULES = {r.name: r for r in all_rules()}
TOP_DOWN = {rule.name: stage.top_down for stage in STAGES for rule in stage.rules}
CASES = [case for path in sorted(HERE.glob("*.rule")) for case in read_cases(path)]


@pytest.mark.parametrize("case", CASES, ids=lambda c: f"{c.rule}: {c.title}")
def test_rule(case):
    """The rule rewrites the plan as written, or leaves it."""
    case.context.reserve(plan_nodes(case.before))
    after, _ = apply(RULES[case.rule], case.before, case.context, top_down=TOP_DOWN[case.rule])
    expected = case.before if case.after is None else case.after
    assert print_plan(expected, case.names) == print_plan(after, case.names)
    assert expected is after


@pytest.mark.parametrize("name", sorted(RULES))
def test_every_rule_has_a_file_that_shows_when_it_does_not_fire(name):
    """A rule's file is called like the rule and has an `unchanged` case."""
    cases = read_cases(HERE / f"{name}.rule")
    assert {c.rule for c in cases} == {name}
    assert any(c.after is None for c in cases)
    assert any(c.after is not None for c in cases)


def test_every_file_belongs_to_a_rule():
    """No file is left behind when a rule goes."""
    assert {p.stem for p in HERE.glob("*.rule")} == RULES.keys()
