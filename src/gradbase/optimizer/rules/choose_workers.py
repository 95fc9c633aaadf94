"""How many groups of fits train at once, and where."""

from __future__ import annotations

from gradbase.ir.learning import Fit, FusedFit, Search
from gradbase.ir.node import Node
from gradbase.optimizer.context import Alternative, Choice, Context
from gradbase.optimizer.cost import estimate
from gradbase.optimizer.cost_fit import (
    START_S,
    access_seconds,
    group_seconds,
    held_seconds,
    hops,
    makespan,
    team_seconds,
)
from gradbase.optimizer.cost_memory import fit_bytes
from gradbase.optimizer.quantities import quantity
from gradbase.optimizer.rule import rule


@rule(mandatory=True)
def choose_workers(n: Node, ctx: Context) -> Node | None:
    """Set `Search.workers` to the fewest that finish soonest, and where they are.

    Each has one torch thread; the longest groups come first. What was asked for stays. Results do
    not depend on it. With the optimiser off: one worker, in this process.
    """
    match n:
        case Search(trials=trials) if (
            not n.workers or not n.threads or "auto" in (n.executor, n.access)
        ):
            for data in dict.fromkeys(f.data for f in n.fits):
                estimate(data, ctx)
            seconds = {t: group_seconds(_fits(t), ctx) for t in trials}
            ordered = tuple(sorted(trials, key=lambda t: -seconds[t]))
            most = min(ctx.threads, len(trials)) if ctx.settings.optimizer else 1
            each = list(seconds.values())
            workers = min(range(1, most + 1), key=lambda w: (round(makespan(each, w), 3), w))
            chosen = n.replace(
                trials=ordered if ctx.settings.optimizer else trials,
                workers=n.workers or _with_teams(n, max(workers, 1), ctx),
                threads=n.threads or 1,
            )
            places = _places(chosen, each, ctx)
            if n.executor == "auto":
                better = places[_PROCESSES] < _WORTH * places[_HERE] and ctx.settings.optimizer
                chosen = chosen.replace(executor="processes" if better else "in_process")
            accesses = access_seconds(chosen, ctx)
            if n.access == "auto":
                best = min(accesses, key=lambda way: accesses[way])
                elsewhere = chosen.executor != "in_process"
                chosen = chosen.replace(access=best if elsewhere else "direct")
            ctx.choices[chosen] = _choice(n, chosen, places, accesses, ctx)
            return chosen
    return None


_HERE, _PROCESSES = "in this process", "in worker processes"
_WORTH = 0.9
"""Other processes must be expected to be so much faster: they take memory of their own."""


def _with_teams(n: Search, workers: int, ctx: Context) -> int:
    """One worker for each replica of each trial, where others than this process train."""
    if n.executor in ("auto", "in_process"):
        return workers
    wanted = len(n.trials) * max(f.replicas for f in n.fits)
    return max(workers, min(ctx.threads, wanted))


def _team(n: Search) -> int:
    """Workers that share each trial's batches; 1: none do."""
    share = max(n.workers // max(len(n.trials), 1), 1)
    return min(*(f.replicas for f in n.fits), 1 << share.bit_length() - 1)


def _fits(trial: Fit | FusedFit) -> tuple[Fit, ...]:
    return trial.fits if isinstance(trial, FusedFit) else (trial,)


def _places(search: Search, seconds: list[float], ctx: Context) -> dict[str, float]:
    """What training takes in threads of this process, and in processes of their own."""
    pure = makespan(seconds, search.workers)
    held = held_seconds([_fits(t) for t in search.trials], ctx) if search.workers > 1 else 0.0
    size = sum(estimate(d, ctx).bytes for d in {f.data for f in search.fits})
    return {
        _HERE: max(pure, held),
        _PROCESSES: pure + START_S + size / ctx.calibration.copy_bytes_s,
    }


def _choice(
    before: Search,
    chosen: Search,
    places: dict[str, float],
    accesses: dict[str, float],
    ctx: Context,
) -> Choice:
    found = ctx.choices.get(before)
    count = len(chosen.trials)
    reason = found.reason if found else "each fit trains alone"
    largest = max((fit_bytes(_fits(t), ctx) or 0 for t in chosen.trials), default=0)
    if largest:
        reason += f"; a step holds {quantity(largest, 'B')}"
    what = f"{found.chosen if found else f'{count} alone'} on {chosen.workers} workers"
    alternatives = found.alternatives if found else ()
    if chosen.executor != "in_process":
        what += f", {chosen.executor}" + (", hopping from shard to shard" if hops(chosen) else "")
        reason += f"; access to rows: {chosen.access}"
        alternatives += tuple(Alternative(f"{way} access", s) for way, s in accesses.items())
        team = _team(chosen)
        if team > 1:
            what += f", {team} of them for each trial (data-parallel)"
            alternatives += tuple(
                Alternative(f"{size} for each trial", team_seconds(chosen.fits[0], size, ctx))
                for size in (1, team)
            )
    if chosen.workers > 1:
        alternatives += tuple(Alternative(place, s) for place, s in places.items())
    return Choice(what, reason, alternatives, found.details if found else ())
