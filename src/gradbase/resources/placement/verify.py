"""Checks a placement by sweeping over time; shares nothing with what makes one."""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Mapping
from pathlib import Path

from gradbase.errors import DataError
from gradbase.resources.lifetimes import Interval
from gradbase.resources.placement.plan import Plan
from gradbase.resources.placement.tables import read_table


def verify(plan: Plan | str | Path, *, period: int | None = None, alignment: int = 1) -> int:
    """Check that no two storages overlap in time and in bytes.

    Parameters
    ----------
    plan : Plan or path
        Of a file ``id,lower,upper,size,offset``.
    period : int, operations, optional
        Of the file: lifetimes repeat with it. A Plan knows its own.
    alignment : int, bytes
        Of the file: what offsets have to be multiples of. A Plan knows its own.

    Returns
    -------
    int, bytes
        The highest end of a storage.

    Raises
    ------
    DataError
        Two storages overlap, or one has no offset, a negative or an unaligned one; names them.
        A Plan says a height below that.

    Source: own; sweep with the live storages sorted by offset.
    """
    if isinstance(plan, Plan):
        top = sweep(plan.intervals, plan.offsets, plan.period, plan.alignment)
        if top > plan.height:
            raise DataError(f"storages end at {top:,}, above the height {plan.height:,}")
        return top
    table = read_table(plan)
    if table.offsets is None:
        raise DataError(
            "there is no column `offset` to be verified", at=str(plan),
            hint="gb.memory.plan(path).to_csv(path) writes one",
        )  # fmt: skip
    return sweep(table.intervals, table.offsets, period, alignment)


def sweep(
    intervals: Iterable[Interval],
    offsets: Mapping[str | int, int],
    period: int | None,
    alignment: int,
) -> int:
    """As `verify`, of lifetimes and offsets by id."""
    events: list[tuple[int, bool, int, Interval]] = []  # ends of a moment come before its begins
    height = 0
    for i in intervals:
        offset = offsets.get(i.id)
        if offset is None:
            raise DataError(f"storage `{i.id}` has no offset")
        if offset < 0 or offset % alignment:
            raise DataError(
                f"storage `{i.id}` lies at {offset}, expected a multiple of {alignment}"
            )
        if period is not None and i.upper - i.lower > period:
            raise DataError(f"storage `{i.id}` lives {i.upper - i.lower} of {period}: meets itself")
        height = max(height, offset + i.size)
        if i.size:
            events += [(t, begins, offset, i) for t, begins in _moments(i, period)]
    _sweep(sorted(events, key=lambda event: event[:3]))
    return height


def _moments(i: Interval, period: int | None) -> list[tuple[int, bool]]:
    """When it begins and ends; on a circle twice, so that each pair meets as it does in time."""
    if period is None:
        return [(i.lower, True), (i.upper, False)]
    lower = i.lower % period
    upper = lower + i.upper - i.lower
    return [(lower, True), (upper, False), (lower + period, True), (upper + period, False)]


def _sweep(events: Iterable[tuple[int, bool, int, Interval]]) -> None:
    starts: list[int] = []  # offsets of what lives, ascending
    live: list[Interval] = []
    for moment, begins, offset, i in events:
        k = bisect.bisect_left(starts, offset)
        if not begins:
            del starts[k], live[k]
            continue
        for other in (k - 1, k):
            if 0 <= other < len(starts):
                low, high = sorted(((starts[other], live[other]), (offset, i)), key=lambda s: s[0])
                if low[0] + low[1].size > high[0]:
                    raise DataError(
                        f"storages `{low[1].id}` and `{high[1].id}` overlap: bytes "
                        f"[{low[0]}, {low[0] + low[1].size}) and [{high[0]}, "
                        f"{high[0] + high[1].size}) at time {moment}"
                    )
        starts.insert(k, offset)
        live.insert(k, i)
