"""One fit of one group: what becomes of it, and the state that it pauses with."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from torch import Tensor

from gradbase.ir.learning import Fit
from gradbase.runtime.groups.ragged import steps_of
from gradbase.runtime.groups.rows import Group
from gradbase.runtime.train.networks import MlpShape

Rows = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


class State(NamedTuple):
    """All that the rest of a member's training depends on, besides its epochs so far.

    Parameters
    ----------
    steps : int
        That the optimiser has taken.
    rows : dict of str to Tensor[width]
        Weights and the optimiser's slots in the layout of the member's common shape.
    """

    steps: int
    rows: dict[str, Tensor]


@dataclass
class Member:
    """One fit of one group, and what becomes of it.

    `shape` is that of its network by itself. Losses are those of the network's own targets.
    `rates` are the learning rates at the end of epochs (None where no steps are taken).
    `until` is how many epochs it is to have had at the end of its leg, which begins with the state
    that trial `start` had after as many epochs (0: the first weights); `state` is that while the
    leg begins or ends. `stop` is the wish that it ends with its epoch.
    `outputs` are the network's on the evaluation rows (training rows where there are none) and the
    test rows at the end of its leg, float64[rows, outputs], `metrics` what follows from them;
    `error` says why it failed, `traceback` where something raised.
    """

    group: Group
    fit: Fit
    shape: MlpShape
    until: int
    train_losses: list[float] = field(default_factory=list)
    eval_losses: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    rates: list[float | None] = field(default_factory=list)
    layers: list[Tensor] = field(default_factory=list)
    outputs: Floats | None = None
    tested: Floats | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    test_metrics: dict[str, float] = field(default_factory=dict)
    error: str = ""
    traceback: str | None = None
    start: int = 0
    state: State | None = None
    stop: bool = False

    @property
    def steps(self) -> int:
        """Of an epoch."""
        return steps_of(self.group, self.fit.batch_size)

    @property
    def epochs(self) -> int:
        """That it has had."""
        return len(self.train_losses)

    @property
    def measured(self) -> Rows:
        """The rows that its metrics are of."""
        parts = self.group.parts
        return parts.eval if len(parts.eval) else parts.train

    @property
    def losses(self) -> list[float]:
        """Those that decide when it stops."""
        return self.eval_losses or self.train_losses

    @property
    def has_ended(self) -> bool:
        """Whether no leg takes it further."""
        done = self.epochs >= self.fit.epochs
        return bool(self.error) or self.stop or done or self.has_converged

    def go_back(self, epochs: int, state: State | None) -> None:
        """As it was after so many epochs, where its leg begins."""
        for values in (self.train_losses, self.eval_losses, self.seconds):
            del values[epochs:]
        self.error, self.state = "", state

    @property
    def has_converged(self) -> bool:
        """See `Outcome.converged`."""
        if not self.fit.early_stop:
            return False
        return waited(self.losses, self.fit.min_rel_progress)[1] >= self.fit.patience


def waited(losses: Sequence[float], min_rel_progress: float) -> tuple[float, int]:
    """The loss that others are compared with, and the epochs in a row that did not improve it.

    Examples
    --------
    >>> waited([1.0, 0.5, 0.499, 0.5], 0.01)
    (0.5, 2)
    """
    best, count = math.inf, 0
    for loss in losses:
        if math.isfinite(best) and best - loss < min_rel_progress * abs(best):
            count += 1
        else:
            best, count = loss, 0
    return best, count
