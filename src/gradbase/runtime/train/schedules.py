"""How a learning rate changes from step to step."""

from __future__ import annotations

import math
from collections.abc import Callable

from gradbase.ir.stepping import OWN_LOSS, Stepping

CLIP_EPS = 1e-6
"""Added to the norm that gradients are divided by, as in torch."""


Own = Callable[[int, int], float]
"""A user's schedule: the factor of a step (from 0), of so many."""
Schedules = Callable[[str], Own]
"""Finds it by its reference."""


def no_schedules(reference: str) -> Own:
    """Where users' schedules do not go."""
    raise AssertionError(reference)


def factor(
    of: Stepping, step: int, per_epoch: int, epochs: int, own: Schedules = no_schedules
) -> float:
    """What the learning rate of a step (from 0) is multiplied by; see `Stepping`.

    Parameters
    ----------
    per_epoch, epochs : int
        Steps of an epoch, and how many epochs a trial has at most.

    Examples
    --------
    >>> [round(factor(Stepping("cosine", warmup=1.0), t, 2, 3), 3) for t in range(6)]
    [0.5, 1.0, 1.0, 0.854, 0.5, 0.146]
    """
    total, warm = per_epoch * epochs, round(of.warmup * per_epoch)
    if step < warm:
        return (step + 1) / warm
    progress = min((step - warm) / max(total - warm, 1), 1.0)
    if of.schedule.startswith(OWN_LOSS):
        return own(of.schedule.removeprefix(OWN_LOSS))(step - warm, max(total - warm, 1))
    match of.schedule:
        case "linear":
            return 1 - progress
        case "cosine":
            return (1 + math.cos(math.pi * progress)) / 2
        case "exponential":
            return of.decay ** ((step - warm) / per_epoch)
        case "step":
            return of.decay ** (step // per_epoch // of.decay_epochs)
    return 1.0
