"""Leases: waiting, order, and what is held in reserve."""

from __future__ import annotations

import threading
import time

import pytest

from gradbase.errors import ResourceError
from gradbase.resources.broker import Broker


class Reserve:
    """Holds bytes until someone wants them."""

    def __init__(self, broker, name, *, first=False):
        self.broker, self.asked = broker, []
        self.lease = broker.lend(name, "reserve", self.give_back, first=first)

    def give_back(self, size_bytes):
        self.asked.append(size_bytes)
        self.broker.shrink(self.lease, size_bytes)


def test_what_is_held_in_reserve_makes_way_idle_models_before_pages():
    broker = Broker(1, 100)
    pages, models = Reserve(broker, "pages"), Reserve(broker, "models", first=True)
    assert broker.grow(models.lease, 30)
    assert broker.grow(pages.lease, 60)
    assert not broker.grow(pages.lease, 11)
    with broker.lease("query", "q", size_bytes=50, timeout_s=1):
        assert (models.asked, pages.asked) == ([40], [10])
        assert broker.free() == (1, 0)
    assert broker.free() == (1, 50)
    assert [g.owner for g in broker.reserves()] == ["pages"]


def test_threads_are_granted_past_all_who_wait_for_bytes():
    """A request that fits waits behind one that does not; neither keeps threads from others."""
    broker = Broker(2, 100)
    held = broker.acquire("query", "first", size_bytes=60)
    done = []

    def ask(size_bytes):
        broker.release(broker.acquire("query", "more", size_bytes=size_bytes))
        done.append(size_bytes)

    waiting = [threading.Thread(target=ask, args=(n,)) for n in (50, 10)]
    for number, thread in enumerate(waiting, 1):
        thread.start()
        while len(broker._queue) < number:
            time.sleep(0.001)
    with broker.lease("query", "compute", threads=2, timeout_s=5):
        assert done == []
    broker.release(held)
    for thread in waiting:
        thread.join()
    assert done == [50, 10]


def test_who_can_do_with_fewer_threads_does_not_wait_for_all():
    broker = Broker(4, 100)
    with broker.lease("query", "first", threads=3):
        held = broker.acquire("query", "second", threads=4, least_threads=1, timeout_s=1)
        assert held.threads == 1
        with pytest.raises(ResourceError, match="for 1 threads"):
            broker.acquire("query", "third", threads=2, least_threads=1, timeout_s=0.05)
    broker.release(held)
    assert broker.acquire("query", "fourth", threads=4, least_threads=1).threads == 4


def test_reserves_do_not_grow_while_someone_waits():
    broker = Broker(1, 100)
    reserve = Reserve(broker, "pages")
    held = broker.acquire("query", "first", size_bytes=80)
    waiting = threading.Thread(
        target=lambda: broker.release(broker.acquire("query", "second", size_bytes=50))
    )
    waiting.start()
    while not broker._queue:
        time.sleep(0.001)
    assert not broker.grow(reserve.lease, 1)
    broker.release(held)
    waiting.join()
    assert broker.grow(reserve.lease, 1)


def test_a_request_that_cannot_be_met_in_time_says_what_is_free():
    broker = Broker(2, 100)
    with (
        broker.lease("query", "first", threads=1, size_bytes=80),
        pytest.raises(ResourceError, match=r"waited 0.25 s for 1 threads and 50 bytes; 1 .* 20"),
    ):
        broker.acquire("query", "second", threads=1, size_bytes=50, timeout_s=0.25)
    assert broker.free() == (2, 100)


def test_never_more_is_granted_than_there_is():
    broker, most = Broker(3, 1000), []
    reserve = Reserve(broker, "pages")

    def work(number):
        for i in range(60):
            with broker.lease("query", "q", threads=1, size_bytes=100 + 13 * (number + i) % 300):
                leases = [*broker.leases(), *broker.reserves()]
                most.append((sum(g.threads for g in leases), sum(g.size_bytes for g in leases)))
            broker.grow(reserve.lease, 40)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(t for t, _ in most) <= 3
    assert max(b for _, b in most) <= 1000
