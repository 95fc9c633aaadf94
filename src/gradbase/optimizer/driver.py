"""Runs the stages over a plan, checks every firing and keeps the trace."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from gradbase.errors import BindError, OptimizerBug, PlanError, near
from gradbase.ir.analytic import analytics
from gradbase.ir.learning import Dataset, Fit, FusedFit, Predict, Preprocess, Search
from gradbase.ir.node import Node
from gradbase.ir.printer import print_plan
from gradbase.ir.relational import Relation, SqlFragment
from gradbase.ir.scalar import Scalar
from gradbase.optimizer.context import Context
from gradbase.optimizer.rule import Rule
from gradbase.optimizer.stages import STAGES, Stage, all_rules

_log = logging.getLogger(__name__)
_MOST_FIRINGS = 100_000
_AT_ONE_NODE = 50


@dataclass(frozen=True)
class Step:
    """A rule's turn that changed the plan: `firings` nodes, in `seconds`, giving `plan`."""

    rule: str
    stage: str
    firings: int
    seconds: float
    plan: Node


@dataclass
class Trace:
    """What happened while a plan was optimised.

    `steps` are the turns that changed something; `seconds` the time of each rule that ran;
    `warnings` says which stages stopped at their limit of passes.
    """

    steps: list[Step] = field(default_factory=list[Step])
    seconds: dict[str, float] = field(default_factory=dict[str, float])
    warnings: list[str] = field(default_factory=list[str])

    @property
    def fired(self) -> tuple[str, ...]:
        """Names of the rules that changed the plan, in order of their first firing."""
        return tuple(dict.fromkeys(step.rule for step in self.steps))


def optimize(root: Node, context: Context, trace: Trace | None = None) -> Node:
    """The plan that runs: `root` rewritten under the context's settings.

    Raises
    ------
    OptimizerBug
        A rule changed what the plan means (as far as its schema shows), or left it incomplete.
    BindError
        The settings disable a rule that does not exist.
    PlanError
        They disable one that no plan can do without.
    """
    check_stages(STAGES)
    _check_disabled(context)
    trace = trace if trace is not None else Trace()
    context.reserve(plan_nodes(root))
    settled: dict[str, Node] = {}
    for stage in STAGES:
        root = _run_stage(stage, root, context, trace, settled)
    check_complete(root)
    return root


def runs(rule: Rule, context: Context) -> bool:
    """Whether the settings let `rule` run."""
    settings = context.settings
    if rule.mandatory:
        return True
    disabled = rule.name in settings.disabled_rules
    return settings.optimizer and not disabled and rule.allowed(settings.exactness)


def _run_stage(
    stage: Stage, root: Node, context: Context, trace: Trace, settled: dict[str, Node]
) -> Node:
    """`settled` holds for each rule a plan that it leaves as it is: its turn there is skipped."""
    rules = [r for r in stage.rules if runs(r, context)]
    for _ in range(stage.passes):
        before = root
        for rule in rules:
            if settled.get(rule.name) is root:
                continue
            started = time.perf_counter()
            after, firings = apply(rule, root, context, top_down=stage.top_down)
            seconds = time.perf_counter() - started
            trace.seconds[rule.name] = trace.seconds.get(rule.name, 0.0) + seconds
            if after is root:
                settled[rule.name] = root
            else:
                trace.steps.append(Step(rule.name, stage.name, firings, seconds, after))
                root = after
        if root is before or stage.passes == 1:
            return root
    message = f"stage `{stage.name}` still changes the plan after {stage.passes} passes"
    trace.warnings.append(message)
    _log.warning(message)
    return root


# -- one rule over a plan ----------------------------------------------------------------------


def apply(rule: Rule, root: Node, context: Context, *, top_down: bool = True) -> tuple[Node, int]:
    """`root` with `rule` applied at every node, and how often it fired.

    Top-down, a node is rewritten until the rule no longer fires, then the children of the result.
    Bottom-up, a node is rewritten once, over children that have been. A firing is given up where it
    would take apart, for one of its readers, a part with predictions that several read: it would be
    computed for each of them.
    """
    fired = 0
    shared: frozenset[Node] | None = None

    def fire(node: Node, times: int) -> Node:
        nonlocal fired, shared
        for _ in range(times):
            after = rule.rewrite(node, context)
            if after is None or after is node:
                return node
            shared = _shared_predictions(root) if shared is None else shared
            if _splits(node, after, shared):
                return node
            _check(rule, node, after)
            node, fired = after, fired + 1
            if fired > _MOST_FIRINGS:
                raise OptimizerBug(f"rule `{rule.name}` does not come to an end")
        return node

    done: dict[Node, Node] = {}
    stack: list[tuple[Node, Node | None]] = [(root, None)]
    while stack:
        node, rewritten = stack.pop()
        if node in done:
            continue
        if rewritten is None:
            rewritten = fire(node, _AT_ONE_NODE) if top_down else node
            stack.append((node, rewritten))
            stack.extend((c, None) for c in reversed(rewritten.stands_on) if c not in done)
            continue
        rebuilt = _over(rewritten, done)
        if rewritten in context.choices:
            context.choices.setdefault(rebuilt, context.choices[rewritten])
        done[node] = rebuilt if top_down else fire(rebuilt, 1)
    return done[root], fired


def _shared_predictions(root: Node) -> frozenset[Node]:
    """What several operators stand on and has a `Predict` at or below it."""
    order = list(plan_nodes(root))
    readers = Counter(c for n in order for c in n.stands_on)
    several = [n for n in order if readers[n] > 1 and isinstance(n, Relation)]
    return frozenset(n for n in several if any(isinstance(b, Predict) for b in plan_nodes(n)))


def _splits(before: Node, after: Node, shared: frozenset[Node]) -> bool:
    if not shared:
        return False
    needed = shared.intersection(plan_nodes(before)) - {before}
    return not needed <= set(plan_nodes(after))


def plan_nodes(root: Node) -> Iterator[Node]:
    """What `root` stands on and itself, each node once, parents first."""
    seen: set[Node] = {root}
    stack = [root]
    while stack:
        node = stack.pop()
        yield node
        below = [c for c in node.stands_on if c not in seen]
        seen.update(below)
        stack.extend(reversed(below))


def _over(node: Node, done: dict[Node, Node]) -> Node:
    if all(done.get(c, c) is c for c in node.stands_on):
        return node
    return node.with_children(tuple(done.get(c, c) for c in node.children))


# -- checks ------------------------------------------------------------------------------------


def _meaning(node: Node) -> object:
    """What a rewrite must not change."""
    match node:
        case Search():
            return (node.name, node.metric, [f.trial for f in node.fits])
        case Relation():
            return [(f.name, f.type) for f in node.schema]
        case Dataset():
            own = (node.features, node.label, node.task, node.split, node.seed)
            return (*own, node.weight, node.class_weights, node.transform)
        case FusedFit():
            return [f.trial for f in node.fits]
        case Fit():
            return (node.trial, node.network, node.optimizer, node.epochs, node.seed)
    return type(node)


def _check(rule: Rule, before: Node, after: Node) -> None:
    if _meaning(before) != _meaning(after):
        raise OptimizerBug(
            f"rule `{rule.name}` changed {_meaning(before)} to {_meaning(after)}\n"
            f"before:\n{print_plan(before)}\nafter:\n{print_plan(after)}"
        )


def check_complete(root: Node) -> None:
    """Every prediction has become a `Predict` with a representation; every search has workers.

    Raises
    ------
    OptimizerBug
        Something is left.
    """
    for node in plan_nodes(root):
        scalars = [c for c in node.children if isinstance(c, Scalar)]
        if any(c.predictions for c in scalars) and not isinstance(node, SqlFragment):
            raise OptimizerBug(f"a prediction is left in\n{print_plan(node)}")
        if any(analytics(c) for c in scalars) and not isinstance(node, Preprocess):
            raise OptimizerBug(f"something is left to be learnt in\n{print_plan(node)}")
        chosen = not isinstance(node, Predict) or node.representation
        if not chosen or (isinstance(node, Search) and not node.workers):
            raise OptimizerBug(f"nothing says how to run\n{print_plan(node)}")


def check_stages(stages: tuple[Stage, ...]) -> None:
    """Every rule comes after those it requires.

    Raises
    ------
    OptimizerBug
        One does not.
    """
    seen: set[str] = set()
    for stage in stages:
        for rule in stage.rules:
            missing = set(rule.requires) - seen
            if missing:
                raise OptimizerBug(f"`{rule.name}` must run after {', '.join(sorted(missing))}")
            seen.add(rule.name)


def _check_disabled(context: Context) -> None:
    rules = {r.name: r for r in all_rules()}
    for name in sorted(context.settings.disabled_rules):
        if name not in rules:
            raise BindError(f"there is no rule `{name}`", hint=near(name, rules))
        if rules[name].mandatory:
            raise PlanError(
                f"rule `{name}` cannot be disabled: without it no plan can run",
                hint="RESET gradbase.disabled_rules",
            )
