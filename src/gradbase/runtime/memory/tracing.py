"""`trace`: one iteration of any training step, operator by operator."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from gradbase.errors import DataError
from gradbase.resources.lifetimes import Access, Operation, Storage, Trace
from gradbase.resources.periods import find_repetition, root
from gradbase.resources.sizes import readable
from gradbase.runtime.memory.recorder import Call, Life, Recorder
from gradbase.runtime.memory.workspace import workspaces_of

__all__ = ["trace"]


@dataclass(frozen=True)
class _Window:
    """The calls [start, start + period) are the iteration; what came after shows what lives on."""

    start: int
    period: int
    notes: tuple[str, ...] = ()

    @property
    def stop(self) -> int:
        return self.start + self.period


def trace(
    step: Callable[[], Any] | Iterator[Any],
    iterations: int = 3,
    *,
    marks: bool | None = None,
    granularity: int = 1,
    workspace: bool = False,
) -> Trace:
    """Lifetime, size, and order of reads and writes of every tensor storage over an iteration.

    Runs the step for real, forward, backward, optimiser and all, on CPU or CUDA; weights change as
    they would without.

    Parameters
    ----------
    step : callable without arguments, generator or generator function
        One iteration, or a loop of many. Of a generator, each ``yield`` ends an iteration.
    iterations : int
        How often `step` is called (how many yields are awaited). With 3 the first may differ (it
        makes gradients and optimiser state), the second is taken, the third shows what lives on.
    marks : bool, optional
        True: a call is an iteration. False: find the iteration in the sequence of operators as the
        segment that repeats itself over the longest stretch. None: a call is an iteration unless it
        is made of several equal ones, or is the only call.
    granularity : int, bytes
        Sizes are rounded up to its multiples (CUDA's allocator has 512).
    workspace : bool
        Runs once more under PyTorch's profiler to add what operators allocate inside themselves,
        each as a storage that lives for one operation. CPU only.

    Returns
    -------
    Trace

    Raises
    ------
    DataError
        The step calls no tensor operator, or `iterations` is below 1.

    Source: SmartPool (arXiv 1903.06631), section 3; watching PyTorch's dispatcher is own.
    """
    return _trace(_runner(step), iterations, marks, granularity, workspace)


def _trace(
    run: Callable[[], Any], iterations: int, marks: bool | None, granularity: int, workspace: bool
) -> Trace:
    if iterations < 1:
        raise DataError(f"trace needs at least one iteration, got iterations={iterations}")
    recorder, ends = _record(run, iterations)
    calls = recorder.calls
    if not calls:
        raise DataError(
            "the step called no tensor operator, so there is nothing to trace",
            hint="give `trace` a function that runs forward, backward and optimiser",
        )
    window = _window(calls, ends, marks)
    extra: dict[int, int] = {}
    if workspace:
        extra = workspaces_of(run, [call.name for call in calls[window.start : window.stop]])
    return _build(recorder, window, granularity, extra)


def _record(run: Callable[[], Any], iterations: int) -> tuple[Recorder, list[int]]:
    """Run; the recorder and the number of calls at the end of each iteration."""
    recorder, ends = Recorder(), list[int]()
    with recorder.layers.following(), recorder:
        for _ in range(iterations):
            if run() is _END:
                break
            ends.append(len(recorder.calls))
    recorder.finish()
    return recorder, ends


def _runner(step: Callable[[], Any] | Iterator[Any]) -> Callable[[], Any]:
    """Runs one iteration per call; returns `_END` when a generator has no more."""
    generator = step() if inspect.isgeneratorfunction(step) else step
    return (lambda: next(generator, _END)) if isinstance(generator, Iterator) else generator


_END = object()


def _window(calls: list[Call], ends: list[int], marks: bool | None) -> _Window:
    signatures = [call.signature for call in calls]
    parts = [signatures[a:b] for a, b in zip([0, *ends], ends, strict=False)]
    last, length = parts[-1], len(parts[-1])
    if (
        marks is None
        and _whole(calls, ends[-1] - 2 * root(last), root(last))
        and root(last) < length
    ):
        return _Window(ends[-1] - 2 * root(last), root(last))  # a call of several equal iterations
    if marks is not False and len(parts) > 1 and last == parts[-2]:
        return _Window(ends[-2] - length, length)
    found = None if marks else find_repetition(signatures)
    if found is not None and (marks is False or 2 * found.length > len(calls)):
        start = found.stop - found.length % found.period - 2 * found.period
        if _whole(calls, start, found.period):
            return _Window(start, found.period)
    if marks is False:
        note = "no iteration that repeats itself was found: this is all that ran"
        return _Window(0, len(calls), (note,))
    return _unlike(calls, ends, parts)


def _whole(calls: list[Call], start: int, period: int) -> bool:
    """Whether a segment has a forward and a backward part, as all that ran (cells repeat too)."""
    kinds = {call.backward for call in calls[start : start + period]}
    return kinds == {call.backward for call in calls}


def _unlike(calls: list[Call], ends: list[int], parts: list[list[int]]) -> _Window:
    """Iterations that differ, or a single one: the last, and a note about what is not known."""
    start = ends[-2] if len(ends) > 1 else 0
    if len(parts) == 1:
        note = "one iteration was seen: what lives on in the next cannot be told from persistent"
        return _Window(0, ends[-1], (note,))
    before = ends[-3] if len(ends) > 2 else 0
    pairs = zip(calls[before:start], calls[start : ends[-1]], strict=False)
    for i, (a, b) in enumerate(pairs):
        if (a.name, a.shapes) != (b.name, b.shapes):
            what = f"operation {i} is {b.name} {b.shapes}, one iteration before {a.name} {a.shapes}"
            break
    else:
        what = f"the last has {len(parts[-1])} operations, the one before {len(parts[-2])}"
    if len(parts) == 2:
        what += "; the first iteration often differs, more iterations may settle it"
    return _Window(start, ends[-1] - start, (f"iterations differ, this is the last: {what}",))


def _build(recorder: Recorder, window: _Window, granularity: int, extra: dict[int, int]) -> Trace:
    calls = recorder.calls[window.start : window.stop]
    operations = tuple(
        Operation(i, c.name, c.layer, c.flops, c.bytes_moved, c.seconds)
        for i, c in enumerate(calls)
    )
    storages: list[Storage] = []
    kept = 0
    for life in _living(recorder, window):
        storage = _storage(life, window, granularity)
        kept += storage.size * (life.died is None and not storage.persistent)
        storages.append(storage)
    accesses = _accesses(recorder, window, {s.id: s for s in storages})
    notes = list(window.notes)
    if kept:
        notes.append(
            f"{readable(kept)} that the iteration makes were still there when tracing ended"
        )
    for index, size in sorted(extra.items()):
        identity = len(recorder.lives) + index
        storages.append(Storage(identity, _rounded(size, granularity), index, index + 1))
        accesses.append(Access(index, identity, "write"))
    if extra:
        notes.append(f"{len(extra)} storages are workspace inside operators, from the profiler")
    accesses.sort(key=lambda a: a.operation)
    storages.sort(key=lambda s: s.allocated)
    return Trace(tuple(storages), operations, tuple(accesses), window.period, tuple(notes))


def _living(recorder: Recorder, window: _Window) -> list[Life]:
    """What the window makes, and the older things it touches that live through it."""
    made = {life.id: life for life in recorder.lives if window.start <= life.born < window.stop}
    for call in recorder.calls[window.start : window.stop]:
        for life, _ in call.touched:
            if life.died is None or life.died > window.stop:
                made[life.id] = life
    return [made[i] for i in sorted(made)]


def _storage(life: Life, window: _Window, granularity: int) -> Storage:
    size = _rounded(life.size, granularity)
    old = life.born < window.start
    if old or (life.outside and life.died is None):
        return Storage(life.id, size, 0, window.period, persistent=True)
    freed = window.stop if life.died is None else life.died
    return Storage(life.id, size, life.born - window.start, freed - window.start)


def _accesses(recorder: Recorder, window: _Window, storages: dict[int, Storage]) -> list[Access]:
    """In the window; of storages that live on, those in the following iteration too."""
    latest = max((s.freed for s in storages.values()), default=0) + window.start
    found: list[Access] = []
    for i, call in enumerate(recorder.calls[window.start : latest]):
        for life, kind in call.touched:
            storage = storages.get(life.id)
            if storage is not None and i < (window.period if storage.persistent else storage.freed):
                found.append(Access(i, life.id, kind))
    return found


def _rounded(size: int, granularity: int) -> int:
    return -(-size // granularity) * granularity
