"""From a statement to the plan that runs, and its explanation."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from gradbase.frontend.binder import bind_query
from gradbase.frontend.parameters import Parameters, parameter_values
from gradbase.ir.facts import Modules
from gradbase.ir.learning import Fit, Model
from gradbase.ir.node import Node
from gradbase.ir.relational import Relation
from gradbase.optimizer.context import Context
from gradbase.optimizer.cost import total_seconds
from gradbase.optimizer.cost_predict import ONNX
from gradbase.optimizer.driver import Trace, optimize
from gradbase.optimizer.explain import explain, models, seconds_text, steps
from gradbase.plots.plan import svg
from gradbase.selection.html import html_text
from gradbase.session.plans import AskedRows, AskedTypes

if TYPE_CHECKING:
    from gradbase.session.session import Session


_SMALL_BYTES = 1 << 20
"""Weights that are read in no time."""
ModuleBytes = Callable[[Fit, int, int], int | None]


@dataclass(frozen=True, repr=False)
class Plan:
    """A statement's plan before and after optimisation.

    `rules` are the names of the rules that fired, in order; `rows` the estimates it rests on;
    `seconds` is what planning took.
    """

    logical: Node
    root: Node
    trace: Trace
    context: Context
    rows: AskedRows
    seconds: float

    @property
    def rules(self) -> tuple[str, ...]:
        return self.trace.fired

    def text(self, *, verbose: bool = False, actual: Mapping[Node, str] | None = None) -> str:
        """The plan as EXPLAIN shows it; `actual` is a line for operators that ran."""
        return explain(
            self.root, self.context, trace=self.trace, verbose=verbose, actual=actual or {}
        )

    def to_svg(self, measured: str = "") -> str:
        """The plan as a graph: an SVG document. `measured` is a line below it."""
        total = seconds_text(total_seconds(self.root, self.context))
        fired = f"rules that fired: {', '.join(self.rules) or 'none'}"
        footer = [line for line in (measured, *models(self.root), fired) if line]
        return svg(steps(self.root, self.context), f"Plan, about {total}", footer)

    def __repr__(self) -> str:
        return self.text()

    def _repr_html_(self) -> str:
        return f"{self.to_svg()}<details><summary>text</summary>{html_text(self.text())}</details>"


def plan(
    session: Session,
    logical: Node,
    module_bytes: ModuleBytes | None = None,
    modules: Modules | None = None,
) -> Plan:
    """Optimise `logical` under the session's settings; it becomes the session's `last_plan`.

    `module_bytes` says what a step of a user's module holds, `modules` what else is known of them
    (see `Context`).
    """
    session.last_plan = made = planned(session, logical, module_bytes, modules)
    return made


def planned(
    session: Session,
    logical: Node,
    module_bytes: ModuleBytes | None = None,
    modules: Modules | None = None,
) -> Plan:
    """As `plan`, for a part of a statement: the session's `last_plan` stays."""
    from gradbase.runtime.weight_facts import WeightFacts

    rows = AskedRows(session.engine)
    context = Context(
        statistics=rows,
        calibration=session.calibration,
        capabilities=session.engine.capabilities,
        settings=session.settings,
        module_bytes=module_bytes,
        weights=WeightFacts(session.store.blobs),
        modules=modules,
        memory_bytes=session.broker.memory_bytes - session.broker.held(session.engine.name),
        history=session.history,
        is_loaded=partial(_is_loaded, session),
    )
    started = time.perf_counter()
    trace = Trace()
    root = optimize(logical, context, trace)
    return Plan(logical, root, trace, context, rows, time.perf_counter() - started)


def _is_loaded(session: Session, model: Model, representation: str) -> bool:
    """Whether weights are in memory; asks no module that is not loaded either."""
    onnx = representation == ONNX
    if not onnx and model.param_bytes < _SMALL_BYTES:
        return True
    programs = sys.modules.get("gradbase.runtime.programs")
    return programs is not None and programs.is_kept(model, session.broker, onnx=onnx)


def bind_again(session: Session, text: str, params: Parameters) -> Relation:
    """As `bind_query`, from the kept relation where the engine's answers are still the same."""
    values = parameter_values(params)
    key = (text, tuple(values), session.store.changes)
    kept = session.bound.get(key)
    if kept is not None and kept[1].hold(values):
        return kept[0]
    asked = AskedTypes(session.engine)
    relation = bind_query(text, asked, session.store, params)
    session.bound.put(key, (relation, asked))
    return relation


def plan_again(session: Session, logical: Relation) -> Plan:
    """As `plan`, from the kept plan where settings are equal and tables about as large."""
    key = (logical, session.settings, session.history.version)
    kept = session.plans.get(key)
    if kept is not None and kept.rows.hold():
        session.last_plan = kept
        return kept
    made = plan(session, logical)
    session.plans.put(key, made)
    return made
