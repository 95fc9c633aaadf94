"""Workers and the units that wait for them: who trains what next, and again where one was lost."""

from __future__ import annotations

import logging
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass, field

from gradbase.errors import EngineError, TrainingError
from gradbase.resources.units import Ready, choose
from gradbase.selection.executors.base import Link, WorkerLost
from gradbase.selection.executors.messages import Message, Tensors, heard, unpack

log = logging.getLogger("gradbase.selection")
MOST_ATTEMPTS = 3
"""Workers that may die over one unit before its trial fails."""
_POLL_S = 0.1


@dataclass
class Member:
    """A worker of the pool.

    `versions` are the states that it is believed to have, by group.
    """

    number: int
    link: Link
    versions: dict[Hashable, int] = field(default_factory=dict)


@dataclass
class _Wait:
    ready: Ready
    member: Member | None = None


@dataclass(frozen=True)
class Reply:
    """What a worker answered, which worker, at the how manyth attempt, and bytes both ways."""

    message: Message
    tensors: Tensors
    worker: int
    attempt: int
    moved_bytes: int
    seconds: float


class Pool:
    """Hands units to workers by `resources.units.choose`.

    A unit whose worker is lost is tried again with the state it began with: what a worker had done
    for it is not committed, because only answers of the attempt that is waited for are read.

    Parameters
    ----------
    start : callable
        ``start(number)`` makes a worker that is ready.
    check : callable
        Raises once the search is over.
    """

    def __init__(self, start: Callable[[int], Link], check: Callable[[], None]) -> None:
        self._start, self._check = start, check
        self._held: Mapping[int, Collection[int]] | None = None
        self._changed = threading.Condition()
        self._free: list[Member] = []
        self._members: dict[int, Member] = {}
        self._waiting: list[_Wait] = []
        self._next = self._coming = 0
        self._closed = False
        self.busy_s: defaultdict[int, float] = defaultdict(float)
        """Seconds that each worker was asked something."""
        self.since: dict[int, float] = {}
        """When each worker came."""

    def join(self, count: int = 1) -> None:
        """Let more workers in, all at once; at any time.

        Raises
        ------
        EngineError
            One of them cannot start.
        """
        with self._changed:
            numbers = list(range(self._next, self._next + count))
            self._next += count
        for number, link in zip(numbers, self._started(numbers), strict=True):
            self._admit(Member(number, link))

    def hold(self, held: Mapping[int, Collection[int]]) -> None:
        """Let only these workers train on each shard, so that trials hop between them."""
        with self._changed:
            self._held = held

    def leave(self, number: int) -> bool:
        """Give a worker up; its unit is trained again by another. False where it was gone."""
        with self._changed:
            member = self._members.pop(number, None)
            self._free = [m for m in self._free if m.number != number]
        if member is not None:
            member.link.close()
        return member is not None

    def close(self) -> None:
        """Let all go."""
        with self._changed:
            self._closed = True
            numbers = list(self._members)
        for number in numbers:
            self.leave(number)

    @property
    def workers(self) -> tuple[int, ...]:
        """Numbers of those that are there."""
        with self._changed:
            return tuple(self._members)

    def learnt(self, number: int, group: Hashable, version: int) -> None:
        """A worker has the states of a group at `version`."""
        with self._changed:
            if number in self._members:
                self._members[number].versions[group] = version

    def ask(
        self, ready: Ready, message: Callable[[Member], bytes], *, once: bool = False
    ) -> Reply:
        """Wait for a worker, send it what `message` makes for it, and wait for the answer.

        Raises
        ------
        WorkerLost
            It died, and is asked only `once`; another one has come in its place.
        TrainingError
            So many workers died over it that it must be the cause.
        GradbaseError
            What the worker raised.
        """
        for attempt in range(1, MOST_ATTEMPTS + 1):
            member = self._member(ready)
            try:
                return self._answer(member, message(member), attempt)
            except WorkerLost as lost:
                log.warning(
                    "worker %d was lost (%s) in attempt %d of trial %s, shard %s",
                    member.number, lost, attempt, ready.trial, ready.shard,
                )  # fmt: skip
                died = self.leave(member.number)
                self._check()
                if died:
                    self._replace(member.number)
                if once:
                    raise
        raise TrainingError(
            f"{MOST_ATTEMPTS} workers died while they trained it",
            hint="it may need more memory than there is: a smaller network or batch_size, or fewer "
            "workers; executor = 'in_process' shows what its code does",
        )

    def _answer(self, member: Member, data: bytes, attempt: int) -> Reply:
        started = time.perf_counter()
        try:
            found = member.link.ask(data, self._check)
        except WorkerLost:
            raise
        except BaseException:
            self.leave(member.number)  # nobody waits for its answer any more
            raise
        seconds = time.perf_counter() - started
        with self._changed:
            if self._members.get(member.number) is not member:
                raise WorkerLost("it had been given up")
            self._free.append(member)
            self.busy_s[member.number] += seconds
            self._assign()
        message, tensors = unpack(found)
        if "error" in message:
            raise heard(message["error"])
        return Reply(message, tensors, member.number, attempt, len(data) + len(found), seconds)

    # -- who next ----------------------------------------------------------------------------------

    def _member(self, ready: Ready) -> Member:
        wait = _Wait(ready)
        with self._changed:
            self._waiting.append(wait)
            try:
                self._assign()
                self._wait(wait)
            except BaseException:
                if wait in self._waiting:
                    self._waiting.remove(wait)
                elif wait.member is not None:
                    self._free.append(wait.member)
                raise
            assert wait.member is not None
            return wait.member

    def _wait(self, wait: _Wait) -> None:
        while wait.member is None:
            self._changed.wait(_POLL_S)
            self._check()
            if not self._members and not self._coming:
                raise EngineError(
                    "all workers of the search are gone", hint="RESUME SEARCH goes on with it"
                )

    def _assign(self) -> None:
        """Give free workers what waits; the lock is held."""
        for member in list(self._free):
            alive = [_here(w.ready, self._members) for w in self._waiting]
            found = choose(member.number, alive, self._holds, hop=self._held is not None)
            if found is not None:
                wait = self._waiting.pop(alive.index(found))
                wait.member = member
                self._free.remove(member)
        self._changed.notify_all()

    def _holds(self, worker: int, shard: int) -> bool:
        """A shard whose holders are all gone is anybody's: they can all read it."""
        if self._held is None:
            return True
        holders = [w for w in self._held.get(shard, ()) if w in self._members]
        return worker in holders or not holders

    def _replace(self, number: int) -> None:
        """A new worker in the place of one that died, holding the same shards."""
        with self._changed:
            if self._closed or number in self._members:
                return
            self._coming += 1
        try:
            [link] = self._started([number])
            self._admit(Member(number, link))
        finally:
            with self._changed:
                self._coming -= 1

    def _started(self, numbers: Sequence[int]) -> list[Link]:
        links: dict[int, Link | Exception] = {}

        def start(number: int) -> None:
            try:
                links[number] = self._start(number)
            except Exception as error:  # noqa: BLE001 (raised below)
                links[number] = error

        threads = [threading.Thread(target=start, args=(n,)) for n in numbers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        failed = [found for found in links.values() if isinstance(found, Exception)]
        made = [links[n] for n in numbers if not isinstance(links[n], Exception)]
        if failed:
            for link in made:
                assert not isinstance(link, Exception)
                link.close()
            raise failed[0]
        return [link for link in made if not isinstance(link, Exception)]

    def _admit(self, member: Member) -> None:
        with self._changed:
            closed = self._closed
            if not closed:
                self._members[member.number] = member
                self._free.append(member)
                self.since.setdefault(member.number, time.perf_counter())
                self._assign()
        if closed:
            member.link.close()


def _here(ready: Ready, members: Collection[int]) -> Ready:
    """As it is, unless its state lay at a worker that is gone."""
    if ready.last is None or ready.last in members:
        return ready
    return Ready(ready.trial, ready.shard, ready.remaining_s)
