"""Running a search: one reading of the data, every group trained, everything committed at once."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from gradbase import __version__
from gradbase.engines import quote_identifier
from gradbase.errors import CancelledError, DataError, StoreError, UnsupportedError
from gradbase.frontend.torch_export import Exporter
from gradbase.ir.learning import Fit, Search
from gradbase.selection import make_procedure
from gradbase.selection.configuring import configuration_of
from gradbase.selection.control import Control
from gradbase.selection.deals import read
from gradbase.selection.executors.choosing import executor_of, one_state
from gradbase.selection.executors.remote_executor import Surroundings
from gradbase.selection.folds import joined, refit_of, take_over
from gradbase.selection.group import Group, Shared
from gradbase.selection.live_table import LiveTable
from gradbase.selection.networks import Networks, functions_of
from gradbase.selection.outcome import Outcome, RunResult, all_failed, best_of, trial_record
from gradbase.selection.procedure import Terms
from gradbase.selection.progress import Listener, listener_for
from gradbase.selection.resuming import Interrupted, header_of
from gradbase.selection.rounds import Planned, Replan, Rounds
from gradbase.selection.states import States
from gradbase.selection.unit_rows import UnitRows
from gradbase.selection.waiting import persistently
from gradbase.selection.watch import Watch
from gradbase.selection.workers import Workers
from gradbase.store.records import FAILED, EpochRecord, ModelRecord, TrialRecord

if TYPE_CHECKING:
    from gradbase.runtime.context import RunContext
    from gradbase.runtime.train.data import TrainingData
    from gradbase.store import Store

log = logging.getLogger("gradbase.selection")


@dataclass(frozen=True)
class RunInfo:
    """What the record of a search says about where it came from.

    Parameters
    ----------
    query, sql : str
        The training query, and the whole statement ('' from Python).
    options : mapping
        All options with their values (JSON).
    model_type : str
    seed : int
    tuned : sequence of str
        Names of the hyper-parameters searched over.
    earlier : tuple of EpochRecord
        History of the model that is continued.
    terms : Terms
        What the search procedure is made from.
    python_modules : sequence of str
        Modules whose functions may be called.
    """

    query: str
    sql: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    model_type: str = ""
    seed: int = 0
    tuned: Sequence[str] = ()
    earlier: tuple[EpochRecord, ...] = ()
    or_replace: bool = False
    if_not_exists: bool = False
    python_modules: Sequence[str] = ()
    terms: Terms = field(default_factory=lambda: Terms({}))
    parameters: Mapping[str, Any] = field(default_factory=dict)


def run(
    search: Search,
    context: RunContext,
    store: Store,
    info: RunInfo,
    listener: Listener | None = None,
    *,
    replan: Replan = lambda search: search,
    interrupted: Interrupted | None = None,
) -> RunResult:
    """Train every trial of `search` and commit them as a new version of its model.

    Results depend on each trial's own program, the relation's content and the seed: not on
    `search.workers`, nor on the other trials.

    Parameters
    ----------
    search : Search
        Optimised: groups, workers and threads are chosen.
    replan : callable
        Optimises later rounds.
    interrupted : Interrupted, optional
        A run of this search that stopped, to go on with.

    Raises
    ------
    BindError
        The model exists already (`info` says neither replace nor if-not-exists).
    TrainingError
        Every trial failed; lists the reasons.
    DataError
        The rows have changed since the run that is to go on.
    UnsupportedError
        The best trial's network cannot be stored; names the operator.
    CancelledError
        Cancelled or interrupted: nothing is visible, the journal says so.
    ConnectionLostError
        The server was gone for longer than `Settings.reconnect_timeout_s`.
    """

    def begin(before: Interrupted | None) -> _Run:
        store.check_creatable(
            search.name, or_replace=info.or_replace, if_not_exists=info.if_not_exists
        )
        return _Run(
            search, context, store, info, listener=listener, replan=replan, interrupted=before
        )

    return persistently(search.name, context, store, begin, interrupted)


class _Run:
    def __init__(
        self,
        search: Search,
        context: RunContext,
        store: Store,
        info: RunInfo,
        *,
        listener: Listener | None,
        replan: Replan,
        interrupted: Interrupted | None,
    ) -> None:
        self.search, self.context, self.store, self.info = search, context, store, info
        self.started = time.perf_counter()
        self.tried: list[Outcome] = []
        self.warnings: tuple[str, ...] = ()
        self.interrupted = interrupted
        if interrupted:
            self.journal = interrupted.journal
        else:
            self.journal = store.start_run(search.name, header_of(search, info))
        self.states = States(self.journal.path.parent)
        procedure = make_procedure(search.procedure, info.terms)
        self.rounds = Rounds(
            search,
            procedure,
            self.states,
            replan,
            journal=self.journal.append,
            tuned=info.tuned,
        )
        if interrupted:
            interrupted.resumed()
            self.rounds.remember(interrupted.rounds, interrupted.outcomes(self.states))
        self.control = Control(self.journal, self.rounds, context.cancelled)
        listener = listener or listener_for(search, context.settings, LiveTable)
        self.watch = Watch(self.journal, listener, search.metric, context.cancelled)
        self.unit_rows = UnitRows(store.runs, self.journal, self.watch)

    def run(self) -> RunResult:
        """Train and commit; whatever happens, say in journal and progress how it ended."""
        try:
            self.record = self._train()
            self.watch.check()
            version = self.store.commit(
                self.record, or_replace=self.info.or_replace,
                if_not_exists=self.info.if_not_exists, run_id=self.journal.run_id,
            )  # fmt: skip
        except (KeyboardInterrupt, CancelledError) as error:
            message = self._lost("was interrupted")
            self._end("INTERRUPTED", message)
            hint = f"RESUME SEARCH {quote_identifier(self.search.name)} goes on from there"
            raise CancelledError(message, hint=hint) from error
        except BaseException as error:
            self._end("FAILED", self._lost("failed"), error=str(error))
            raise
        return self.committed(version)

    def committed(self, version: int) -> RunResult:
        """The model is visible as this version: say so, and forget the states."""
        seconds = time.perf_counter() - self.started
        result = RunResult(version, self.record, seconds, self.warnings)
        self._end("DONE", str(result), version=version)
        self.store.runs.drop_states(self.search.name)
        return result

    def _end(
        self, status: str, message: str, version: int | None = None, error: str | None = None
    ) -> None:
        log.info("%s", message)
        self.watch.finished(message)
        reason = {"FAILED": error, "INTERRUPTED": message}.get(status)
        try:
            self.store.finish_run(self.journal, status, version, reason)
        except StoreError as problem:
            # The model is there, or another error is on its way: this one changes neither.
            log.warning("run %s could not be marked %s: %s", self.journal.run_id, status, problem)

    def _lost(self, what: str) -> str:
        ended = sum(bool(o.status) for o in self.tried)
        what_ended = "fits" if self.search.fits[0].data.split.folds else "trials"
        return (
            f"training of `{self.search.name}` {what} after "
            f"{time.perf_counter() - self.started:.1f} s: {ended} of {len(self.tried)} "
            f"{what_ended} had ended; no model was made"
        )

    def _train(self) -> ModelRecord:
        with one_state(self.search, self.context) as context:
            at = Surroundings(
                self.search, context, self.watch, self.journal.path.parent,
                self.info.python_modules, self.info.options.get("workers") or 0,
            )  # fmt: skip
            with (
                contextlib.closing(executor_of(at, self.search.workers)) as self.executor,
                contextlib.closing(read(self.search, context, self.watch.data)) as self.deals,
            ):
                return self._trained(context)

    def _trained(self, context: RunContext) -> ModelRecord:
        deals, first = self.deals, self.search.fits[0].data
        self.workers = Workers(self.search, context, self.watch, deals, self.executor)
        deals.expect([first])
        data = deals.take(first)
        self._check_rows(data)
        if not first.split.folds:  # else a fold's would be told
            self._warn(data)
        groups = self._train_rounds()
        if not first.split.folds:
            return self._record(self._best(self.tried), self.tried, data)
        deals.give_back(first)
        return self._refit(groups)

    def _check_rows(self, data: TrainingData) -> None:
        """A run goes on only with the rows that it began with."""
        seconds = time.perf_counter() - self.started
        self.journal.append(
            {"event": "data", "relation_hash": data.relation_hash, "seconds": round(seconds, 6)}
        )
        if self.interrupted is None:
            return
        if self.interrupted.relation_hash not in ("", data.relation_hash):
            raise DataError(
                f"the rows of the training query of `{self.search.name}` have changed since "
                f"run {self.journal.run_id} began",
                hint="start the search again",
            )

    def _train_rounds(self) -> list[Group]:
        """Train round after round, then give a status to those that were stopped."""
        self.shared = Shared(
            networks=Networks(self.info.python_modules),
            exporter=Exporter(),
            states=self.states,
            threads=self.executor.threads,
        )
        groups: list[Group] = []
        for planned in self.rounds:
            self.tried = sorted(self.rounds.outcomes.values(), key=lambda o: o.trial)
            if planned:
                self.watch.started([o for p in planned for o in p.outcomes])
            groups = self._groups(planned)
            self.deals.expect(g.data for g in groups)
            self.executor.grow(self.rounds.workers)
            started = time.perf_counter()
            self.workers.train(groups, self._messages)
            self.watch.trained(self.executor.workers, time.perf_counter() - started)
            self.tried = sorted(self.rounds.outcomes.values(), key=lambda o: o.trial)
        left = self._groups(self.rounds.left())
        self.deals.expect(g.data for g in left)
        self.workers.conclude(left)
        return groups

    def _warn(self, data: TrainingData) -> None:
        for warning in data.warnings:
            log.warning("model %s: %s", self.search.name, warning)
        self.warnings = data.warnings

    def _messages(self) -> list[Group]:
        """What users asked for meanwhile, as groups to train; units go into the catalog."""
        self.unit_rows.write()
        groups = self._groups(self.control.poll())
        self.deals.expect(g.data for g in groups)
        return groups

    def _groups(self, planned: Sequence[Planned]) -> list[Group]:
        groups = [Group(p.item, self.shared, p.outcomes) for p in planned]
        # Fold by fold, so that few of them are in memory at a time.
        return sorted(groups, key=lambda g: g.data.split.fold)

    def _refit(self, groups: Sequence[Group]) -> ModelRecord:
        """Join what trials did on each fold, and train the best once more on all rows."""
        outcomes = joined(self.tried, {g.data.split.fold: g.eval_rows for g in groups})
        best = self._best(outcomes)
        group = Group(refit_of(best), self.shared)
        self.deals.expect([group.data] * 2)  # by the group, and for the record
        self.workers.train([group])
        take_over(best, group.outcomes[0], self.search.name)
        data = self.deals.take(group.data)
        self._warn(data)
        return self._record(best, outcomes, data)

    def _best(self, outcomes: Sequence[Outcome]) -> Outcome:
        if all(o.status == FAILED for o in outcomes):
            raise all_failed(self.search.name, outcomes)
        return best_of(outcomes, self.search.metric)

    def _record(
        self, best: Outcome, outcomes: Sequence[Outcome], data: TrainingData
    ) -> ModelRecord:
        if best.outputs is None:
            raise UnsupportedError(
                f"trial {best.trial} of `{self.search.name}` is the best, but its network cannot "
                f"be stored: {best.error}",
                hint="change that part of the network and train again",
            )
        first = self.search.fits[0]
        return ModelRecord(
            name=self.search.name,
            model_type=self.info.model_type,
            task=data.task,
            label=first.data.label,
            query=self.info.query,
            options=self.info.options,
            seed=self.info.seed,
            relation_hash=data.relation_hash,
            code_version=_code_version(first, self.info.python_modules),
            engine=self.context.engine.name,
            trials=tuple(self._trial(o, data) for o in outcomes),
            metric=self.search.metric,
            best_trial=best.trial,
            sql=self.info.sql,
            features=data.summaries,
            train_rows=len(data.parts.train),
            eval_rows=len(data.parts.eval),
            test_rows=len(data.parts.test),
        )

    def _trial(self, outcome: Outcome, data: TrainingData) -> TrialRecord:
        configuration = configuration_of(outcome.fit, self.info.tuned)
        found = trial_record(outcome, self.search, data, configuration)
        earlier = self.info.earlier
        if not earlier:
            return found
        run = earlier[-1].run + 1
        own = (replace(e, run=run) for e in found.epochs)
        return replace(found, epochs=(*earlier, *own))


def _code_version(fit: Fit, python_modules: Sequence[str]) -> str:
    """What trained a model: gradbase, and users' functions with the digests of their sources."""
    digests = Networks(python_modules).digests(functions_of([fit]))
    return ", ".join([f"gradbase {__version__}", *(f"{r} {d[:16]}" for r, d in digests.items())])
