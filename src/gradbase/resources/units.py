"""Which worker trains which unit next: the rule, and what it comes to without training anything.

A trial visits shards in an order that is fixed beforehand, so at any time at most one of its units
can run. What is left to decide is which of the trials that wait a free worker takes.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass, field

Worker = int


@dataclass(frozen=True)
class Ready:
    """A trial whose next unit could run.

    Parameters
    ----------
    trial : hashable
    shard : int or None
        None for what needs no shard (a validation).
    remaining_s : float, seconds
        All that the trial still has before it.
    last : int or None
        The worker that has its state.
    pinned : bool
        No other worker will do: it is one of a team that know each other.
    """

    trial: Hashable
    shard: int | None
    remaining_s: float
    last: Worker | None = None
    pinned: bool = False


def choose(
    worker: Worker, ready: Sequence[Ready], holds: Callable[[Worker, int], bool], *, hop: bool
) -> Ready | None:
    """The trial that a free worker takes; None where it holds the shard of none.

    Longest remaining first. Where every worker holds everything (not `hop`) a trial stays where it
    is, so that its state need not move, and trials of other workers are left to them.
    """
    ready = [r for r in ready if not r.pinned or r.last in (None, worker)]
    here = [r for r in ready if r.shard is None or holds(worker, r.shard)]
    if not here:
        return None
    if hop:
        return max(here, key=lambda r: (r.remaining_s, r.last == worker))
    own = [r for r in here if r.last == worker]
    return max(own or [r for r in here if r.last is None] or here, key=lambda r: r.remaining_s)


def holders(shards: int, workers: int, copies: int = 1) -> dict[int, frozenset[Worker]]:
    """`copies` workers for each shard, in turn.

    Examples
    --------
    >>> holders(4, 2)
    {0: frozenset({0}), 1: frozenset({1}), 2: frozenset({0}), 3: frozenset({1})}
    """
    copies = min(copies, workers)
    return {s: frozenset((s + c) % workers for c in range(copies)) for s in range(shards)}


@dataclass(frozen=True)
class Work:
    """What is to be trained, for a simulation.

    Parameters
    ----------
    seconds : mapping
        Seconds of a unit of each trial on a worker of speed 1.
    shards, epochs : int
    staggered : bool
        Whether trial k begins an epoch at shard k instead of all at the same one.
    state_bytes : int, bytes
        Of one trial.
    """

    seconds: Mapping[int, float]
    shards: int
    epochs: int = 1
    staggered: bool = False
    state_bytes: int = 0

    def order(self, trial: int, epoch: int) -> list[int]:
        """Shards in the order in which a trial visits them."""
        first = epoch + (trial if self.staggered else 0)
        return [(i + first) % self.shards for i in range(self.shards)]

    def total(self, trial: int) -> float:
        """Seconds of all units of a trial."""
        return self.seconds[trial] * self.shards * self.epochs


@dataclass
class Timeline:
    """What a simulation came to: seconds, bytes of states that moved, and (trial, epoch, shard,
    worker, start, end) of every unit."""

    makespan_s: float = 0.0
    moved_bytes: int = 0
    units: list[tuple[int, int, int, Worker, float, float]] = field(default_factory=list)

    def idle_s(self, workers: int) -> float:
        """Seconds that workers waited, all of them together: the bubble."""
        return self.makespan_s * workers - sum(end - start for *_, start, end in self.units)


def lower_bound(
    work: Work, workers: int, held: Mapping[int, Collection[Worker]] | None = None
) -> float:
    """No schedule is shorter than the longest trial, nor than the most loaded worker.

    Where a shard has one holder its units are that worker's load; otherwise load can be even.
    """
    trials = [work.total(t) for t in work.seconds]
    loads = [sum(trials) / workers]
    if held is not None and all(len(w) == 1 for w in held.values()):
        each = sum(work.seconds.values()) * work.epochs
        loads = [each * sum(w in held[s] for s in held) for w in range(workers)]
    return max(*trials, *loads)


def simulate(
    work: Work,
    workers: int,
    held: Mapping[int, Collection[Worker]] | None = None,
    *,
    joins: Mapping[Worker, float] | None = None,
    leaves: Mapping[Worker, float] | None = None,
) -> Timeline:
    """Let `workers` take units by `choose`, as the pool of a search does.

    Parameters
    ----------
    work : Work
    workers : int
    held : mapping, optional
        The workers that hold each shard; all of them if left out.
    joins, leaves : mapping, optional
        When workers come, and when they go: what they did then is lost and done again elsewhere.
    """
    return _Simulation(work, workers, held, joins or {}, leaves or {}).run()


class _Simulation:
    def __init__(
        self,
        work: Work,
        workers: int,
        held: Mapping[int, Collection[Worker]] | None,
        joins: Mapping[Worker, float],
        leaves: Mapping[Worker, float],
    ) -> None:
        self.work, self.held, self.leaves = work, held, leaves
        self.timeline = Timeline()
        self.done = dict.fromkeys(work.seconds, 0)
        self.last: dict[int, Worker | None] = dict.fromkeys(work.seconds)
        self.waiting: dict[int, dict[int, Ready]] = {s: {} for s in range(work.shards)}
        self.free: set[Worker] = set()
        self._count = itertools.count()
        self.events: list[tuple[float, int, Worker, int | None]] = []
        for trial in work.seconds:
            self._wait(trial)
        for worker in range(workers):
            self._at(joins.get(worker, 0.0), worker, None)

    def run(self) -> Timeline:
        while self.events:
            now = self.events[0][0]
            while self.events and self.events[0][0] <= now:
                self._happened(*heapq.heappop(self.events))
            for worker in sorted(self.free):
                self._dispatch(worker, now)
        return self.timeline

    def _at(self, time: float, worker: Worker, trial: int | None) -> None:
        heapq.heappush(self.events, (time, next(self._count), worker, trial))

    def _wait(self, trial: int) -> None:
        """A trial waits for its next unit; one that has none is over."""
        done, work = self.done[trial], self.work
        epoch, at = divmod(done, work.shards)
        if epoch < work.epochs:
            shard = work.order(trial, epoch)[at]
            remaining = work.total(trial) - done * work.seconds[trial]
            self.waiting[shard][trial] = Ready(trial, shard, remaining, self.last[trial])

    def _happened(self, now: float, _count: int, worker: Worker, trial: int | None) -> None:
        """A worker is free: it came, ended a unit, or was lost in one."""
        lost = now >= self.leaves.get(worker, math.inf)
        if trial is not None:
            if lost:
                self.last[trial] = None
            else:
                self.done[trial] += 1
                self.timeline.makespan_s = now
            self._wait(trial)
        if not lost:
            self.free.add(worker)

    def _dispatch(self, worker: Worker, now: float) -> None:
        held = self.held
        shards = [s for s in self.waiting if held is None or worker in held[s]]
        ready = [r for s in shards for r in self.waiting[s].values()]
        found = choose(worker, ready, lambda _w, _s: True, hop=held is not None)
        if found is None:
            return
        trial, shard = found.trial, found.shard
        assert isinstance(trial, int)
        assert shard is not None
        del self.waiting[shard][trial]
        self.free.discard(worker)
        end, leaves = now + self.work.seconds[trial], self.leaves.get(worker, math.inf)
        if end <= leaves:
            epoch = self.done[trial] // self.work.shards
            self.timeline.units.append((trial, epoch, shard, worker, now, end))
        if self.last[trial] != worker:
            self.timeline.moved_bytes += self.work.state_bytes
        self.last[trial] = worker
        self._at(min(end, leaves), worker, trial)
