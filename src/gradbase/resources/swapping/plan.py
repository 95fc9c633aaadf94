"""What leaves the memory during a training step, when, how it comes back, and what that costs."""

from __future__ import annotations

import functools
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from gradbase.resources.lifetimes import Interval, Storage, Trace
from gradbase.resources.sizes import readable
from gradbase.resources.swapping.choices import Choice
from gradbase.resources.swapping.clock import Clock, Run, Window, load_of
from gradbase.resources.swapping.link import Link
from gradbase.resources.swapping.step import TICKS_PER_S, Step

Mode = Literal["stick", "no overhead"]


@dataclass(frozen=True)
class Decision:
    """A storage leaves and comes back.

    Parameters
    ----------
    storage : int
        Its id in the trace.
    after, before : int
        Operations that use it last and next; ``before >= period`` lies in the next iteration. Where
        nothing uses it again, `before` is where it is freed. A recomputation of another storage may
        need it back earlier than its own next operation.
    choice : 'swap' or 'recompute'
    release, fetch : int
        Its memory is free during the operations [release, fetch): the copy out is waited for before
        `release`, the copy in begins before `fetch`.
    size : int, bytes
    operations : tuple of int
        What runs again before operation `before`, where it is recomputed.
    """

    storage: int
    after: int
    before: int
    choice: Choice
    release: int
    fetch: int
    size: int
    operations: tuple[int, ...] = ()


@dataclass(frozen=True)
class SwapPlan:
    """Decisions for a traced step, and what they cost on a link.

    Parameters
    ----------
    trace : Trace
    link : Link
    mode : 'stick' or 'no overhead'
    method : str
        The score, or the search, that found it.
    limit : int, bytes
        What was asked for.
    decisions : tuple of Decision
        In order of `after`.
    """

    trace: Trace = field(repr=False)
    link: Link
    mode: Mode
    method: str
    limit: int
    decisions: tuple[Decision, ...] = field(repr=False)
    _step: Step = field(repr=False, compare=False)
    _windows: tuple[Window, ...] = field(repr=False, compare=False)

    @functools.cached_property
    def _run(self) -> Run:
        return Clock(self._step, self._windows).run()

    @functools.cached_property
    def peak(self) -> int:
        """Largest load, bytes, with persistent storages and the extra memory of recomputations."""
        return int(self.load().max(initial=0))

    @property
    def reduction(self) -> float:
        """Part of the trace's peak that is saved, 0 to 1."""
        return 1 - self.peak / self.trace.peak if self.trace.peak else 0.0

    @property
    def stall_s(self) -> float:
        """Seconds of an iteration in which operators wait for copies."""
        return self._run.stall_ticks / TICKS_PER_S

    @property
    def replay_s(self) -> float:
        """Seconds of an iteration in which operators run again."""
        return self._run.replay_ticks / TICKS_PER_S

    @property
    def overhead_s(self) -> float:
        """Seconds that an iteration takes longer: stalls and recomputation."""
        return self._run.overhead_ticks / TICKS_PER_S

    @property
    def bytes_moved(self) -> int:
        """Bytes copied out and in during an iteration."""
        return sum(self._step.gaps[c.gap].size for c in self._run.copies)

    def load(self) -> NDArray[np.int64]:
        """Bytes in memory during each operation: int64[period]."""
        return load_of(self._step, self._windows)

    def copies(self) -> list[tuple[int, Literal["out", "in"], float, float]]:
        """(storage, direction, start, end) of each copy; seconds since the iteration's start."""
        return [
            (
                self._step.gaps[c.gap].storage,
                c.direction,
                c.start / TICKS_PER_S,
                c.end / TICKS_PER_S,
            )
            for c in sorted(self._run.copies, key=lambda c: (c.start, c.direction))
        ]

    def intervals(self) -> list[Interval]:
        """Lifetimes to place anew: as `Trace.intervals`, cut where a storage is away.

        Parts are named ``<id>/0``, ``<id>/1``, ...; what a recomputation makes besides is
        ``<id>/again`` and lives for the operation that waits for it. Their largest overlap, with
        the persistent storages that stay, is `peak`.
        """
        away: dict[int, list[Decision]] = defaultdict(list)
        for d in self.decisions:
            away[d.storage].append(d)
        found = [i for i in self.trace.intervals() if i.id not in away]
        for s in self.trace.storages:
            if s.id in away:
                found += _parts(s, away[s.id], self.trace.period)
        n = self.trace.period
        for w in self._windows:
            if w.absence.extra:
                name = f"{self._step.gaps[w.absence.gap].storage}/again"
                at = w.absence.need % n
                found.append(Interval(name, at, at + 1, w.absence.extra))
        return found

    def __repr__(self) -> str:
        swaps = sum(d.choice == "swap" for d in self.decisions)
        saved = f"{readable(self.peak)} of {readable(self.trace.peak)} ({self.reduction:.1%} saved)"
        return "\n".join(
            (
                f"SwapPlan by {self.method}, {self.mode}, limit {readable(self.limit)}",
                f"  peak      {saved}",
                f"  swapped   {swaps} storages, {readable(self.bytes_moved)} moved",
                f"  again     {len(self.decisions) - swaps} storages, {self.replay_s:.4g} s",
                f"  waiting   {self.stall_s:.4g} s beside {self._step_s:.4g} s of operators",
            )
        )

    @property
    def _step_s(self) -> float:
        return float(self._step.starts[-1]) / TICKS_PER_S


def _parts(storage: Storage, away: list[Decision], period: int) -> list[Interval]:
    """What is left of a life, in order of time; parts begin in [0, period)."""
    away = sorted(away, key=lambda d: d.release)
    if storage.persistent:  # from the return of the last absence, in the iteration before, on
        begins = [away[-1].fetch - period, *(d.fetch for d in away[:-1])]
        ends = [d.release for d in away]
    else:
        # A gap that lies in the next iteration is written as if it lay in this one.
        shift = [period * (d.release < storage.allocated) for d in away]
        pairs = sorted((d.release + k, d.fetch + k) for d, k in zip(away, shift, strict=True))
        begins = [storage.allocated, *(fetch for _, fetch in pairs)]
        ends = [*(release for release, _ in pairs), storage.freed]
    parts: list[Interval] = []
    for number, (begin, end) in enumerate(zip(begins, ends, strict=True)):
        back = begin // period * period
        if end > begin:
            parts.append(Interval(f"{storage.id}/{number}", begin - back, end - back, storage.size))
    return parts
