"""Seconds of one model per group: in stacks, and one group after the other."""

from __future__ import annotations

import math

from gradbase.ir.grouping import BY_ROWS, FitGroups
from gradbase.ir.learning import Fit, Mlp
from gradbase.optimizer.context import Context
from gradbase.optimizer.cost_fit import encoded_width, layer_sizes, step_seconds, training_share

STACK_ELEMENTS = 400_000
"""Parameters of one stack: with its optimiser's slots they stay in the cache."""
_USUAL = (16,)
"""Hidden units where they follow from the rows of each group."""
_SOLVED_ROWS = 10
_SOLVING_S = 3e-4
"""Of one group, besides its products (own measurement)."""
_ASKING_S = {"tpe": 5e-4, "gp": 8e-2}
"""Of a sampler, for one trial (own measurement)."""
_GROUP_S, _TRIAL_S, _STEP_S = 5e-4, 7e-4, 2.5e-5
"""Of a group, to be split, encoded and stored; of a trial, to be measured and kept; at least of a
step in a stack, on one thread (1,000 groups in 1.2 to 1.6 s on two threads)."""
_STATEMENT_S = 5e-2
"""Of a statement of its own for a group."""


def by_group_seconds(node: FitGroups, context: Context) -> dict[str, float]:
    """Seconds of training in ``stacks``, and of groups ``alone`` on one thread."""
    fit = _usual(node.fits[0])
    groups = max(node.groups, 1)
    rows = max(context.estimates[node.data].rows / groups * training_share(fit), 1.0)
    width = encoded_width(node.data, context)
    asking = groups * node.trials * (_TRIAL_S + _ASKING_S.get(node.procedure, 0.0))
    stored, loop = groups * _GROUP_S + asking, groups * _STATEMENT_S + asking
    if node.solvable and node.rows[1] >= _SOLVED_ROWS * width:
        products = 2.0 * rows * width**2 / context.calibration.gemm_flops
        seconds = groups * node.trials * (_SOLVING_S + products)
        return {"stacks": seconds + stored, "alone": seconds + loop}
    batch = min(fit.batch_size, int(rows))
    steps = groups * node.epochs * math.ceil(rows / batch)
    size = sum(i * o + o for i, o in layer_sizes(fit, context))
    networks = groups * node.trials
    places = min(max(STACK_ELEMENTS // size, 2), networks)
    workers = min(context.threads, math.ceil(networks / places))
    stacked = max(step_seconds((fit,) * places, batch, context) / places, _STEP_S) / max(workers, 1)
    alone = step_seconds((fit,), batch, context)
    return {"stacks": steps * stacked + stored, "alone": steps * alone + loop}


def _usual(fit: Fit) -> Fit:
    network = fit.network
    if isinstance(network, Mlp) and network.hidden_units == BY_ROWS:
        return fit.replace(network=network.replace(hidden_units=_USUAL))
    return fit
