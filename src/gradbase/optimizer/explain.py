"""The text of EXPLAIN."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from gradbase.ir.analytic import analytics
from gradbase.ir.factored import PredictJoined
from gradbase.ir.grouping import FitGroups
from gradbase.ir.learning import (
    Dataset,
    Evaluate,
    Fit,
    FusedFit,
    Learn,
    Model,
    Predict,
    Preprocess,
    Search,
)
from gradbase.ir.node import Node, find
from gradbase.ir.preprocessing import Preprocessing
from gradbase.ir.printer import Writer, block_children, label_nodes, print_plan
from gradbase.ir.relational import Project
from gradbase.ir.scalar import Scalar, scalars
from gradbase.ir.unlabelled import Solve
from gradbase.optimizer.context import Choice, Context
from gradbase.optimizer.cost import estimate, total_seconds
from gradbase.optimizer.cost_groups import by_group_seconds
from gradbase.optimizer.cost_predict import SQL
from gradbase.optimizer.cost_preprocess import engine_seconds, program_seconds
from gradbase.optimizer.driver import Trace
from gradbase.optimizer.quantities import count_text, quantity, seconds_text
from gradbase.optimizer.stages import all_rules

_SHOWN_FITS = 3
_SOLVED = ("clusters", "components", "transform")
"""Tasks of datasets that no fit trains on."""


def explain(
    plan: Node, context: Context, *, trace: Trace | None = None, verbose: bool = False,
    actual: Mapping[Node, str] = MappingProxyType({}),
) -> str:  # fmt: skip
    """The plan as a tree with what each operator is expected to do, and how it came about.

    Parameters
    ----------
    trace : Trace, optional
        Of the plan's optimisation: names the rules that fired.
    verbose : bool
        Also the plan after each rule that changed it, and each rule's time.
    actual : mapping
        A line for operators that ran.
    """
    estimate(plan, context)
    lines = _Tree(plan, context, actual).lines()
    lines += ["", f"total ≈ {seconds_text(total_seconds(plan, context))}"]
    lines += models(plan)
    if trace is not None:
        lines += ["", *_rule_lines(trace)]
        if verbose:
            lines += _step_lines(trace, model_names(find(plan, Model)))
    return "\n".join(lines)


def models(plan: Node) -> list[str]:
    """A line for each model in a plan: features, FLOPs and bytes."""
    found = sorted(set(find(plan, Model)), key=lambda m: m.address)
    names = model_names(found)
    return [_model_line(m, names[m]) for m in found]


@dataclass(frozen=True)
class Step:
    """One operator of a plan, as EXPLAIN shows it.

    Parameters
    ----------
    head, facts : str
        The operator; its estimated rows, bytes and seconds.
    notes : tuple of str
    family : str
        ``rows``, ``network`` or ``training``.
    share : float
        Of the plan's estimated seconds, from 0 to 1.
    below : tuple of int
        Numbers of the steps that it reads, each higher than its own.
    """

    head: str
    facts: str
    notes: tuple[str, ...]
    family: str
    share: float
    below: tuple[int, ...]


def steps(plan: Node, context: Context) -> list[Step]:
    """The operators of a plan, the root first; one that several read is there once."""
    estimate(plan, context)
    tree = _Tree(plan, context)
    total = total_seconds(plan, context) or 1.0
    order = tree.order()
    number = {node: i for i, node in enumerate(order)}
    return [
        Step(
            tree.head(node),
            tree.facts(node),
            tuple(tree.notes(node)),
            _family(node),
            # A search's seconds are those of its fits.
            0.0 if isinstance(node, Search) else estimate(node, context).seconds / total,
            tuple(number[c] for c in tree.read(node)),
        )
        for node in order
    ]


def _family(node: Node) -> str:
    match node:
        case Predict() | PredictJoined() | Evaluate():
            return "network"
        case Search() | Fit() | FusedFit() | Learn() | Dataset():
            return "training"
    return "rows"


class _Tree:
    """Writes a plan as indented lines; a part used twice is shown once."""

    def __init__(
        self, plan: Node, context: Context, actual: Mapping[Node, str] = MappingProxyType({})
    ) -> None:
        self.plan, self.context, self.actual = plan, context, actual
        self.labels = label_nodes(plan, model_names(find(plan, Model)))
        self.writer = Writer(self.labels)
        self.shown: set[Node] = set()

    def lines(self) -> list[str]:
        rows: list[tuple[str, str]] = []
        stack: list[tuple[Node, int]] = [(self.plan, 0)]
        while stack:
            node, depth = stack.pop()
            indent = "  " * depth
            if node in self.shown:
                rows.append((f"{indent}%{self.labels.get(node, '?')} (above)", ""))
                continue
            self.shown.add(node)
            mark = f"%{self.labels[node]} = " if node in self.labels else ""
            rows.append((indent + mark + shortened(self.head(node)), self.facts(node)))
            rows += [(f"{indent}    {text}", "") for text in self.notes(node)]
            stack.extend((c, depth + 1) for c in reversed(self.below(node)))
        width = min(max(len(left) for left, right in rows if right), 72)
        return [f"{left:<{width}}  {right}".rstrip() for left, right in rows]

    def read(self, node: Node) -> tuple[Node, ...]:
        """What a node reads: as `below`, but fits stand between a search and its rows."""
        if isinstance(node, Search):
            return node.trials[:_SHOWN_FITS]
        if isinstance(node, FusedFit):
            return tuple(dict.fromkeys(f.data for f in node.fits))
        return self.below(node)

    def order(self) -> list[Node]:
        """Every node once, each before what it reads."""
        found: dict[Node, None] = {}
        stack: list[tuple[Node, bool]] = [(self.plan, False)]
        while stack:
            node, left = stack.pop()
            if left:
                found[node] = None
            elif node not in found:
                stack.append((node, True))
                stack.extend((c, False) for c in self.read(node) if c not in found)
        return list(found)[::-1]

    def head(self, node: Node) -> str:
        match node:
            case Search():
                folds = node.fits[0].data.split.folds
                fits = f"{len(node.fits)} fits" + (f" on {folds} folds" if folds else "")
                return (
                    f"Search {node.name}: {fits}, best {node.metric}, "
                    f"{node.procedure}, {node.workers} workers x {node.threads} threads"
                )
            case FusedFit(fits=fits):
                numbers = _ranges([f.trial for f in fits])
                where = f"trials {numbers}{_fold(fits[0])}"
                return f"FusedFit of {len(fits)} ({where}): {_fit_text(fits[0])}"
            case Fit():
                return f"Fit (trial {node.trial}{_fold(node)}): {_fit_text(node)}"
            case FitGroups():
                return _groups_text(node)
            case Solve(name=name, networks=networks):
                return f"Solve {name}: {len(networks)} trials, {networks[0]}"
            case Learn(name=name):
                return f"Learn TRANSFORM {name}"
            case Dataset():
                label = f"label {node.label}" if node.label else "no label"
                return f"Dataset {len(node.features)} features, {label}, {_split(node)}"
            case _:
                return self.writer.head(node)

    def facts(self, node: Node) -> str:
        """Estimated rows, bytes and seconds of this operator alone."""
        found = estimate(node, self.context)
        flops = f", {quantity(found.flops, 'FLOP')}" if found.flops else ""
        size = f"{count_text(found.rows)} rows, {quantity(found.bytes, 'B')}"
        if isinstance(node, (Fit, FusedFit)):
            return f"≈ {seconds_text(found.seconds)}{flops}"
        return f"≈ {size}{flops}, {seconds_text(found.seconds)}"

    def notes(self, node: Node) -> list[str]:
        choice = self.context.choices.get(node)
        found = [self.actual[node]] if node in self.actual else []
        found += _choice_lines(choice) if choice is not None else []
        found += self.preprocessing(node)
        if isinstance(node, (Predict, PredictJoined, Evaluate)):
            kinds = " and ".join(dict.fromkeys(o.x.dtype for o in node.model.outputs)) or "float32"
            rounding = "rounding may depend on the batch"
            if isinstance(node, (Predict, Evaluate)) and node.representation == SQL:
                rounding = "computed by the engine in double precision"
            found.append(f"exactness: {kinds} network, {rounding} (tolerance)")
        if isinstance(node, FusedFit):
            found.append("exactness: tolerance (gradients within 1e-5 of a fit alone)")
        if isinstance(node, FitGroups):
            found += _stacking(node, self.context)
        if isinstance(node, Dataset):
            found.append("read once" if node.task in _SOLVED else "read once for all fits on it")
            if node.transform:
                names = ", ".join(d.name for d in node.transform)
                found.append(f"TRANSFORM gives {names}; learnt from the rows that train")
            if node.groups:
                found.append("split, statistics and classes of each group by its own rows")
            if node.split.folds:
                others = f"folds 2 to {node.split.folds} are dealt out from the same reading"
                found.append(f"{others}; the best trial is trained again on all rows")
        hidden = len(node.trials) - _SHOWN_FITS if isinstance(node, Search) else 0
        if hidden > 0:
            found.append(f"the first {_SHOWN_FITS} groups are shown, {hidden} more like them")
        return found

    def preprocessing(self, node: Node) -> list[str]:
        """Where preprocessing functions run, and what they would take elsewhere."""
        exprs: tuple[Scalar, ...] = ()
        names: tuple[str, ...] = ()
        match node:
            case Project() | Preprocess():
                names, exprs = node.names, node.exprs
            case Predict(model=model) | Evaluate(model=model):
                names = tuple(c.name for c in model.columns)
                exprs = tuple(c.expr for c in model.columns)
            case _:
                pass
        pairs = zip(names, exprs, strict=True)
        done = {n: e for n, e in pairs if _preprocesses(e)}
        if not done:
            return []
        rows = estimate(node, self.context).rows
        here, there = ("engine", "program") if isinstance(node, Project) else ("program", "engine")
        seconds = {
            "engine": rows * engine_seconds(done.values(), self.context),
            "program": rows * program_seconds(done.values()),
        }
        how = "learnt from the rows below and " * any(analytics(e) for e in exprs)
        text = f"{', '.join(done)}: {how}preprocessed in the {here} ≈ {seconds_text(seconds[here])}"
        if seconds[there] < math.inf:
            text += f" (in the {there} ≈ {seconds_text(seconds[there])}, and handing over)"
        return [text]

    def below(self, node: Node) -> tuple[Node, ...]:
        if isinstance(node, Learn):
            return (node.data,)
        if isinstance(node, Search):
            datasets = dict.fromkeys(f.data for f in node.fits)
            shown = (d for d in datasets if d.split.fold <= 1)
            return (*node.trials[:_SHOWN_FITS], *shown)
        return () if isinstance(node, FusedFit) else block_children(node)


def model_names(models: Iterable[Model]) -> dict[Node, str]:
    """What each model of a plan is called: with version and trial where names are not enough."""
    known = set(models)
    times = Counter(m.name for m in known)
    return {m: m.name if times[m.name] == 1 else m.address for m in known}


def _preprocesses(expr: Scalar) -> bool:
    return bool(analytics(expr)) or any(scalars(expr, Preprocessing))


def shortened(head: str, width: int = 110) -> str:
    """A line with many columns, the middle ones only counted; VERBOSE and print_plan have all.

    Examples
    --------
    >>> shortened("Project[a, b, c, d, e, f]", width=20)
    'Project[a, b, … 3 more, f]'
    """
    items = head.split(", ")
    if len(head) <= width or len(items) < 6:
        return head
    first = 2
    while first < len(items) - 3 and len(", ".join(items[: first + 1])) < width // 2:
        first += 1
    more = f"… {len(items) - first - 1} more"
    return ", ".join([*items[:first], more, items[-1]])


def _choice_lines(choice: Choice) -> list[str]:
    lines = [f"chosen: {choice.chosen}: {choice.reason}"]
    if len(choice.alternatives) > 1:
        each = (f"{a.what} ≈ {seconds_text(a.seconds)}" for a in choice.alternatives)
        lines.append(f"considered: {'; '.join(each)}")
    return [*lines, *choice.details]


def _fit_text(fit: Fit) -> str:
    network = Writer({}).head(fit.network)
    start = f", from {fit.start.address}" if fit.start is not None else ""
    return f"{network}, {fit.optimizer.name}, batch {fit.batch_size}, {fit.epochs} epochs{start}"


def _groups_text(node: FitGroups) -> str:
    small, middle, large = node.rows
    keys = ", ".join(node.data.groups)
    return (
        f"FitGroups {node.name}: {node.groups:,} groups by {keys} of {small:,} to {large:,} rows "
        f"(median {middle:,}), {node.trials} trials each by {node.procedure}, best {node.metric}, "
        f"unseen {node.unseen}: {_fit_text(node.fits[0])}"
    )


def _stacking(node: FitGroups, context: Context) -> list[str]:
    alike = "equal batch, optimiser and outputs, about equal width and rows"
    took = {how: seconds_text(s) for how, s in by_group_seconds(node, context).items()}
    found = [
        f"{node.groups * node.trials:,} networks in stacks of {alike}",
        f"in stacks ≈ {took['stacks']}; group after group ≈ {took['alone']}",
        "each step trains those of a stack that have rows left in the epoch",
        "exactness: tolerance (gradients within 1e-5 of a group alone)",
    ]
    if node.solvable:
        found.append("groups of ten rows a column and more are solved exactly instead")
    return found


def _fold(fit: Fit) -> str:
    split = fit.data.split
    return f", fold {split.fold} of {split.folds}" if split.fold else ""


def _split(data: Dataset) -> str:
    split = data.split
    if split.folds:
        return f"fold {split.fold} of {split.folds} evaluates"
    return "no split" if split.method == "none" else f"{split.method} split"


def _ranges(numbers: list[int]) -> str:
    """``1-3, 7`` for 1, 2, 3, 7."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and runs[-1][-1] == number - 1:
            runs[-1][1:] = [number]
        else:
            runs.append([number])
    return ", ".join("-".join(map(str, run)) for run in runs)


def _model_line(model: Model, name: str) -> str:
    return (
        f"%{name} = {model.address}: {model.task}, {len(model.features)} features, "
        f"{quantity(model.flops, 'FLOP')} a row, {quantity(model.param_bytes, 'B')} of weights"
    )


def _rule_lines(trace: Trace) -> list[str]:
    exactness = {r.name: r.exactness for r in all_rules()}
    fired = ", ".join(f"{name} ({exactness[name]})" for name in trace.fired)
    return [f"rules that fired: {fired or 'none'}", *(f"warning: {w}" for w in trace.warnings)]


def _step_lines(trace: Trace, names: dict[Node, str]) -> list[str]:
    lines: list[str] = []
    for step in trace.steps:
        times = "once" if step.firings == 1 else f"{step.firings} times"
        lines += ["", f"after {step.rule} (stage {step.stage}, {times}):"]
        lines += [f"  {line}" for line in print_plan(step.plan, names).splitlines()]
    lines += ["", "time of each rule:"]
    lines += [f"  {name}: {seconds_text(s)}" for name, s in trace.seconds.items()]
    return lines


# -- units -------------------------------------------------------------------------------------
