"""RESUME SEARCH: going on with a training that was interrupted, to bitwise the same result."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from gradbase.selection.networks import register
from gradbase.selection.outcome import RunResult
from gradbase.selection.replaying import Replay, replay
from gradbase.selection.resuming import Interrupted
from gradbase.session.groups import resume_groups
from gradbase.session.training import train
from gradbase.store.journal import Journal, read

if TYPE_CHECKING:
    from gradbase.ir.learning import Model
    from gradbase.session.session import Session

log = logging.getLogger("gradbase.session")


Functions = Callable[..., Any] | Sequence[Callable[..., Any]] | None
"""The functions that were given to a fit: one, or several."""


def _register(given: Functions) -> None:
    """Functions that a journal refers to, known again."""
    for function in [given] if callable(given) else given or ():
        register(function)


def resume(session: Session, name: str, network: Functions = None) -> RunResult:
    """Go on with the latest search for model `name`; see `Session.resume`."""
    _register(network)
    journal = session.store.runs.resume(name)
    try:
        interrupted = Interrupted(journal, read(journal.path))
        plan = interrupted.groups
        if plan is not None:
            return resume_groups(session, plan, interrupted)
        search = interrupted.search()
        info = interrupted.info(session.python_modules)
        interrupted.demand_functions(session.python_modules)
    except BaseException as error:
        session.store.finish_run(journal, "FAILED", error=str(error))
        raise
    for difference in interrupted.differences():
        log.warning("search %s: %s; results may differ in their last bits", search.name, difference)
    return train(session, search, info, interrupted)


def replayed(session: Session, model: Model, network: Functions = None) -> Replay:
    """Train the trial of a model again; see `ModelHandle.replay`."""
    _register(network)
    path = session.store.runs.of_version(model.name, model.version)
    past = Interrupted(Journal(path.parent.name, path, -1), read(path))
    past.demand_functions(session.python_modules)
    context = session.context(past.info(()).parameters)
    done = session.running(context.cancelled)
    try:
        return replay(past, model, context, session.python_modules)
    finally:
        done()
