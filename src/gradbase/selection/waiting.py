"""Going on with a training whose server was gone for a while."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from gradbase.engines import quote_identifier
from gradbase.errors import CancelledError, ConnectionLostError, ResourceError
from gradbase.selection.resuming import Interrupted
from gradbase.store.journal import Journal, read

if TYPE_CHECKING:
    from gradbase.runtime.context import RunContext
    from gradbase.selection.outcome import RunResult
    from gradbase.store import Store

log = logging.getLogger("gradbase.selection")

_MOST_LOSSES = 8
"""Of one statement: what loses its server again and again, in its commit say, has another cause."""
_FIRST_S, _LONGEST_S = 0.5, 10.0
"""Between two looks whether the server is back: twice as long after each."""


class Attempt(Protocol):
    """A training that has begun, or goes on."""

    @property
    def journal(self) -> Journal:
        """Where it says what has been done."""
        ...

    def run(self) -> RunResult:
        """Train and commit."""
        ...

    def committed(self, version: int) -> RunResult:
        """What it comes to, where its model is visible and only the server's answer was lost."""
        ...


def persistently(
    name: str,
    context: RunContext,
    store: Store,
    begin: Callable[[Interrupted | None], Attempt],
    interrupted: Interrupted | None,
) -> RunResult:
    """Train; where the connection to the server is lost, wait for it and go on from what is saved.

    Parameters
    ----------
    name : str
        The model that is trained.
    begin : callable
        Starts the training, or goes on with an interrupted one.

    Raises
    ------
    ConnectionLostError
        The server was not back after `Settings.reconnect_timeout_s`, or was lost too often.
    CancelledError
        Cancelled while it waited.
    """
    attempt = _begun(begin, store, interrupted)
    losses = 0
    while True:
        try:
            return attempt.run()
        except ConnectionLostError as error:
            losses += 1
            if losses == _MOST_LOSSES:
                raise
            _await_engine(name, context, error)
        run_id = attempt.journal.run_id
        version = store.runs.committed(run_id)
        if version is not None:
            return attempt.committed(version)
        journal = store.runs.resume(name, run_id)
        attempt = _begun(begin, store, Interrupted(journal, read(journal.path)))


def _begun(
    begin: Callable[[Interrupted | None], Attempt], store: Store, interrupted: Interrupted | None
) -> Attempt:
    try:
        return begin(interrupted)
    except BaseException as error:
        if interrupted:  # it can be tried again
            store.finish_run(interrupted.journal, "FAILED", error=str(error))
        raise


def _await_engine(name: str, context: RunContext, error: ConnectionLostError) -> None:
    """Return as soon as the engine answers again; raise `error` where that takes too long."""
    limit_s, started, pause_s = context.settings.reconnect_timeout_s, time.monotonic(), _FIRST_S
    if limit_s:
        log.warning(
            "training of `%s` waits up to %d s for the server: %s", name, limit_s, error.message
        )
    while (waited_s := time.monotonic() - started) < limit_s:
        log.info("waiting for the server since %.0f s", waited_s)
        if _stopped(context, min(pause_s, limit_s - waited_s)):
            hint = f"RESUME SEARCH {quote_identifier(name)} goes on from there"
            raise CancelledError("cancelled while waiting for the server", hint=hint) from error
        if _answers(context):
            waited_s = time.monotonic() - started
            log.warning("the server is back after %.0f s: training of `%s` goes on", waited_s, name)
            return
        pause_s = min(2 * pause_s, _LONGEST_S)
    raise error


def _stopped(context: RunContext, pause_s: float) -> bool:
    try:
        return context.cancelled.wait(pause_s)
    except KeyboardInterrupt:
        return True


def _answers(context: RunContext) -> bool:
    try:
        context.engine.fetch("SELECT 1 AS one")
    except (ConnectionLostError, ResourceError):  # it may be starting, or have no room yet
        return False
    return True
