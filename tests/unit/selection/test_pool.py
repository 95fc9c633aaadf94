"""The pool of workers: units of those that die are tried again, answers of those given up lost."""

from __future__ import annotations

import threading

import pytest
import torch

from gradbase.errors import CancelledError, EngineError, ShapeError, TrainingError
from gradbase.resources.units import Ready
from gradbase.selection.executors.base import WorkerLost
from gradbase.selection.executors.messages import by_place, heard, pack, prefixed, told, unpack
from gradbase.selection.executors.pool import MOST_ATTEMPTS, Pool


class Fake:
    """A worker that says who it is, or dies, or waits."""

    def __init__(self, number, deaths=(), gate=None):
        self.number, self.deaths, self.gate = number, deaths, gate
        self.closed = threading.Event()

    def ask(self, message, check):
        said, _ = unpack(message)
        while self.gate is not None and not self.gate.wait(0.01):
            check()
            if self.closed.is_set():
                raise WorkerLost("given up")
        if self.number in self.deaths or "all" in self.deaths:
            raise WorkerLost("killed")
        if said.get("raise"):
            return pack({"error": told(ShapeError("bad shape", hint="mend it"))})
        return pack({"worker": self.number, "said": said["x"]})

    def close(self):
        self.closed.set()


def pool_of(count, make=Fake, held=None, check=lambda: None):
    pool = Pool(make, check)
    if held:
        pool.hold(held)
    pool.join(count)
    return pool


def ask(pool, x=0, shard=0, **more):
    return pool.ask(Ready("t", shard, 1.0), lambda _: pack({"x": x, **more}))


def test_a_lost_worker_costs_its_unit_and_another_takes_its_place():
    starts = []

    def make(number):
        starts.append(number)
        return Fake(number, deaths=(0,) if starts.count(0) < 2 else ())

    pool = pool_of(1, make)
    reply = ask(pool, 7)
    assert (reply.message, reply.attempt, starts) == ({"worker": 0, "said": 7}, 2, [0, 0])


def test_a_unit_over_which_every_worker_dies_fails_its_trial():
    made = []

    def make(number):
        made.append(number)
        return Fake(number, deaths=("all",))

    with pytest.raises(TrainingError, match=f"{MOST_ATTEMPTS} workers died") as error:
        ask(pool_of(1, make))
    assert "memory" in error.value.hint
    assert len(made) == 1 + MOST_ATTEMPTS


def test_a_worker_that_was_given_up_cannot_commit():
    """Its answer may be on its way; the unit is done again and only that counts."""
    gate, replies = threading.Event(), []
    pool = pool_of(1, lambda n: Fake(n, gate=gate if n == 0 else None))
    asking = threading.Thread(target=lambda: replies.append(ask(pool, 5)))
    asking.start()
    while pool._free:
        pass
    pool.join()
    pool.leave(0)
    gate.set()
    asking.join()
    assert [(r.worker, r.attempt) for r in replies] == [(1, 2)]


def test_workers_take_only_shards_that_they_hold():
    pool = pool_of(2, held={0: {0}, 1: {1}})
    assert [ask(pool, shard=s).worker for s in (1, 0, 1)] == [1, 0, 1]
    pool.leave(1)
    assert ask(pool, shard=1).worker == 0  # nobody holds it any more, so anybody reads it


def test_errors_of_workers_are_raised_as_they_were():
    pool = pool_of(1)
    with pytest.raises(ShapeError, match="bad shape") as error:
        ask(pool, **{"raise": True})
    assert error.value.hint == "mend it"
    assert "in the worker" in error.value.__notes__[0]
    assert ask(pool, 3).message["said"] == 3


def test_a_worker_that_cannot_start_is_told():
    def make(number):
        if number:
            raise EngineError("no room")
        return Fake(number)

    with pytest.raises(EngineError, match="no room"):
        pool_of(2, make)


def test_without_workers_nobody_waits_forever():
    pool = pool_of(1)
    pool.leave(0)
    with pytest.raises(EngineError, match="all workers of the search are gone"):
        ask(pool)


def test_cancelling_ends_the_wait():
    cancelled = threading.Event()

    def check():
        if cancelled.is_set():
            raise CancelledError("enough")

    pool = pool_of(1, lambda n: Fake(n, gate=threading.Event()), check=check)
    threading.Timer(0.05, cancelled.set).start()
    with pytest.raises(CancelledError):
        ask(pool)


def test_messages_hold_json_and_tensors():
    states = {0: {"a.b/c": torch.arange(3.0)}, 12: {"n": torch.tensor(2**40)}}
    message, tensors = unpack(pack({"losses": [float("nan"), 0.1]}, prefixed(states)))
    found = by_place(tensors)
    assert message["losses"][1] == 0.1
    assert torch.equal(found[0]["a.b/c"], states[0]["a.b/c"])
    assert found[12]["n"] == 2**40


def test_an_unknown_error_of_a_worker_fails_its_trial():
    assert isinstance(heard(told(ZeroDivisionError("by zero"))), TrainingError)
    assert "ZeroDivisionError: by zero" in str(heard(told(ZeroDivisionError("by zero"))))
