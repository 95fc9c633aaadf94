"""Running a statement so that Ctrl-C stops it and nothing else."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

from gradbase.session import Session

T = TypeVar("T")

LOOK_S = 0.1
"""Seconds between two looks for signals: where the system hands one to another thread, the one that
waits is not woken by it."""

AGAIN_S = 2.0
"""Seconds until a statement that has not stopped is told again: it may have begun just then."""


def interruptible(session: Session, work: Callable[[], T]) -> T:
    """The outcome of `work`, done in a thread of its own.

    A signal reaches Python only between two of its instructions; the thread that waits here soon
    comes to one, whatever the engine or a training is doing. After Ctrl-C what the session
    runs is cancelled, and `work` ends with a CancelledError.
    """
    outcome: Future[T] = Future()
    thread = threading.Thread(target=_run, args=(outcome, work), name="statement", daemon=True)
    thread.start()
    again = math.inf
    while True:
        try:
            return outcome.result(LOOK_S)
        except KeyboardInterrupt:
            session.cancel()
            again = time.monotonic() + AGAIN_S
        except TimeoutError:
            if outcome.done():  # just now, or the statement's own error
                return outcome.result()
            if time.monotonic() >= again:
                session.cancel()
                again = time.monotonic() + AGAIN_S


def _run(outcome: Future[T], work: Callable[[], T]) -> None:
    try:
        outcome.set_result(work())
    except BaseException as error:  # noqa: BLE001 (raised again by whoever waits)
        outcome.set_exception(error)
