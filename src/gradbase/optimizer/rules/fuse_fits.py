"""Fits of equal shape train as one stack."""

from __future__ import annotations

from gradbase.ir.learning import Fit, FusedFit, Search
from gradbase.ir.node import Node
from gradbase.optimizer.context import Context
from gradbase.optimizer.cost import estimate
from gradbase.optimizer.cost_fit import plan_search
from gradbase.optimizer.rule import rule


@rule(exactness="tolerance", requires=("share_scan",), source="own; Cerebro's model batching")
def fuse_fits(n: Node, ctx: Context) -> Node | None:
    """Search over fits -> Search over groups of fits, where that is expected to be faster.

    Fits in a group have the same data, network shape, batch size, kind of optimiser and epochs;
    learning rates, regularisation, dropout and seeds may differ. Users' modules of equal structure
    are tried out over a few minibatches first.
    """
    match n:
        case Search(trials=trials) if all(isinstance(t, Fit) for t in trials):
            for data in dict.fromkeys(f.data for f in n.fits):
                estimate(data, ctx)
            schedule = plan_search(n.fits, ctx)
            if all(len(group) == 1 for group in schedule.groups):
                ctx.choices[n] = schedule.choice
                return None
            groups = tuple(FusedFit(g) if g[1:] else g[0] for g in schedule.groups)
            fused = n.replace(trials=groups)
            ctx.choices[fused] = schedule.choice
            return fused
    return None
