"""The threads that drive a search's groups, each group in the memory it is admitted to."""

from __future__ import annotations

import logging
import queue
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING

from gradbase.ir.learning import FusedFit, Search
from gradbase.selection.admission import Admission, admit_module, admit_modules, admit_stack
from gradbase.selection.deals import Deals
from gradbase.selection.executors.base import Executor
from gradbase.selection.group import Group
from gradbase.selection.watch import Watch

if TYPE_CHECKING:
    from gradbase.runtime.context import RunContext
    from gradbase.runtime.train.data import TrainingData

log = logging.getLogger("gradbase.selection")
_POLL_S = 0.1
"""Seconds between two looks at whether somebody cancelled."""


class Workers:
    """Drives groups through an executor; `deals` gives each group its data."""

    def __init__(
        self, search: Search, context: RunContext, watch: Watch, deals: Deals, executor: Executor
    ) -> None:
        self.search, self.context, self.watch, self.deals = search, context, watch, deals
        self.executor = executor

    def train(self, groups: Sequence[Group], more: Callable[[], Sequence[Group]] = tuple) -> None:
        """Let the executor's drivers take groups from a queue until it is empty.

        `more` is asked again and again for what has become due meanwhile.
        """
        groups = list(groups)
        while groups:
            later: list[Group] = []
            self._train(groups, lambda: later.extend(more()))  # noqa: B023 (ends before)
            groups = later

    def _train(self, groups: Sequence[Group], look: Callable[[], None]) -> None:
        waiting: queue.SimpleQueue[Group] = queue.SimpleQueue()
        for group in groups:
            waiting.put(group)
        workers = max(1, min(self.executor.drivers, len(groups)))
        with ThreadPoolExecutor(workers, thread_name_prefix="gradbase-train") as pool:
            try:  # from the first worker on: leaving the pool waits for all of them
                futures = [pool.submit(self._work, number, waiting) for number in range(workers)]
                self._wait(futures, look)
            except BaseException:
                self.watch.abandon()
                raise
        for group in groups:
            self.watch.check()
            group.finish()

    def conclude(self, groups: Sequence[Group]) -> None:
        """Give trials that will not go on their status and model."""
        for group in groups:
            self.watch.check()
            data = self.deals.take(group.data)
            try:
                with group.failing(self.watch):
                    group.conclude(group.build(data), self.watch)
                group.finish()
            finally:
                self.deals.give_back(group.data)

    def _wait(self, futures: Sequence[Future[None]], look: Callable[[], None]) -> None:
        """Until all are done; short waits let an interrupt through."""
        left = set(futures)
        while left:
            look()
            done, left = wait(left, timeout=_POLL_S, return_when=FIRST_EXCEPTION)
            for future in done:
                future.result()

    def _work(self, number: int, waiting: queue.SimpleQueue[Group]) -> None:
        while True:
            try:
                group = waiting.get_nowait()
            except queue.Empty:
                return
            data = self.deals.take(group.data)
            try:
                with group.failing(self.watch):
                    self._train_group(group, data, number)
            finally:
                self.deals.give_back(group.data)

    def _train_group(self, group: Group, data: TrainingData, number: int) -> None:
        """Train a group in the memory there is: as it is, in halves, or with batches cut."""
        limit = self._limit()
        if group.is_module:
            found = self._admitted(group, data, limit)
        else:
            found = admit_stack(group.item, data, limit)
        if found.split:
            for half in group.split():
                self._train_group(half, data, number)
            group.eval_rows = len(data.parts.eval)
            return
        with self.executor.training(group, data, found, number) as trainer:
            group.train(trainer, self.watch, number)

    def _admitted(self, group: Group, data: TrainingData, limit: int) -> Admission:
        """Of a user's module, which must be there before it can be looked at."""
        bitwise = self.context.settings.exactness == "bitwise"
        memory = group.step_memory(data, limit)
        if isinstance(group.item, FusedFit):
            return admit_modules(group.item, memory, limit)
        found = admit_module(group.outcomes[0].fit, memory, limit, bitwise=bitwise)
        if found.parts > 1:
            self._say(group, f"each batch is cut into {found.parts} parts", limit)
        elif found.swap:
            self._say(group, "what a step does not need at the moment waits in a file", limit)
        return found

    def _say(self, group: Group, how: str, limit: int) -> None:
        trial = group.outcomes[0].trial
        log.warning("trial %d of `%s`: %s, to fit %d bytes", trial, self.search.name, how, limit)

    def _limit(self) -> int:
        """Bytes that one group may take: half of what the engine leaves (the rest is for data).

        Not what is free now: whether a batch is cut must not depend on what else runs.
        """
        broker = self.context.broker
        return (broker.memory_bytes - broker.held(self.context.engine.name)) // 2
