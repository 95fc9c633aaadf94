"""How the steps of gradient descent change while a trial trains."""

from __future__ import annotations

from gradbase.ir.node import Node, node

CONSTANT = "constant"
SCHEDULES = (CONSTANT, "linear", "cosine", "exponential", "step")
OF_CLASSES, OF_NUMBERS = ("cross_entropy", "focal"), (
    "squared_error", "absolute_error", "huber", "log_cosh",
)  # fmt: skip
LOSSES = (*OF_CLASSES, *OF_NUMBERS)
"""Losses by name; the first of each kind is what trains where none is named."""
OWN_LOSS = "python:"
"""What the name of a user's own function begins with: ``python:module:function``."""


@node
class Stepping(Node):
    """The learning rate of step t of T is the optimiser's times a factor.

    During the first `warmup` epochs (w steps) it is (t + 1) / w. Behind them, with
    p = (t - w) / (T - w): ``constant`` 1; ``linear`` 1 - p; ``cosine`` (1 + cos(pi p)) / 2;
    ``exponential`` `decay` to the power of epochs since then; ``step`` `decay` to the power of
    whole `decay_epochs` since the beginning; ``python:…`` a user's function of t - w and T - w.
    Gradients whose norm is above `clip_norm` are scaled down to it; 0: none are.
    """

    schedule: str = CONSTANT
    warmup: float = 0.0
    decay: float = 0.1
    decay_epochs: int = 10
    clip_norm: float = 0.0

    @property
    def is_scheduled(self) -> bool:
        """Whether the factor is not always 1."""
        return self.schedule != CONSTANT or self.warmup > 0
