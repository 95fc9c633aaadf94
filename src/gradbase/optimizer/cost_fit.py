"""Seconds of training, alone and as a stack, and the grouping of a search's fits.

Alone, a batch is small products at full speed with a fixed time per torch call. A stack of k fits
makes k times fewer calls; its first layer is one large product; the others are batched products,
which reach full speed only when layers are large; its activations and optimiser slots leave the
cache. So stacking wins for small layers, and loses above about 1e5 multiply-adds a row and layer.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from gradbase.ir.facts import Pilot
from gradbase.ir.learning import Dataset, Fit, Mlp, Search
from gradbase.ir.networks import Autoencoder, WideDeep, optimizers_of
from gradbase.ir.types import SqlType
from gradbase.optimizer.context import Alternative, Choice, Context
from gradbase.optimizer.selectivity import column_statistics

LARGEST_GROUP = 64
"""Fits in a group: beyond, calls are no longer what a batch costs and memory grows."""
_CALLS_PER_LAYER, _CALLS_PER_STEP = 10, 12
_AUTOGRAD_CALLS = 140
"""Torch calls of a step: hand-written kernel (per layer and step), autograd with AdamW."""
_CALL_SHARE, _MODULE_SHARE = 0.6, 0.75
"""Of a call's fixed time under Python's lock (own measurement: perceptrons train in two threads
1.55 times as fast as in one); and of a module's time: small ones gain nothing from threads, large
ones all, and which it is nobody knows before."""
START_S = 5.0
"""Until worker processes have loaded torch and begun, all of them at once (own measurement)."""
_SENT = 4
"""How often a byte is copied on its way through a socket and into a file."""
_ASKED_BYTES_S, _MARKED_ROWS_S = 50e6, 1e6
"""A server's answer, joined and encoded; and writing a side table (orders of magnitude only)."""
_MEETING_S = 3e-4
"""Of a team, in a step: each waits for the last (an order of magnitude)."""
_MODULE_FLOPS = 1e6
"""FLOPs a row and forward pass of a Python module, whose layers are not known here."""
_SMALL_LAYER, _GROWTH = 64 * 64, 0.35
"""Batched products of `_SMALL_LAYER` weights run at `stacked_flops`; larger ones grow faster."""
_PASSES = 6
"""How often an activation is read or written in a step."""
_SLOT_PASSES = {"sgd": 3, "adagrad": 5, "rmsprop": 5}
_STACKED = ("sgd", "adam", "adamw", "rmsprop", "adagrad")
"""Optimisers whose steps can be taken for many fits at once."""
_CACHED = ((2, 4.0), (16, 2.0))
"""(working set in second-level caches, how much faster than `copy_bytes_s` it moves)."""
_MARGIN = 0.9
"""So much of the time alone a stack of users' modules must be expected to take."""
_ONE_HOT = 8
_EVALUATING = 1 / 3
"""Of a training row: forward only."""


@dataclass(frozen=True)
class Schedule:
    """Groups of fits that train together, and why."""

    groups: tuple[tuple[Fit, ...], ...]
    seconds: float
    choice: Choice


def plan_search(fits: tuple[Fit, ...], context: Context) -> Schedule:
    """The grouping of `fits` that is expected to finish first on the threads there are."""
    alone = tuple((f,) for f in fits)
    options: dict[str, tuple[tuple[Fit, ...], ...]] = {"alone": alone}
    for most in (LARGEST_GROUP, *_shares(fits, context)):
        options[f"at most {most} together"] = _grouped(fits, most, context)
    finish = {w: _finish(g, context) for w, g in options.items()}
    # On a tie the first: alone, then the largest groups.
    best = min(options, key=lambda w: finish[w])
    shown = {options[w]: Alternative(_counted(options[w]), finish[w]) for w in reversed(options)}
    sizes = {len(g) for g in options[best]}
    gain = finish["alone"] / max(finish[best], 1e-12)
    reason = f"groups of up to {max(sizes)}: {gain:.1f}x faster than each fit alone"
    if max(sizes) == 1:
        reason = "stacking would not be faster at these layer sizes" if len(fits) > 1 else "one fit"
    tried = tuple(_told(p) for p in context.pilots.values())
    choice = Choice(_counted(options[best]), reason, tuple(shown.values())[::-1], tried)
    return Schedule(options[best], finish[best], choice)


def _told(pilot: Pilot) -> str:
    """What minibatches showed, in a line."""
    if pilot.reason:
        return f"pilot minibatches: alone, because {pilot.reason}"
    alone, fixed, each = (f"{1e3 * s:.2f}" for s in (pilot.alone_s, pilot.stack_s, pilot.each_s))
    return f"pilot minibatches: a step takes {alone} ms alone, {fixed} + {each} n ms for n stacked"


def makespan(seconds: list[float], workers: int) -> float:
    """When the last of `workers` ends, longest groups first."""
    ends = [0.0] * max(workers, 1)
    for work in sorted(seconds, reverse=True):
        heapq.heapreplace(ends, ends[0] + work)
    return max(ends)


def group_seconds(fits: tuple[Fit, ...], context: Context) -> float:
    """Training `fits` as one stack on one thread (one fit: alone)."""
    fit = fits[0]
    rows = training_rows(fit, context)
    batch = min(fit.batch_size, max(int(rows), 1))
    steps = math.ceil(rows / batch) * fit.epochs
    return steps * step_seconds(fits, batch, context) * (1 + _evaluated(fit) * _EVALUATING)


def hops(search: Search) -> bool:
    """Whether trials hop from worker to worker, each of which holds some of the shards.

    In a shared order all trials would want the same worker first, so then every worker holds all.
    """
    elsewhere = search.executor not in ("auto", "in_process")
    return elsewhere and any(f.first_shard for f in search.fits)


def access_seconds(search: Search, context: Context) -> dict[str, float]:
    """Until workers have their rows: mapped from files (direct), sent to them (export), or asked of
    the database by themselves, where it can be (targeted).

    A hopping search needs each row on one worker, others on all.
    """
    data = {f.data for f in search.fits}
    size = sum(context.estimates[d].bytes for d in data)
    copies = 1 if hops(search) else max(search.workers, 1)
    written = size / context.calibration.copy_bytes_s
    found = {"direct": written, "export": written + _SENT * copies * written}
    if context.capabilities.side_tables and all(d.row_key for d in data):
        rows = sum(context.estimates[d].rows for d in data)
        asked = size * copies / max(search.workers, 1) / _ASKED_BYTES_S
        found["targeted"] = rows / _MARKED_ROWS_S + asked
    return found


def team_seconds(fit: Fit, size: int, context: Context) -> float:
    """Training a fit whose batches' parts `size` workers compute: less work, more to be said."""
    if size == 1:
        return group_seconds((fit,), context)
    steps = training_rows(fit, context) / fit.batch_size * fit.epochs
    part = max(fit.batch_size // size, 1)
    saved = steps * (
        step_seconds((fit,), fit.batch_size, context) - step_seconds((fit,), part, context)
    )
    sizes = products_of(fit, context) if isinstance(fit.network, Mlp) else []
    sent = 4 * sum(i * o for i, o in sizes) * (size - 1) * _SENT / context.calibration.copy_bytes_s
    return group_seconds((fit,), context) - saved + steps * (_MEETING_S + sent)


def held_seconds(groups: Sequence[tuple[Fit, ...]], context: Context) -> float:
    """Seconds in which threads of one process keep each other out: calls, not what they compute."""
    total = 0.0
    for fits in groups:
        if not isinstance(fits[0].network, Mlp):
            total += group_seconds(fits, context) * _MODULE_SHARE
            continue
        steps = math.ceil(training_rows(fits[0], context) / fits[0].batch_size) * fits[0].epochs
        calls = _CALLS_PER_LAYER * len(layer_sizes(fits[0], context)) + _CALLS_PER_STEP
        total += steps * calls * context.calibration.op_s * _CALL_SHARE
    return total


def refit_seconds(fit: Fit, context: Context) -> float:
    """Training the best of a search over folds once more, on all rows; 0 without folds."""
    folds = fit.data.split.folds
    return group_seconds((fit,), context) * folds / (folds - 1) if folds else 0.0


def step_seconds(fits: tuple[Fit, ...], batch: int, context: Context) -> float:
    """One batch of `batch` rows through all of `fits`: forward, backward, update."""
    fit, count, calibration = fits[0], len(fits), context.calibration
    if not isinstance(fit.network, Mlp):
        found = _pilot_of(fit, context)
        if found is not None and found.alone_s:
            return found.alone_s if count == 1 else found.stack_s + count * found.each_s
        flops = 3 * _MODULE_FLOPS * batch * count
        return flops / calibration.gemm_flops + count * _AUTOGRAD_CALLS * calibration.op_s
    sizes = products_of(fit, context)
    compute = 0.0
    for at, (width_in, width_out) in enumerate(sizes):
        flops = _layer_flops(at, width_in, width_out) * batch * count
        one_product = count == 1 or at == 0
        speed = calibration.gemm_flops
        if not one_product:
            larger = max(1.0, width_in * width_out / _SMALL_LAYER)
            speed = min(speed, calibration.stacked_flops * larger**_GROWTH)
        compute += flops / speed
    calls = _CALLS_PER_LAYER * len(sizes) + _CALLS_PER_STEP
    activations = 4 * batch * count * sum(out for _, out in sizes)
    weights = 4 * count * sum(i * o + o for i, o in sizes)
    passes = _SLOT_PASSES.get(fit.optimizer.name, 7)
    moved = _PASSES * activations + passes * weights
    caches = (activations + weights) / calibration.cache_bytes
    faster = next((f for most, f in _CACHED if caches <= most), 1.0)
    speed = calibration.copy_bytes_s * faster
    return compute + calls * calibration.op_s + moved / speed


def training_flops(fit: Fit, context: Context) -> float:
    """FLOPs of all epochs of a fit."""
    rows = training_rows(fit, context) * fit.epochs
    if not isinstance(fit.network, Mlp):
        return 3 * _MODULE_FLOPS * rows
    sizes = products_of(fit, context)
    return rows * sum(_layer_flops(at, i, o) for at, (i, o) in enumerate(sizes))


def training_rows(fit: Fit, context: Context) -> float:
    """Rows of an epoch; the dataset has been estimated."""
    return max(context.estimates[fit.data].rows * training_share(fit), 1.0)


def training_share(fit: Fit) -> float:
    """Of the rows, those that train."""
    return 1 - _evaluated(fit)


def layer_sizes(fit: Fit, context: Context) -> list[tuple[int, int]]:
    """(inputs, outputs) of each layer of an `Mlp`."""
    assert isinstance(fit.network, Mlp)
    widths = [encoded_width(fit.data, context), *fit.network.hidden_units, outputs_of(fit, context)]
    return list(itertools.pairwise(widths))


def products_of(fit: Fit, context: Context) -> list[tuple[int, int]]:
    """`layer_sizes`, and that of a linear part beside them."""
    sizes = layer_sizes(fit, context)
    return [*sizes, (sizes[0][0], sizes[-1][1])] if isinstance(fit.network, WideDeep) else sizes


def encoded_width(data: Dataset, context: Context) -> int:
    """Inputs of a network on `data`: as told, or one per number and a guess per category."""
    if context.encoded_width is not None:
        return context.encoded_width(data)
    return sum(_width(column.type) for column in data.inputs)


def _width(of: SqlType) -> int:
    if of.is_vector or of.is_nested:
        return of.length
    return _ONE_HOT if of.is_text or of.kind == "list" else 1


def _layer_flops(at: int, width_in: int, width_out: int) -> float:
    """Per row: forward and weight gradient; the first layer needs no gradient of its input."""
    return 2.0 * (3 if at else 2) * width_in * width_out


def _evaluated(fit: Fit) -> float:
    split = fit.data.split
    if split.folds:
        return 1 / split.folds if split.fold else 0.0
    return min(split.eval_fraction + split.test_fraction, 0.9)


def outputs_of(fit: Fit, context: Context) -> int:
    """Outputs of a network; ten where the classes are not known yet."""
    if isinstance(fit.network, Autoencoder):
        return encoded_width(fit.data, context)
    if fit.data.task != "multiclass":
        return 1
    known = column_statistics(fit.data.relation, fit.data.label, context)
    return known.distinct if known is not None and known.distinct else 10


# -- grouping ----------------------------------------------------------------------------------


def group_key(fit: Fit, context: Context) -> object:
    """Equal for fits that can train as one stack; None for one that cannot."""
    if fit.optimizer.name not in _STACKED or fit.replicas > 1:
        return None
    shape = _shape(fit, context)
    if shape is None:
        return None
    optimizer = [(o.name, o.momentum > 0, o.l1_reg > 0) for o in optimizers_of(fit)]
    stopping = (fit.early_stop, fit.min_rel_progress, fit.patience, fit.auto_class_weights)
    rest = (fit.batch_size, fit.epochs, fit.loss, fit.first_shard, stopping)
    return (fit.data, shape, *optimizer, *rest)


def _shape(fit: Fit, context: Context) -> object:
    """What the networks of a stack have in common."""
    shape = fit.network
    if not isinstance(shape, Mlp):
        return _likeness(fit, context)
    shape = shape.replace(dropout=0.0)
    if isinstance(shape, WideDeep):
        shape = shape.replace(linear_learn_rate=None)
    if isinstance(shape, Autoencoder):
        shape = shape.replace(l1_reg_activation=0.0)
    return shape


def _likeness(fit: Fit, context: Context) -> object:
    if context.modules is None:
        return None
    inputs, outputs = encoded_width(fit.data, context), outputs_of(fit, context)
    return context.modules.likeness(fit, inputs, outputs)


def _pilot_of(fit: Fit, context: Context) -> Pilot | None:
    """Minibatches of fits like this one, where some were tried out."""
    if not context.pilots:
        return None
    key = group_key(fit, context)
    return None if key is None else context.pilots.get(key)


def _try_out(key: object, fits: Sequence[Fit], context: Context) -> Pilot | None:
    """A few minibatches of users' modules of one key, alone and as a stack; None for others."""
    if context.modules is None or isinstance(fits[0].network, Mlp):
        return None
    if key not in context.pilots:
        inputs, outputs = encoded_width(fits[0].data, context), outputs_of(fits[0], context)
        context.pilots[key] = context.modules.pilot(fits, inputs, outputs)
    return context.pilots[key]


def _grouped(fits: tuple[Fit, ...], most: int, context: Context) -> tuple[tuple[Fit, ...], ...]:
    """Fits of equal key in even groups of at most `most`; alone where that is no slower."""
    by_key: dict[object, list[Fit]] = {}
    for fit in fits:
        key = group_key(fit, context)
        by_key.setdefault(fit if key is None else key, []).append(fit)
    groups: list[tuple[Fit, ...]] = []
    for key, found in by_key.items():
        tried = _try_out(key, found, context) if len(found) > 1 else None
        if tried is not None and tried.reason:
            groups += [(f,) for f in found]
            continue
        parts = math.ceil(len(found) / most)
        size = math.ceil(len(found) / parts)
        stacked = [tuple(found[at : at + size]) for at in range(0, len(found), size)]
        alone = group_seconds((found[0],), context) * len(found)
        margin = 1.0 if tried is None else _MARGIN
        if sum(group_seconds(g, context) for g in stacked) < alone * margin:
            groups += stacked
        else:
            groups += [(f,) for f in found]
    return tuple(sorted(groups, key=lambda g: g[0].trial))


def _shares(fits: tuple[Fit, ...], context: Context) -> tuple[int, ...]:
    """Group sizes that give every worker the same number of fits, once, twice and four times."""
    share = math.ceil(len(fits) / max(context.threads, 1))
    sizes = (math.ceil(share / parts) for parts in (1, 2, 4))
    return tuple(dict.fromkeys(s for s in sizes if 1 < s < LARGEST_GROUP))


def _finish(groups: tuple[tuple[Fit, ...], ...], context: Context) -> float:
    return makespan([group_seconds(g, context) for g in groups], context.threads)


def _counted(groups: tuple[tuple[Fit, ...], ...]) -> str:
    largest = max(len(g) for g in groups)
    if largest == 1:
        return f"{len(groups)} alone"
    return f"{len(groups)} group{'s' * (len(groups) > 1)}, largest {largest}"
