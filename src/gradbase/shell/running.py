"""Running a statement so that Ctrl-C stops it and nothing else."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

from gradbase.session import Session

T = TypeVar("T")

AGAIN_S = 2.0
"""Seconds until a statement that has not stopped is told again: it may have begun just then."""


def interruptible(session: Session, work: Callable[[], T]) -> T:
    """The outcome of `work`, done in a thread of its own.

    A signal reaches Python only between two of its instructions; the thread that waits here is
    always there for it, whatever the engine or a training is doing. After Ctrl-C what the session
    runs is cancelled, and `work` ends with a CancelledError.
    """
    outcome: Future[T] = Future()
    thread = threading.Thread(target=_run, args=(outcome, work), name="statement", daemon=True)
    thread.start()
    patience: float | None = None
    while True:
        try:
            return outcome.result(patience)
        except KeyboardInterrupt:
            session.cancel()
            patience = AGAIN_S
        except TimeoutError:
            if outcome.done():
                raise  # it is the statement's own
            session.cancel()


def _run(outcome: Future[T], work: Callable[[], T]) -> None:
    try:
        outcome.set_result(work())
    except BaseException as error:  # noqa: BLE001 (raised again by whoever waits)
        outcome.set_exception(error)
