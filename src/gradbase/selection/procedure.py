"""What a search procedure is: it names the trials, and says at epoch ends which go on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

Configuration = Mapping[str, object]
"""Hyper-parameter names and values of one trial."""


@dataclass(frozen=True)
class EpochResult:
    """What is known of a trial at the end of an epoch.

    Parameters
    ----------
    trial, epoch : int
        Both from 1.
    train_loss : float
        Mean over the epoch's rows.
    eval_loss : float or None
        Of the state at the epoch's end; None where nothing is held out.
    value : float
        The search's metric, on the evaluation rows (training rows where nothing is held out).
    minimised : bool
        Whether less of `value` is better.
    """

    trial: int
    epoch: int
    train_loss: float
    eval_loss: float | None
    value: float
    minimised: bool


class Procedure(Protocol):
    """A way to search. Made with (space, trials or None, seed); depends on nothing else."""

    def configurations(self) -> list[Configuration]:
        """One configuration per trial, in order of trial numbers."""
        ...

    def decide(self, results: Sequence[EpochResult]) -> frozenset[int]:
        """The trials of `results` (in trial order, one group's epoch) that go on."""
        ...
