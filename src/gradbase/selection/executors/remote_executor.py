"""The executor of workers outside this process: their rows, what they are told, their lease."""

from __future__ import annotations

import contextlib
import logging
import shutil
import threading
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch.distributed import TCPStore

from gradbase.errors import CancelledError, ResourceError
from gradbase.ir.learning import Dataset, PythonNetwork, Search
from gradbase.optimizer.cost_fit import hops
from gradbase.resources.units import holders
from gradbase.runtime.train.sharded import write_shards
from gradbase.runtime.train.spill import spill_folder
from gradbase.runtime.train.targeted import query_of, refused, side_rows
from gradbase.selection.executors.base import Link
from gradbase.selection.executors.messages import VERSION, heard, pack, unpack
from gradbase.selection.executors.pool import Pool
from gradbase.selection.executors.remote import Meeting, RemoteTrainer
from gradbase.selection.executors.supplying import EXPORT, TARGETED, Supply
from gradbase.selection.executors.versions import versions
from gradbase.selection.networks import Networks
from gradbase.selection.networks import functions_of as called_by

if TYPE_CHECKING:
    from gradbase.resources.broker import Lease
    from gradbase.runtime.context import RunContext
    from gradbase.runtime.train.data import TrainingData
    from gradbase.selection.admission import Admission
    from gradbase.selection.group import Group
    from gradbase.selection.watch import Watch

log = logging.getLogger("gradbase.selection")
SHARDS = "shards"
"""Folder of a run's rows."""
StartLink = Callable[[bytes, Callable[[], None]], tuple[Link, bytes]]
"""Makes a worker, and gives its answer to the first message."""


@dataclass(frozen=True)
class Surroundings:
    """Where a remote executor finds itself.

    Parameters
    ----------
    search : Search
    context : RunContext
    watch : Watch
    folder : Path
        Of the run.
    python_modules : sequence of str
    asked : int
        Workers that the user wants; 0: as many as pay.
    """

    search: Search
    context: RunContext
    watch: Watch
    folder: Path
    python_modules: Sequence[str] = ()
    asked: int = 0

    def most_workers(self, workers: int, threads: int) -> int:
        """How many a search that was planned for `workers` may grow to."""
        return workers if self.asked else max(workers, self.context.broker.threads // threads)


class RemoteExecutor:
    """See `base.Executor`; workers start at once, while the search reads its rows.

    Parameters
    ----------
    at : Surroundings
    start : callable
        Makes workers.
    workers, threads : int
        How many, and torch's threads in each.
    leave : callable
        Called when all workers are gone.
    host : str
        Where workers reach this process.
    """

    def __init__(
        self,
        at: Surroundings,
        start: StartLink,
        *,
        workers: int,
        threads: int,
        leave: Callable[[], None] = lambda: None,
        host: str = "127.0.0.1",
    ) -> None:
        self._leave = leave
        self.at, self._start, self.workers, self.threads = at, start, workers, threads
        self._most = at.most_workers(workers, threads)
        self.hops = hops(at.search) and workers > 1
        self.drivers = max(workers, len(at.search.trials)) if self.hops else workers
        self.pool = Pool(self._link, at.watch.check)
        self._folder = at.folder / SHARDS
        self._written: dict[Dataset, Supply] = {}
        self._access = at.search.access
        self._tables = contextlib.ExitStack()
        self._lock = threading.Lock()
        self._lease: Lease | None = None
        self._functions = functions_of(at.search, at.python_modules)
        shutil.rmtree(self._folder, ignore_errors=True)  # of a process that died
        self._closed, self._host = False, host
        self._store: TCPStore | None = None
        self._starting = _Starting(lambda: self.pool.join(self.workers))

    def grow(self, workers: int) -> None:
        """See `base.Executor`; as many as were asked for, or as this machine has threads for."""
        workers = min(workers, self._most)
        more = workers - self.workers
        if more > 0:
            self.workers, self.drivers = workers, max(self.drivers, workers)
            self._starting.join()
            self.pool.join(more)

    @contextlib.contextmanager
    def training(
        self, group: Group, data: TrainingData, admission: Admission, number: int
    ) -> Generator[RemoteTrainer]:
        """One driver's share of memory, while its units run."""
        supply = self._shards(group.data, data)
        how = {
            "data": str(supply.folder),
            "access": self._access,
            "threads": self.threads,
            "parts": admission.parts,
            "limit": admission.limit if admission.swap else 0,
            "folder": str(spill_folder(self.at.context)),
        }
        with self._leased(number, admission.size_bytes):
            yield RemoteTrainer(
                group,
                data,
                self.pool,
                how,
                supply=supply,
                meeting=self._meeting(group),
                build=lambda: group.build(data),
            )

    def close(self) -> None:
        self._closed = True
        self.pool.close()
        self._starting.wait()
        self._tables.close()
        self._leave()
        if self._lease is not None:
            self.at.context.broker.release(self._lease)
            self._lease = None
        shutil.rmtree(self._folder, ignore_errors=True)

    def _meeting(self, group: Group) -> Meeting | None:
        """For a group whose batches several workers can share: where these find each other."""
        replicas = group.outcomes[0].fit.replicas
        share = self.workers // max(len(self.at.search.trials), 1)
        size = min(replicas, 1 << max(share, 1).bit_length() - 1)
        if size < 2:
            return None
        with self._lock:
            if self._store is None:
                self._store = TCPStore(self._host, 0, is_master=True, wait_for_workers=False)
            return Meeting(self._host, self._store.port, size)

    # -- beginning ---------------------------------------------------------------------------------

    def _shards(self, dataset: Dataset, data: TrainingData) -> Supply:
        """The rows of a dataset for workers, which are there when this returns."""
        with self._lock:
            if self._lease is None:  # not before: reading may need threads
                self._lease = self._threads()
            if self.hops:
                self.pool.hold(holders(len(data.shards), self.workers))
            found = self._written.get(dataset)
            if found is None:
                found = self._written[dataset] = self._write(dataset, data)
            self._starting.join()
            return found

    def _write(self, dataset: Dataset, data: TrainingData) -> Supply:
        folder, started = self._folder / str(len(self._written)), time.perf_counter()
        if self._access == TARGETED and (why := refused(dataset, data, self.at.context)):
            log.warning("shards of `%s` go to workers as files: %s", self.at.search.name, why)
            self._access = EXPORT
        try:
            size = write_shards(data, folder, rows=self._access != TARGETED)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        found = Supply(folder)
        if self._access == TARGETED:
            found = self._asked(dataset, data, folder)
        self.at.watch.written(size, time.perf_counter() - started, self._access)
        return found

    def _asked(self, dataset: Dataset, data: TrainingData, folder: Path) -> Supply:
        """Mark the rows in the database, and say how workers ask for them."""
        engine: Any = self.at.context.engine
        assert data.keyed is not None
        side = self._tables.enter_context(engine.side_table(side_rows(data, data.keyed)))
        query, constants = query_of(data, dataset, engine, side, data.keyed)
        return Supply(folder, query, constants)

    def _check(self) -> None:
        """As `Watch.check`; also where the search ends before its workers have started."""
        if self._closed:
            raise CancelledError("the search is over")
        self.at.watch.check()

    def _link(self, _number: int) -> Link:
        """A worker that was found to be of the same code."""
        hello = {
            "do": "hello", "version": VERSION, "versions": versions(), "path": _importable_from(),
            "modules": list(self.at.python_modules), "functions": self._functions,
            "threads": self.threads, "cache_bytes": self._cache_bytes(),
        }  # fmt: skip
        link, answer = self._start(pack(hello), self._check)
        message, _ = unpack(answer)
        if "error" in message:
            link.close()
            raise heard(message["error"])
        return link

    def _cache_bytes(self) -> int:
        """Of decoded rows in each worker: together a quarter of what the engine leaves."""
        broker = self.at.context.broker
        free = broker.memory_bytes - broker.held(self.at.context.engine.name)
        return max(0, free // 4 // self.workers)

    def _threads(self) -> Lease:
        broker = self.at.context.broker
        most = min(self.workers * self.threads, broker.threads)
        return self._acquired(most, 0, f"{self.workers} workers")

    @contextlib.contextmanager
    def _leased(self, number: int, size_bytes: int) -> Generator[None]:
        if number >= self.workers:  # it waits for workers whose step is counted already
            size_bytes = 0
        lease = self._acquired(0, size_bytes, f"driver {number}")
        try:
            yield
        finally:
            self.at.context.broker.release(lease)

    def _acquired(self, threads: int, size_bytes: int, purpose: str) -> Lease:
        broker, owner = self.at.context.broker, f"search {self.at.search.name}"
        while True:
            self._check()
            try:
                return broker.acquire(
                    owner, purpose, threads=threads, size_bytes=size_bytes, timeout_s=1.0
                )
            except ResourceError:
                if threads > broker.threads or size_bytes > broker.memory_bytes:
                    raise


class _Starting(threading.Thread):
    """Starts workers beside; what goes wrong is raised when it is joined."""

    def __init__(self, work: Callable[[], None]) -> None:
        super().__init__(name="gradbase-start-workers")
        self._work = work
        self._error: BaseException | None = None
        self.start()

    def run(self) -> None:
        try:
            self._work()
        except BaseException as error:  # noqa: BLE001 (raised in `join`)
            self._error = error

    def join(self, timeout: float | None = None) -> None:
        super().join(timeout)
        if self._error is not None:
            raise self._error

    def wait(self) -> None:
        """Until it is over, however it ends."""
        super().join()


def functions_of(search: Search, python_modules: Sequence[str]) -> dict[str, str]:
    """Where workers find the Python functions of a search.

    Raises
    ------
    UnsupportedError
        One of them is only known to this process.
    """
    networks, found = Networks(python_modules), dict[str, str]()
    for reference in called_by(search.fits):
        found |= networks.importable(PythonNetwork(reference, "{}"))
    return found


def _importable_from() -> list[Any]:
    import sys

    return [str(Path(p).resolve()) for p in sys.path if p]
