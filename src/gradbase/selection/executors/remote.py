"""A group's trainer whose units other processes run: it holds the states between them."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from torch import Tensor

from gradbase.errors import GradbaseError, TrainingError
from gradbase.ir.printer import print_plan
from gradbase.resources.units import Ready
from gradbase.runtime.train.trainer import Evaluation, Ran, Trainer
from gradbase.selection.executors.base import WorkerLost
from gradbase.selection.executors.messages import (
    Message,
    by_place,
    heard,
    pack,
    prefixed,
)
from gradbase.selection.executors.pool import MOST_ATTEMPTS, Member, Pool, Reply
from gradbase.selection.executors.supplying import Supply
from gradbase.store.records import Scores

if TYPE_CHECKING:
    from gradbase.runtime.confusion import Counts
    from gradbase.runtime.train.data import TrainingData
    from gradbase.selection.group import Group

_numbers = itertools.count()


class Meeting(NamedTuple):
    """Address of the store at which a team meets, and how many they are."""

    host: str
    port: int
    size: int


class RemoteTrainer:
    """See `base.Trains`.

    A unit begins with the states of its trials as they are here, and only its answer changes them:
    so a worker that dies costs the unit that it was at, and one that was given up nothing.

    Parameters
    ----------
    group : Group
    data : TrainingData
        Its rows are not needed here.
    pool : Pool
    how : mapping
        What workers are told about the group's rows, threads and memory.
    supply : Supply
        Of rows that a worker lacks.
    meeting : Meeting, optional
        Where the workers of a team find each other: they train each unit together.
    build : callable
        Makes a trainer here, for what is done once when training ends.
    """

    def __init__(
        self,
        group: Group,
        data: TrainingData,
        pool: Pool,
        how: Mapping[str, Any],
        *,
        supply: Supply,
        meeting: Meeting | None = None,
        build: Callable[[], Trainer],
    ) -> None:
        self.data, self.pool, self._how, self._build = data, pool, how, build
        self._supply, self._meeting = supply, meeting
        self._team = 0
        self._lasts: list[int | None] = [None] * (meeting.size if meeting else 1)
        self.group, self.failed = group, dict[int, GradbaseError]()
        self.ran: Ran | None = None
        self._members = list(range(len(group.outcomes)))
        self._name = next(_numbers)
        self._versions = itertools.count(1)
        self._version = 0
        self._states: dict[int, dict[str, Tensor]] = {}
        self._item = print_plan(group.item)
        self._last: int | None = None
        self._part = "eval"
        self._unit_s = self.validate_s = 0.0
        self._local: Trainer | None = None

    @property
    def active(self) -> tuple[int, ...]:
        return tuple(self._members)

    def run_unit(self, epoch: int, shard: int) -> list[float]:
        version = next(self._versions)
        message = {"do": "unit", "epoch": epoch, "shard": shard, "next": version}
        reply = self._asked_team(message, shard) if self._meeting else self._ask(message, shard)
        self._unit_s = reply.seconds
        self._states |= by_place(reply.tensors)
        self._version = version
        self._knows(reply, version)
        seconds: dict[str, float] = reply.message["seconds"]
        seconds["hop"] += max(0.0, reply.seconds - sum(seconds.values()))
        self.ran = Ran(reply.worker, reply.attempt, reply.moved_bytes, seconds)
        return reply.message["losses"]

    def evaluate(self, part: str = "eval") -> list[Evaluation]:
        if not self._members:
            return [(float("nan"), {})] * len(self.group.outcomes)
        if part != "test":
            self._part = part
        reply = self._ask({"do": "evaluate", "part": part}, None)
        self._knows(reply, self._version)
        self.validate_s = reply.seconds
        return [(loss, metrics) for loss, metrics in reply.message["results"]]

    def counts(self, member: int) -> Scores | Counts | None:
        if self.data.task == "regression" or member not in self._members:
            return None
        reply = self._ask({"do": "counts", "place": member, "part": self._part}, None)
        arrays = {name: tensor.numpy() for name, tensor in reply.tensors.items()}
        if reply.message["kind"] == "scores":
            return Scores(**arrays)
        return np.asarray(arrays["counts"]) if reply.message["kind"] else None

    def state(self, member: int) -> dict[str, Tensor]:
        if member not in self._states:  # nothing was trained yet: the first weights
            return self.here(member).state(member)
        return self._states[member]

    def load_state(self, member: int, state: dict[str, Tensor]) -> None:
        self._states[member] = state
        self._version = next(self._versions)

    def drop(self, member: int) -> None:
        if member in self._members:
            self._members.remove(member)
            self._states.pop(member, None)

    def here(self, member: int) -> Trainer:
        if self._local is None:
            self._local = self._build()
        if member in self._states:
            self._local.load_state(member, self._states[member])
        return self._local

    # -- asking ------------------------------------------------------------------------------------

    def _ask(self, message: Message, shard: int | None) -> Reply:
        """The answer of whichever worker is given to it."""
        reply = self._answer(message, shard, self._last)
        self._last = reply.worker
        for place, error in reply.message.get("failed", {}).items():
            self._fail(int(place), heard(error))
        return reply

    def _asked_team(self, message: Message, shard: int) -> Reply:
        """The first one's answer where several workers train a unit together."""
        assert self._meeting is not None
        host, port, size = self._meeting
        for _ in range(MOST_ATTEMPTS):
            team = {"host": host, "port": port, "size": size, "name": f"{self._name}-{self._team}"}
            messages = [{**message, "team": {**team, "rank": rank}} for rank in range(size)]
            with ThreadPoolExecutor(size, "gradbase-team") as threads:
                replies = list(threads.map(self._of_member, messages, [shard] * size, self._lasts))
            if not any("left" in reply.message for reply in replies):
                break
            self._team += 1  # who is left finds the others under another name
        else:
            raise TrainingError(f"{MOST_ATTEMPTS} teams of {size} workers lost one of them")
        for reply in replies[1:]:
            self._knows(reply, message["next"])
        self._lasts = [reply.worker for reply in replies]
        first = replies[0]
        self._last = first.worker
        for place, error in first.message.get("failed", {}).items():
            self._fail(int(place), heard(error))
        moved = sum(reply.moved_bytes for reply in replies)
        return dataclasses.replace(first, moved_bytes=moved)

    def _of_member(self, message: Message, shard: int, last: int | None) -> Reply:
        """As `_answer`. Who dies is not asked again: the others meet under another name then."""
        try:
            return self._answer(message, shard, last)
        except WorkerLost as lost:
            return Reply({"left": str(lost)}, {}, -1, 1, 0, 0.0)

    def _answer(self, message: Message, shard: int | None, last: int | None) -> Reply:
        """What a worker says that has everything it needs."""
        once = "team" in message
        pinned = once and last is not None
        ready = Ready(self._name, shard, self._remaining_s(), last, pinned)
        light = {
            **message, **self._how, "group": self._name, "version": self._version,
            "active": self._members,
        }  # fmt: skip
        reply = self.pool.ask(ready, lambda worker: self._packed(light, worker), once=once)
        while {"missing", "absent"} & reply.message.keys():  # it kept others instead; or lacks rows
            names = reply.message.get("absent", [])
            whole = partial(self._whole, light, names)
            reply = self.pool.ask(ready, lambda _worker, w=whole: w(), once=once)
        return reply

    def _packed(self, light: Message, worker: Member) -> bytes:
        """Without the states where the worker has them."""
        if self._version and worker.versions.get(self._name) == self._version:
            return pack(light)
        return self._whole(light)

    def _whole(self, light: Message, names: Sequence[str] = ()) -> bytes:
        """With the states, and with rows of these names."""
        states = {p: s for p, s in self._states.items() if p in self._members}
        more, rows = self._supply.of(names) if names else ({}, {})
        return pack({**light, **more, "item": self._item}, {**prefixed(states), **rows})

    def _knows(self, reply: Reply, version: int) -> None:
        self.pool.learnt(reply.worker, self._name, version)

    def _fail(self, place: int, error: GradbaseError) -> None:
        if place in self._members:
            self.failed[place] = error
            self._members.remove(place)

    def _remaining_s(self) -> float:
        """Of the group's longest trial, by its last unit; at first what is left counts as units."""
        shards = len(self.data.shards)
        left = max(
            (o.until - len(o.epochs) for o in self.group.outcomes if not o.status), default=0
        )
        return left * shards * (self._unit_s or 1.0)
