"""Bytes of tensors that a step of training holds at its peak, for stacks of perceptrons."""

from __future__ import annotations

import math
from collections.abc import Sequence

from gradbase.ir.learning import Fit, Mlp
from gradbase.optimizer.context import Context
from gradbase.optimizer.cost_fit import encoded_width, layer_sizes, outputs_of, products_of

FLOAT = 4
_SLOTS = {"sgd": 0, "adagrad": 1, "rmsprop": 1, "adam": 2, "adamw": 2}
_ALIGNED, _LEAST_PLACES = 16, 2
"""As `runtime.train`: blocks of a stack are padded, and it has at least two places."""


def stack_bytes(
    sizes: Sequence[tuple[int, int]], fits: Sequence[Fit], batch: int, *, embedded: int = 0
) -> int:
    """Peak of one step of `fits` as a stack (one fit: alone).

    Parameters
    ----------
    sizes : sequence of (inputs, outputs)
        Of each layer, biases not counted.
    fits : sequence of Fit
        Of perceptrons of equal shape.
    batch : int, rows
    embedded : int
        Weights beside the layers: of embeddings, of a linear part; per fit.
    """
    stacked = len(fits) > 1
    places = max(len(fits), _LEAST_PLACES) if stacked else 1
    up = _up if stacked else int
    outs = [*(up(o) for _, o in sizes[:-1]), sizes[-1][1]]  # the last layer is not padded
    ins = [up(sizes[0][0] + 1), *outs[:-1]]  # the first has its bias among the inputs
    weights = embedded + sum(i * o for i, o in zip(ins, outs, strict=True)) + sum(outs[1:])
    vectors = 2 + _vectors(fits, stacked=stacked)  # weights, gradients, what the update needs
    hidden = sum(outs[:-1])
    drops = any(isinstance(f.network, Mlp) and f.network.dropout for f in fits)
    activations = hidden * (4 if drops else 2) + 3 * outs[-1]
    rows = -(-batch // _ALIGNED) * _ALIGNED if stacked else batch
    return FLOAT * (places * (weights * vectors + rows * activations) + ins[0] * rows)


def fit_bytes(fits: Sequence[Fit], context: Context) -> int | None:
    """Peak of one step of a group, as planned; None where nothing is known of a module."""
    if isinstance(fits[0].network, Mlp):
        sizes = layer_sizes(fits[0], context)
        beside = products_of(fits[0], context)[len(sizes) :]
        embedded = sum(i * o for i, o in beside)
        return stack_bytes(sizes, fits, fits[0].batch_size, embedded=embedded)
    if context.module_bytes is None:
        return None
    inputs, outputs = encoded_width(fits[0].data, context), outputs_of(fits[0], context)
    return context.module_bytes(fits[0], inputs, outputs)


def _vectors(fits: Sequence[Fit], *, stacked: bool) -> int:
    """Vectors as long as the weights that an update keeps: slots, scratch, hyper-parameters."""
    first = fits[0].optimizer
    slots = _SLOTS.get(first.name, 2) + (first.momentum > 0)
    if not stacked:
        return slots
    return slots + 2 + any(f.optimizer.l2_reg for f in fits) + (first.momentum > 0)


def _up(size: int) -> int:
    return math.ceil(size / _ALIGNED) * _ALIGNED
