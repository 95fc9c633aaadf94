"""Peak against overhead: what each method reaches at each limit, and what none can."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from gradbase.errors import DataError
from gradbase.resources.lifetimes import Trace
from gradbase.resources.sizes import readable
from gradbase.resources.swapping.link import Link
from gradbase.resources.swapping.plan import SwapPlan
from gradbase.resources.swapping.planner import METHODS, Planner

__all__ = ["Frontier", "Point", "frontier"]


@dataclass(frozen=True)
class Point:
    """What a method reaches.

    Parameters
    ----------
    limit, peak : int, bytes
        Asked for and reached.
    overhead_s : float, seconds
        Waiting and recomputing in an iteration.
    bytes_moved : int, bytes
        In an iteration.
    method : str
        As in `plan_swaps`; ``no overhead`` is added where nothing may wait.
    bound_s : float, seconds
        No schedule of copies alone keeps the limit with less overhead.
    """

    limit: int
    peak: int
    overhead_s: float
    bytes_moved: int
    method: str
    bound_s: float


@dataclass(frozen=True)
class Frontier:
    """A table of what methods reach under several limits.

    Parameters
    ----------
    points : tuple of Point
        By limit, largest first.
    peak, minimum : int, bytes
        Of the trace, and what its largest operation needs.
    least_peak : int, bytes
        No schedule without overhead has a lower peak.
    seconds : float, seconds
        Of an iteration's operators.
    """

    points: tuple[Point, ...] = field(repr=False)
    peak: int
    minimum: int
    least_peak: int
    seconds: float

    def best(self) -> list[Point]:
        """Points that no other is better than in peak and overhead, by falling peak."""
        found: list[Point] = []
        for p in sorted(self.points, key=lambda p: (p.overhead_s, p.peak, p.bytes_moved)):
            if not found or p.peak < found[-1].peak:
                found.append(p)
        return found

    def __repr__(self) -> str:
        title = f"{'limit':>12} {'peak':>12} {'overhead':>9} {'bound':>8} {'moved':>12}  method"
        rows = [
            f"{readable(p.limit):>12} {readable(p.peak):>12} {p.overhead_s / self.seconds:>9.2%}"
            f" {p.bound_s / self.seconds:>8.2%} {readable(p.bytes_moved):>12}  {p.method}"
            for p in self.points
        ]
        end = (
            f"peak {readable(self.peak)}, least {readable(self.minimum)}; without overhead none "
            f"reaches less than {readable(self.least_peak)}; operators take {self.seconds:.4g} s"
        )
        return "\n".join([title, *rows, end])

    def plot(self, path: str | Path) -> Path:
        """Draw overhead against peak as a PNG; needs matplotlib (the extra ``plots``)."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(7, 4.5), layout="constrained")
        axes = figure.subplots()
        unit = 2.0**20
        for method in dict.fromkeys(p.method for p in self.points):
            of = [p for p in self.points if p.method == method]
            axes.plot(
                [p.peak / unit for p in of],
                [100 * p.overhead_s / self.seconds for p in of],
                marker="o",
                markersize=3,
                label=method,
            )
        bounds = sorted({(p.limit, p.bound_s) for p in self.points if p.bound_s})
        axes.plot(
            [limit / unit for limit, _ in bounds],
            [100 * bound / self.seconds for _, bound in bounds],
            "k--",
            linewidth=1,
            label="bound of copying",
        )
        axes.axvline(self.least_peak / unit, color="grey", linewidth=0.8)
        axes.set_xlabel("peak, MiB")
        axes.set_ylabel("overhead, % of the operators' time")
        axes.legend(fontsize=8)
        figure.savefig(Path(path), dpi=120)
        return Path(path)


def frontier(
    trace: Trace,
    link: Link | str,
    *,
    limits: int | Sequence[float] = 8,
    methods: Sequence[str] = METHODS,
    recompute: bool = True,
    persistent: bool = False,
    tries: int = 500,
    seed: int = 0,
) -> Frontier:
    """Plan under several limits with several methods.

    Parameters
    ----------
    limits : int or sequence of float, bytes
        Or how many, evenly from the least to the peak.
    methods : sequence of str
        Each also without overhead, as low as it gets. What keeps a lower limit keeps a higher one
        too, so the best of both counts: overhead never rises with the limit.
    recompute, persistent, tries, seed
        As in `plan_swaps`.

    Raises
    ------
    DataError
        No limit or no method is given.
    """
    planner = Planner(trace, link, recompute=recompute, persistent=persistent)
    if isinstance(limits, int):
        limits = [float(x) for x in np.linspace(trace.peak, planner.minimum, limits + 1)[1:]]
    if not limits or not methods:
        raise DataError("a frontier needs at least one limit and one method")
    wanted = sorted({int(limit) for limit in limits})
    bounds = {limit: planner.least_overhead(limit) for limit in wanted}
    points: list[Point] = []
    for method in methods:
        best = planner.plan(None, mode="no overhead", method=method, tries=tries, seed=seed)
        points.append(_point(best, best.peak, f"{method}, no overhead", 0.0))
        plans = [best]
        for limit in wanted:
            plans.append(planner.plan(limit, method=method, tries=tries, seed=seed))
            fitting = [plan for plan in plans if plan.peak <= limit]
            least = min(fitting, key=lambda plan: (plan.overhead_s, plan.bytes_moved))
            points.append(_point(least, limit, method, bounds[limit]))
    points.sort(key=lambda p: (-p.limit, p.method))
    return Frontier(tuple(points), trace.peak, planner.minimum, planner.least_peak, planner.seconds)


def _point(plan: SwapPlan, limit: int, method: str, bound_s: float) -> Point:
    return Point(limit, plan.peak, plan.overhead_s, plan.bytes_moved, method, bound_s)
