"""`plan`: from lifetimes to offsets."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gradbase.errors import BindError, DataError, InternalError, ResourceError, near
from gradbase.resources.lifetimes import Interval, Trace
from gradbase.resources.placement.clock import Clock
from gradbase.resources.placement.exact import entries, most_entries
from gradbase.resources.placement.plan import Plan
from gradbase.resources.placement.problem import Problem, arranged
from gradbase.resources.placement.search import best_placement
from gradbase.resources.placement.tables import check, read_table
from gradbase.resources.placement.verify import verify
from gradbase.resources.sizes import size_bytes

METHODS = ("auto", "greedy", "local", "exact")

# Seconds per storage that are kept for the last step of a search and for checking the plan.
ENDING = 1e-4


def plan(
    source: Trace | str | Path | Iterable[Interval],
    capacity: int | str | None = None,
    method: str = "auto",
    time_limit: float = 60.0,
    seed: int = 0,
    *,
    period: int | None = None,
    alignment: int = 1,
) -> Plan:
    """Find offsets in one block of memory: storages alive at the same time do not overlap.

    Parameters
    ----------
    source : Trace, path or iterable of Interval
        A path is of a file ``id,lower,upper,size``. Of a trace, the transient storages.
    capacity : int or str, bytes, optional
        Such as ``"500MB"``: stop at the first plan that is not higher.
    method : {'auto', 'greedy', 'local', 'exact'}
        Several greedy orders; then a local search over orders; or an exact search, which can prove
        that no plan is lower; or, 'auto', all of them in turn.
    time_limit : float, seconds
        After it the best plan so far is returned. A first greedy fit is always finished.
    seed : int
        Of all random choices: a search that ends before `time_limit` gives the same plan again.
    period : int, operations, optional
        Lifetimes repeat with it: those with ``upper > period`` go on at the start. A trace knows
        its own. What is longer than a period is there several times, as ``<id>.0``, ...
    alignment : int, bytes
        Offsets are multiples of it; sizes are rounded up to it.

    Raises
    ------
    ResourceError
        No plan within `capacity` was found, or an exact search would need too much memory.
    DataError
        The lifetimes are none.

    Source: SmartPool (arXiv 1903.06631) for the problem and the greedy order; see `descent`.
    """
    clock = Clock(_limit(time_limit))
    _known(method)
    room = None if capacity is None else size_bytes(capacity, at="capacity")
    intervals, period = _intervals(source, _whole("period", period))
    clock.keep(min(ENDING * len(intervals), time_limit / 2))
    grid = _Grid.of(intervals, period, _whole("alignment", alignment) or 1)
    _possible(grid, room, method)
    made = grid.place(method, room, seed, clock)
    _check(made, room)
    return made


@dataclass(frozen=True, eq=False)
class _Grid:
    """What is to be placed, in granules: the greatest common divisor of all sizes, bytes."""

    intervals: tuple[Interval, ...]
    problem: Problem
    granule: int
    period: int | None
    alignment: int

    @classmethod
    def of(cls, intervals: tuple[Interval, ...], period: int | None, alignment: int) -> _Grid:
        """Sizes rounded up to `alignment`."""
        values = [(i.lower, i.upper, -(-i.size // alignment) * alignment) for i in intervals]
        lower, upper, size = np.array(values, np.int64).reshape(-1, 3).T
        granule = int(np.gcd.reduce(size)) or 1
        problem = arranged(lower, upper, size // granule, period)
        return cls(intervals, problem, granule, period, alignment)

    def place(self, method: str, room: int | None, seed: int, clock: Clock) -> Plan:
        """The best plan that is found; `room` in bytes is low enough."""
        goal = 0 if room is None else room // self.granule
        found = best_placement(self.problem, method, goal, seed, clock)
        offsets = (found.offset * self.granule).tolist()
        return Plan(
            self.intervals,
            dict(zip((i.id for i in self.intervals), offsets, strict=True)),
            found.height * self.granule,
            found.bound * self.granule,
            found.method + ("" if _compiles() else " (slow: numba is not installed)"),
            clock.seconds(),
            self.period,
            self.alignment,
        )


def _limit(seconds: float) -> float:
    if not isinstance(seconds, int | float) or math.isnan(seconds) or seconds <= 0:
        raise BindError(f"time_limit is {seconds!r}, expected seconds above 0")
    return float(seconds)


def _whole(name: str, value: int | None) -> int | None:
    if value is not None and (not isinstance(value, int) or value < 1):
        raise BindError(f"{name} is {value!r}, expected an integer above 0")
    return value


def _known(method: str) -> None:
    if method not in METHODS:
        raise BindError(
            f"there is no method `{method}`; there are {', '.join(METHODS)}",
            hint=near(method, METHODS),
        )


def _compiles() -> bool:
    from gradbase.resources.placement.machine import COMPILED

    return COMPILED


def _intervals(
    source: Trace | str | Path | Iterable[Interval], period: int | None
) -> tuple[tuple[Interval, ...], int | None]:
    """What is to be placed, each at most a period long, and that period."""
    if isinstance(source, Trace):
        if period not in (None, source.period):
            raise BindError(f"period is {period}, the trace's own is {source.period}")
        return tuple(source.intervals()), source.period or None
    if isinstance(source, str | Path):
        intervals = read_table(source).intervals
    else:
        intervals = tuple(source)
        check(intervals)
    if period is None:
        return intervals, None
    single = tuple(copy for i in intervals for copy in _copies(i, period))
    check(single)
    return single, period


def _copies(i: Interval, period: int) -> list[Interval]:
    """As many as are there at once, each all the time where there are several."""
    many = -(-i.length // period)
    if many == 1:
        return [i]
    return [Interval(f"{i.id}.{k}", 0, period, i.size) for k in range(many)]


def _possible(grid: _Grid, room: int | None, method: str) -> None:
    """Refuse what cannot be done, before anything is tried."""
    bound = grid.problem.lower_bound * grid.granule
    if room is not None and bound > room:
        raise ResourceError(
            f"no plan can fit: {bound:,} bytes are alive at once, the capacity is {room:,}",
            hint="raise capacity, or swap: gb.memory.plan_swaps",
        )
    needed, most = entries(grid.problem), most_entries()
    if method == "exact" and needed > most:
        numba = "" if _compiles() else "; numba allows more: pip install 'gradbase[memory]'"
        raise ResourceError(
            f"exact search over {len(grid.problem):,} storages would hold {needed:,} pairs that "
            f"overlap, at most {most:,}",
            hint=f"method='auto' searches over the largest storages only{numba}",
        )


def _check(made: Plan, room: int | None) -> None:
    try:
        verify(made)
    except DataError as error:
        raise InternalError(f"a plan does not hold: {error}") from error
    if room is not None and made.height > room:
        raise _not_found(room, made)


def _not_found(room: int, best: Plan) -> ResourceError:
    if best.lower_bound > room:
        return ResourceError(
            f"no plan can fit: every one takes {best.lower_bound:,} bytes or more, "
            f"the capacity is {room:,}"
        )
    return ResourceError(
        f"no plan within {room:,} bytes was found in {best.seconds:.3g} s: the lowest takes "
        f"{best.height:,}, none takes less than {best.lower_bound:,}",
        hint="raise time_limit or capacity",
    )
