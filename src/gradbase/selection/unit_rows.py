"""Rows of ``gradbase.units`` while a search runs: the journal's units, copied now and then."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from gradbase.errors import GradbaseError
from gradbase.selection.states import Pace

if TYPE_CHECKING:
    from gradbase.selection.watch import Watch
    from gradbase.store.journal import Journal
    from gradbase.store.runs import Runs

log = logging.getLogger("gradbase.selection")


class UnitRows:
    """Copies committed units into the catalog, as often as costs `states.SHARE` of the time.

    Used by the thread that waits for the workers. The journal is what counts: a database that
    cannot be written to now is said once, and the rows wait for the next time, or the search's end.
    """

    def __init__(self, runs: Runs, journal: Journal, watch: Watch) -> None:
        self._runs, self._journal, self._watch = runs, journal, watch
        self._pace, self._failed = Pace(), False

    def write(self) -> None:
        """Copy what is new, if it is time."""
        if not self._pace.is_due(0):
            return
        started, events = time.perf_counter(), self._watch.take_units()
        if not events:
            return
        try:
            self._runs.add_units(self._journal.run_id, events)
        except GradbaseError as error:
            self._watch.give_back_units(events)
            if not self._failed:
                log.warning("units are in the journal, but not in gradbase.units: %s", error)
            self._failed = True
        self._pace.saved(time.perf_counter() - started)
