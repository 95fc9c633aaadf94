"""From a logical plan to the plan that runs, and its explanation."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gradbase.ir.node import Node
from gradbase.optimizer.context import Context
from gradbase.optimizer.driver import Trace, optimize
from gradbase.optimizer.explain import explain

if TYPE_CHECKING:
    from gradbase.session.session import Session


@dataclass(frozen=True)
class Plan:
    """A statement's plan before and after optimisation.

    `rules` are the names of the rules that fired, in order; `seconds` is what planning took.
    """

    logical: Node
    root: Node
    trace: Trace
    context: Context
    seconds: float

    @property
    def rules(self) -> tuple[str, ...]:
        return self.trace.fired

    def text(self, *, verbose: bool = False) -> str:
        """The plan as EXPLAIN shows it."""
        return explain(self.root, self.context, trace=self.trace, verbose=verbose)


def plan(session: Session, logical: Node) -> Plan:
    """Optimise `logical` under the session's settings; it becomes the session's `last_plan`."""
    context = Context(
        statistics=session.engine.statistics,
        calibration=session.calibration,
        capabilities=session.engine.capabilities,
        settings=session.settings,
    )
    started = time.perf_counter()
    trace = Trace()
    root = optimize(logical, context, trace)
    made = Plan(logical, root, trace, context, time.perf_counter() - started)
    session.last_plan = made
    return made
