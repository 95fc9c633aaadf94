"""Units in threads of this process: torch lets several of them compute at once."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Generator
from typing import TYPE_CHECKING

from gradbase.errors import ResourceError
from gradbase.runtime.train.spill import spill_folder
from gradbase.runtime.train.trainer import Trainer

if TYPE_CHECKING:
    from gradbase.runtime.context import RunContext
    from gradbase.runtime.train.data import TrainingData
    from gradbase.selection.admission import Admission
    from gradbase.selection.group import Group
    from gradbase.selection.watch import Watch

log = logging.getLogger("gradbase.selection")


class InProcess:
    """See `base.Executor`.

    Parameters
    ----------
    name : str
        Of the search.
    drivers, threads : int
        Groups at once, and torch's threads for each.
    """

    def __init__(
        self, name: str, context: RunContext, watch: Watch, *, drivers: int, threads: int
    ) -> None:
        self.name, self.context, self.watch = name, context, watch
        self.threads, self.drivers = threads, 1
        self.grow(drivers)

    def grow(self, workers: int) -> None:
        """See `base.Executor`."""
        self.workers = self.drivers = max(self.drivers, min(workers, self.context.broker.threads))

    @contextlib.contextmanager
    def training(
        self, group: Group, data: TrainingData, admission: Admission, number: int
    ) -> Generator[Trainer]:
        """One lease for threads and memory: who held one might wait for the other."""
        trainer = group.build(data)
        if admission.parts > 1:
            trainer.cut_batches(admission.parts)
        elif admission.swap:
            trainer.keep_within(admission.limit, spill_folder(self.context))
        broker = self.context.broker
        while True:
            self.watch.check()
            try:
                lease = broker.acquire(
                    f"search {self.name}", f"worker {number}",
                    threads=self.threads, size_bytes=admission.size_bytes, timeout_s=1.0,
                )  # fmt: skip
                break
            except ResourceError:
                if self.threads > broker.threads:
                    raise
        try:
            yield trainer
        finally:
            broker.release(lease)

    def close(self) -> None:
        """Threads end with their groups."""
