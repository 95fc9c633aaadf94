"""Messages to a search that is running: stop trials, add some, clone one."""

from __future__ import annotations

import logging
import threading
from typing import Any

from gradbase.errors import BindError
from gradbase.frontend.options import checked
from gradbase.ir.learning import Fit
from gradbase.selection.configuring import configured
from gradbase.selection.outcome import Outcome
from gradbase.selection.rounds import Planned, Rounds
from gradbase.store.journal import Journal
from gradbase.store.records import STOPPED

log = logging.getLogger("gradbase.selection")


class Control:
    """Takes messages from the mailbox of a run; used by the thread that waits for its workers.

    What a message asks for and cannot be done is said in the log and in the journal.

    Parameters
    ----------
    journal : Journal
    rounds : Rounds
    cancelled : threading.Event
        Set where the whole search is to stop.
    """

    def __init__(self, journal: Journal, rounds: Rounds, cancelled: threading.Event) -> None:
        self._journal, self._rounds, self._cancelled = journal, rounds, cancelled
        self._waiting: list[dict[str, Any]] = []

    def poll(self) -> list[Planned]:
        """Do what was asked for; the trials that are to train besides the others."""
        self._waiting += self._journal.take()
        waiting, self._waiting = self._waiting, []
        found: list[Planned] = []
        for message in waiting:
            try:
                found += self._done(message)
            except (LookupError, TypeError, ValueError, BindError) as error:
                self._refuse(message, f"{type(error).__name__}: {error}")
        return found

    def _done(self, message: dict[str, Any]) -> list[Planned]:
        match message["command"]:
            case "stop":
                self._stop(message["trials"])
            case "resume":
                return [found for trial in message["trials"] for found in self._resumed(trial)]
            case "add":
                return self._added(self._rounds.search.fits[0], message["configuration"], None)
            case "clone":
                return self._cloned(message)
            case _:
                self._refuse(message, "there is no such command")
        return []

    def _stop(self, trials: list[int]) -> None:
        if not trials:
            self._cancelled.set()
        for trial in trials:
            self._outcome(trial).stop = True

    def _resumed(self, trial: int) -> list[Planned]:
        """Let a trial go on that was stopped, or take the wish to stop it back."""
        outcome = self._outcome(trial)
        if outcome.status == STOPPED and len(outcome.epochs) < outcome.fit.epochs:
            return [self._rounds.again(outcome)]
        if outcome.status or not outcome.stop:
            raise BindError(f"trial {trial} was not stopped")
        outcome.stop = False
        return []

    def _cloned(self, message: dict[str, Any]) -> list[Planned]:
        parent = self._outcome(message["trial"])
        if not message["weights"]:
            return self._added(parent.fit, message["changes"], None)
        at = self._rounds.states.position(parent.trial)
        if at is not None and at.epoch and not at.done:
            return self._added(parent.fit, message["changes"], (parent.trial, at.epoch))
        if parent.status:
            self._refuse(message, f"trial {parent.trial} has ended and its state was not kept")
            return []
        parent.keep = True  # at the end of its epoch; until then the message waits
        self._waiting.append(message)
        return []

    def _added(
        self, template: Fit, changes: dict[str, Any], parent: tuple[int, int] | None
    ) -> list[Planned]:
        number = self._rounds.free
        if number is None:
            name = self._rounds.search.procedure
            raise BindError(f"the procedure `{name}` itself says which trials there are")
        if template.data.split.folds:
            raise BindError("a trial of a cross-validation is several trainings: none can be added")
        changes = {field: checked(field, value) for field, value in changes.items()}
        fit = configured(template, number, changes)
        return [self._rounds.add(fit, parent)]

    def _outcome(self, trial: int) -> Outcome:
        return self._rounds.outcomes[trial, 0]

    def _refuse(self, message: dict[str, Any], reason: str) -> None:
        log.warning("message %s: %s", message, reason)
        self._journal.append({"event": "refused", "message": message, "reason": reason})
