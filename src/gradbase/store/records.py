"""What a search hands to the store: a model version with all its trials."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from numpy.typing import NDArray

from gradbase.ir.learning import Model

SUCCEEDED, FAILED, STOPPED = "SUCCEEDED", "FAILED", "STOPPED"


@dataclass(frozen=True)
class EpochRecord:
    """One epoch of a trial. `epoch` counts from 0, `seconds` of training and validation."""

    epoch: int
    train_loss: float | None
    eval_loss: float | None
    metrics: Mapping[str, float] = field(default_factory=dict)
    learn_rate: float | None = None
    seconds: float | None = None


@dataclass(frozen=True)
class TrialRecord:
    """One configuration and what became of it.

    Parameters
    ----------
    trial : int
        From 1.
    status : str
        ``SUCCEEDED``, ``FAILED`` or ``STOPPED``.
    configuration : mapping
        The tuned hyper-parameters (JSON values).
    metrics : mapping
        On the evaluation rows.
    test_metrics : mapping
        On the test rows, where there are some.
    error : str, optional
        Why the trial failed.
    model : Model, optional
        Its program; None where it failed.
    params : mapping
        Hash -> array of the program's `Param`s that may not be in the store yet.
    """

    trial: int
    status: str
    configuration: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    train_loss: float | None = None
    eval_loss: float | None = None
    error: str | None = None
    epochs: tuple[EpochRecord, ...] | list[EpochRecord] = ()
    model: Model | None = None
    params: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    test_metrics: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class ModelRecord:
    """A version of a model: what was asked, what it came from and all trials.

    Parameters
    ----------
    query, sql : str
        The training query, and the whole statement.
    options : mapping
        All options with their values (JSON).
    relation_hash : str
        Hash of the content of the training rows.
    code_version : str
        Of gradbase, and of the user's function where there is one.
    metric, best_trial
        What the trials were compared by (``loss`` is the evaluation loss), and which won.
    created : datetime, UTC
    """

    name: str
    model_type: str
    task: str
    label: str
    query: str
    options: Mapping[str, Any]
    seed: int
    relation_hash: str
    code_version: str
    engine: str
    trials: tuple[TrialRecord, ...] | list[TrialRecord]
    metric: str
    best_trial: int
    sql: str = ""
    created: datetime = field(default_factory=lambda: datetime.now(UTC))

    def trial(self, number: int) -> TrialRecord:
        """The trial of that number."""
        return next(t for t in self.trials if t.trial == number)
