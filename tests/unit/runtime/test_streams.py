"""Batches are joined, cut and stopped without losing rows or order."""

from __future__ import annotations

import threading

import pyarrow as pa
import pytest

from gradbase.errors import CancelledError, ResourceError
from gradbase.resources.broker import Broker
from gradbase.runtime.context import Metrics, RunContext
from gradbase.runtime.predict import leased, one_thread
from gradbase.runtime.streams import cut, grouped, limited, watched


def batches(*sizes):
    start = 0
    for size in sizes:
        yield pa.RecordBatch.from_arrays([pa.array(range(start, start + size), pa.int64())], ["i"])
        start += size


def sizes(found):
    return [b.num_rows for b in found]


def values(found):
    return [v for b in found for v in b.column(0).to_pylist()]


def context(**changes):
    return RunContext(None, None, Broker(1, 100), **changes)


def test_small_batches_are_joined():
    found = list(grouped(batches(1, 2, 3, 10, 1), 10))
    assert sizes(found) == [6, 10, 1]
    assert values(found) == list(range(17))


def test_large_batches_are_cut_in_equal_parts():
    found = list(cut(batches(10, 3, 4, 0, 1), 4))
    assert sizes(found) == [4, 4, 2, 3, 4, 1]
    assert values(found) == list(range(18))


@pytest.mark.parametrize(
    ("count", "offset", "expected"),
    [(3, 0, [0, 1, 2]), (3, 4, [4, 5, 6]), (99, 8, [8, 9]), (0, 0, []), (5, 50, [])],
)
def test_limits_count_over_batches(count, offset, expected):
    assert values(limited(batches(3, 3, 4), count, offset)) == expected


def test_a_limit_reads_no_batch_more_than_it_needs():
    source = batches(3, 3, 4)
    assert values(limited(source, 4, 0)) == [0, 1, 2, 3]
    assert values(source) == [6, 7, 8, 9]


def test_empty_batches_are_dropped_and_cancelling_stops():
    cancelled = threading.Event()
    source = watched(batches(0, 2, 0, 3), context(cancelled=cancelled))
    assert next(source).num_rows == 2
    cancelled.set()
    with pytest.raises(CancelledError):
        next(source)


def test_waiting_for_a_lease_ends_when_cancelled():
    surroundings = context()
    with leased(surroundings, "first", threads=1):
        threading.Timer(0.1, surroundings.cancelled.set).start()
        with pytest.raises(CancelledError), leased(surroundings, "second", threads=1):
            pass
    assert surroundings.metrics["leases"] == 1


def test_what_can_never_be_granted_is_refused_at_once():
    with pytest.raises(ResourceError, match="101 bytes"), leased(context(), "x", size_bytes=101):
        pass


def test_torch_threads_are_put_back():
    import torch

    before = torch.get_num_threads()
    with one_thread():
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == before


def test_counters_from_several_threads_add_up():
    metrics = Metrics()
    threads = [
        threading.Thread(target=lambda: [metrics.add("rows") for _ in range(1000)])
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert metrics["rows"] == 4000
    assert ("rows", 4000.0) in metrics.rows()
    assert metrics["never"] == 0.0
