"""Copies that never make an operator wait."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gradbase.resources.swapping.clock import Absence, Window
from gradbase.resources.swapping.step import Step


def unhindered(step: Step, absences: Sequence[Absence]) -> list[Window]:
    """Windows of copies out as early and copies in as late as the streams allow, without stalls.

    Absences whose copy back would have to begin before the copy out has ended are left out, the
    one that lacks most time first. Copies out are in the order of last use, copies in in the order
    of next use.

    Source: AutoSwap (arXiv 1903.06631), mode "no overhead".
    """
    kept = [a for a in absences if not a.recomputed]
    while kept:
        released, fetched = _out_ends(step, kept), latest_copies_in(step, kept)
        release = np.searchsorted(step.long_starts, released, side="left")
        fetch = np.searchsorted(step.long_starts, fetched, side="right") - 1
        # Slots that take no time begin at the same moment as their neighbours.
        release = np.maximum(release, [a.first for a in kept])
        fetch = np.minimum(fetch, [a.need for a in kept])
        room = fetch - release
        worst = int(room.argmin())
        if room[worst] > 0:
            return [Window(*w) for w in zip(kept, release.tolist(), fetch.tolist(), strict=True)]
        del kept[worst]
    return []


def _out_ends(step: Step, absences: Sequence[Absence]) -> list[int]:
    """When each copy out ends, in the second iteration, counted from the first slot of its own."""
    total, free = int(step.starts[-1]), 0
    order = sorted(range(len(absences)), key=lambda i: (absences[i].first, absences[i].gap))
    ends = [0] * len(absences)
    firsts: list[int] = step.long_starts[[a.first for a in absences]].tolist()
    for iteration in range(2):
        for i in order:
            ready = firsts[i] + iteration * total
            free = max(free, ready) + absences[i].out_ticks
            ends[i] = free - iteration * total
    return ends


def latest_copies_in(step: Step, absences: Sequence[Absence]) -> list[int]:
    """The latest start of each copy in that delays nobody: picoseconds, as `Step.start_of`."""
    total = int(step.starts[-1])
    needs: list[int] = step.long_starts[[a.need for a in absences]].tolist()
    starts = needs.copy()
    order = sorted(range(len(absences)), key=lambda i: (-absences[i].need, -absences[i].gap))
    limit = None
    for iteration in range(2):
        for i in order:
            if not absences[i].returns or absences[i].recomputed:
                continue
            needed = needs[i] - iteration * total
            end = needed if limit is None else min(needed, limit)
            limit = end - absences[i].in_ticks
            starts[i] = limit + iteration * total
    return starts
