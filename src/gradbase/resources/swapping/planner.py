"""`plan_swaps`: choose and schedule what leaves the memory during a traced step."""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import get_args

from gradbase.errors import BindError, DataError, InternalError, ResourceError, near
from gradbase.resources.lifetimes import Trace
from gradbase.resources.sizes import readable, size_bytes
from gradbase.resources.swapping.bounds import least_peak, least_stall
from gradbase.resources.swapping.choices import absences_of
from gradbase.resources.swapping.climb import climb, lean
from gradbase.resources.swapping.clock import Window
from gradbase.resources.swapping.link import Link
from gradbase.resources.swapping.plan import Decision, Mode, SwapPlan
from gradbase.resources.swapping.replay import Replay, Replays
from gradbase.resources.swapping.scores import SCORES
from gradbase.resources.swapping.search import (
    Found,
    Problem,
    better,
    by_cost,
    by_scores,
    cheaper_replays,
    tuned,
)
from gradbase.resources.swapping.step import TICKS_PER_S, Step, step_of

METHODS = (*SCORES, "combined", "auto")
USUAL_MIN_BYTES = 1 << 20
COARSE_SLOTS = 300
MOST_GAPS = 512


def plan_swaps(
    trace: Trace,
    limit: float | str | None,
    link: Link | str,
    *,
    mode: Mode = "stick",
    method: str = "auto",
    recompute: bool = True,
    persistent: bool = False,
    min_bytes: int | None = None,
    tries: int = 1000,
    seed: int = 0,
) -> SwapPlan:
    """Choose what leaves the memory during a step, when, and how it comes back.

    Parameters
    ----------
    trace : Trace
        Its operators' seconds are what copies hide behind.
    limit : float or str, bytes, or None
        Such as ``"500MB"``, for all storages together, persistent ones included. None, without
        overhead: as low as can be.
    link : Link or str
        Speeds of the two streams, or the name of a preset such as ``pcie3``.
    mode : 'stick' or 'no overhead'
        Keep the limit and let operators wait; or let none wait and come as near as that goes.
    method : str
        A score (``doa``, ``aoa``, ``wdoa``, ``swdoa``), ``combined`` (their linear combination,
        tuned for this trace and limit), or ``auto`` (the best of all, then local search).
    recompute : bool
        Whether what can be computed again may be dropped instead of copied, where that costs less.
    persistent : bool
        Whether weights and optimiser state may leave too, also from one iteration to the next.
    min_bytes : int, bytes, optional
        Smaller storages stay. By default 1 MiB, or less where the limit asks for it.
    tries, seed : int
        Schedules that the local search tries. The same arguments give the same plan.

    Raises
    ------
    ResourceError
        The limit is below what a single operation needs beside persistent storages; says how much.
    BindError
        There is no such link, mode or method.

    Source: AutoSwap (arXiv 1903.06631); local search, recomputation and bounds are our own.
    """
    planner = Planner(trace, link, recompute=recompute, persistent=persistent, min_bytes=min_bytes)
    return planner.plan(limit, mode=mode, method=method, tries=tries, seed=seed)


class Planner:
    """Plans for one trace and link under several limits; arguments are those of `plan_swaps`."""

    def __init__(
        self,
        trace: Trace,
        link: Link | str,
        *,
        recompute: bool = True,
        persistent: bool = False,
        min_bytes: int | None = None,
    ) -> None:
        if not trace.period:
            raise DataError("the trace has no operation, so nothing can leave the memory")
        self.trace, self.link = trace, Link.of(link)
        self._persistent, self._min_bytes = persistent, min_bytes
        self._whole = step_of(trace, self.link, min_bytes=1, persistent=persistent)
        self._replays = Replays(trace) if recompute else None

    @functools.cached_property
    def minimum(self) -> int:
        """Bytes below which the step cannot run: persistent ones and the largest operation's."""
        return int(self._whole.least_load().max(initial=0))

    @property
    def seconds(self) -> float:
        """Of an iteration's operators."""
        return float(self._whole.starts[-1]) / TICKS_PER_S

    @functools.cached_property
    def least_peak(self) -> int:
        """No schedule without overhead has a lower peak, bytes."""
        return least_peak(self._whole.coarse(COARSE_SLOTS))

    def least_overhead(self, limit: int) -> float:
        """No schedule of copies alone keeps the limit with fewer seconds of waiting."""
        return least_stall(self._whole.coarse(COARSE_SLOTS), limit) / TICKS_PER_S

    def plan(
        self,
        limit: float | str | None,
        *,
        mode: Mode = "stick",
        method: str = "auto",
        tries: int = 1000,
        seed: int = 0,
    ) -> SwapPlan:
        """As `plan_swaps`."""
        _one_of("mode", mode, get_args(Mode))
        _one_of("method", method, METHODS)
        if limit is None and mode == "stick":
            raise BindError(
                "mode 'stick' needs a limit", hint="pass bytes, or mode='no overhead' with None"
            )
        most = None if limit is None else _bytes(limit)
        if most is not None:
            self._refuse_below_minimum(most)
        lowest = max(most or 0, 0 if mode == "stick" else self.least_peak)
        fine, replays = self._candidates(lowest)
        coarse = fine.coarse(COARSE_SLOTS)
        problem = Problem(coarse, fine, replays, lowest, overhead=mode == "stick")
        found = _choose(problem, method, tries, seed)
        windows = _in_full(problem, found)
        asked = lowest if most is None else most
        return self._plan_of(fine, windows, replays, (mode, method, asked))

    def _candidates(self, limit: int) -> tuple[Step, dict[int, Replay]]:
        """The step with the gaps that can help to keep `limit`, and how to compute them again."""
        smallest = self._min_bytes or self._smallest(limit)
        step = self._whole.of(lambda g: g.size >= smallest)
        useful = {step.gaps[i] for i in step.across(limit)}
        step = step.of(useful.__contains__)
        replays: dict[int, Replay] = {}
        if self._replays is not None:
            found = {i: self._replays.of(g) for i, g in enumerate(step.gaps)}
            replays = {i: r for i, r in found.items() if r is not None}
        return step, replays

    def _smallest(self, limit: int) -> int:
        """The usual least size, or less where larger storages do not get the load down."""
        goal = max(limit, self.minimum + self.trace.peak / 50)
        smallest = USUAL_MIN_BYTES
        while smallest > 1:
            step = self._whole.of(lambda g: g.size >= smallest)  # noqa: B023 (called at once)
            low = int(step.least_load().max(initial=0))
            if low <= limit and (low <= goal or len(step.gaps) > MOST_GAPS):
                break
            smallest //= 2
        return smallest

    def _refuse_below_minimum(self, limit: int) -> None:
        least = self.minimum
        if self._min_bytes is not None:
            step = self._whole.of(lambda g: g.size >= (self._min_bytes or 1))
            least = int(step.least_load().max(initial=0))
        if limit >= least:
            return
        at = int(self._whole.least_load().argmax())
        operation = self.trace.operations[at]
        kept = 0 if self._persistent else self.trace.persistent_bytes
        raise ResourceError(
            f"the step cannot run within {limit:,} bytes: the least is {least:,} bytes "
            f"({readable(least)}), {readable(kept)} persistent and the rest for operation {at}, "
            f"`{operation.name}`",
            at=operation.layer or None,
            hint=f"raise the limit to {least:,} bytes or more, or lower the batch",
        )

    def _plan_of(
        self,
        step: Step,
        windows: tuple[Window, ...],
        replays: dict[int, Replay],
        asked: tuple[Mode, str, int],
    ) -> SwapPlan:
        decisions: list[Decision] = []
        for w in windows:
            gap, again = step.gaps[w.absence.gap], w.absence.recomputed
            decisions.append(
                Decision(
                    gap.storage,
                    gap.first - 1,
                    w.absence.need,
                    "recompute" if again else "swap",
                    w.release,
                    w.fetch,
                    gap.size,
                    replays[w.absence.gap].operations if again else (),
                )
            )
        mode, method, limit = asked
        return SwapPlan(self.trace, self.link, mode, method, limit, tuple(decisions), step, windows)


def _bytes(limit: float | str) -> int:
    return limit if isinstance(limit, int) else size_bytes(limit)


def _one_of(what: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        shown = ", ".join(f"'{k}'" for k in known)
        raise BindError(f"{what} is one of {shown}; found {value!r}", hint=near(str(value), known))


def _choose(problem: Problem, method: str, tries: int, seed: int) -> Found:
    """What `method` finds; copies alone first, then recomputation where it costs less."""
    nothing = problem.try_out({})
    if nothing is not None and not nothing.cost[0]:
        return nothing  # it fits as it is
    found = nothing
    for start in _starts(problem, method, seed):
        found = better(found, cheaper_replays(problem, start))
    if found is None:
        raise InternalError("all gaps together keep the limit, but no selection of them does")
    return lean(problem, climb(problem, found, tries, seed)) if method == "auto" else found


def _starts(problem: Problem, method: str, seed: int) -> list[Found]:
    """What the scores select, copying everything; for ``auto`` also by cost."""
    copying = replace(problem, replays={})
    alone = [method] if method in SCORES else list(SCORES)
    found = [by_scores(copying, {name: 1.0}) for name in alone]
    if method not in SCORES:
        found.append(tuned(copying, seed))
    if method == "auto" and problem.overhead and problem.replays:
        found.append(by_cost(problem))
    return [f for f in found if f is not None]


def _in_full(problem: Problem, found: Found) -> tuple[Window, ...]:
    """The schedule of what was found on the coarse step, operation by operation.

    Scheduled anew, or with the same moments where those are better.
    """
    coarse, fine = problem.step, problem.whole
    problem = replace(problem, step=fine)

    def place(slot: int) -> int:
        iteration, within = divmod(slot, coarse.slots)
        return int(coarse.begins[within]) + iteration * fine.slots

    absences = {a.gap: a for a in absences_of(fine, found.choices, problem.replays)}
    same = [
        Window(absences[w.absence.gap], place(w.release), place(w.fetch)) for w in found.windows
    ]
    best = better(problem.judge(found.choices, same, found.cost[1]), problem.try_out(found.choices))
    return best.windows if best else ()
