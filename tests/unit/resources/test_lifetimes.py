"""Lifetimes of one iteration: load, bounds, circular and persistent storages."""

from __future__ import annotations

from gradbase.resources.lifetimes import Access, Interval, Operation, Storage, Trace

STORAGES = (
    Storage(0, 10, 0, 4, persistent=True),
    Storage(1, 5, 0, 2),
    Storage(2, 7, 3, 5),  # lives on into operation 0 of the next iteration
    Storage(3, 1, 1, 6),  # longer than an iteration: two at a time in operation 1
)
ACCESSES = (
    Access(0, 0, "read"),
    Access(0, 1, "write"),
    Access(1, 3, "write"),
    Access(3, 2, "write"),
    Access(4, 2, "read"),
)


def trace() -> Trace:
    operations = tuple(Operation(i, "aten.add", seconds=0.5) for i in range(4))
    return Trace(STORAGES, operations, ACCESSES, 4)


def test_load_counts_what_lives_in_each_operation():
    """Persistent ones always, circular ones at the start too, longer ones as often as they are there."""
    assert trace().load().tolist() == [23, 17, 11, 18]


def test_numbers_of_a_trace():
    assert trace().peak == 23
    assert trace().persistent_bytes == 10
    assert trace().lower_bound == 13
    assert trace().working_set == 12  # operation 0 reads storage 2 of the iteration before


def test_intervals_leave_out_persistent_storages():
    """One interval per storage; one per copy where copies live at the same time."""
    assert trace().intervals() == [
        Interval(1, 0, 2, 5),
        Interval(2, 3, 5, 7),
        Interval("3.0", 0, 4, 1),
        Interval("3.1", 0, 4, 1),
    ]


def test_csv(tmp_path):
    trace().to_csv(tmp_path / "t.csv")
    lines = (tmp_path / "t.csv").read_text().splitlines()
    assert lines == ["id,lower,upper,size", "1,0,2,5", "2,3,5,7", "3.0,0,4,1", "3.1,0,4,1"]


def test_an_empty_trace_is_empty():
    empty = Trace((), (), (), 0)
    assert (empty.peak, empty.lower_bound, empty.working_set, empty.intervals()) == (0, 0, 0, [])


def test_repr_says_what_matters():
    assert "23 B" in repr(trace())
    assert "working set  12 B" in repr(trace())
