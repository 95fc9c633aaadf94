"""How many groups of fits train at once."""

from __future__ import annotations

from gradbase.ir.learning import FusedFit, Search
from gradbase.ir.node import Node
from gradbase.optimizer.context import Choice, Context
from gradbase.optimizer.cost import estimate
from gradbase.optimizer.cost_fit import group_seconds, makespan
from gradbase.optimizer.cost_memory import fit_bytes
from gradbase.optimizer.quantities import quantity
from gradbase.optimizer.rule import rule


@rule(mandatory=True)
def choose_workers(n: Node, ctx: Context) -> Node | None:
    """Set `Search.workers` to the fewest that finish soonest, with one torch thread each.

    What was asked for stays. Results do not depend on it. With the optimiser off: one.
    """
    match n:
        case Search(trials=trials) if not n.workers or not n.threads or n.executor == "auto":
            for data in dict.fromkeys(f.data for f in n.fits):
                estimate(data, ctx)
            groups = [t.fits if isinstance(t, FusedFit) else (t,) for t in trials]
            seconds = [group_seconds(g, ctx) for g in groups]
            most = min(ctx.threads, len(groups)) if ctx.settings.optimizer else 1
            workers = min(range(1, most + 1), key=lambda w: (round(makespan(seconds, w), 3), w))
            chosen = n.replace(
                workers=n.workers or max(workers, 1),
                threads=n.threads or 1,
                executor="in_process" if n.executor == "auto" else n.executor,
            )
            before, one_each = ctx.choices.get(n), f"{len(groups)} alone"
            reason = before.reason if before else "each fit trains alone"
            largest = max((fit_bytes(g, ctx) or 0 for g in groups), default=0)
            if largest:
                reason += f"; a step holds {quantity(largest, 'B')}"
            ctx.choices[chosen] = Choice(
                f"{before.chosen if before else one_each} on {chosen.workers} workers",
                reason,
                before.alternatives if before else (),
            )
            return chosen
    return None
